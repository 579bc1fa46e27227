# SPDX-License-Identifier: Apache-2.0
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fedmill_shared.crypto.keys import key_id, make_key, public_bytes, read_key, write_key
from fedmill_shared.errors import IdentityError, StoreError

Nobody = Callable[[], AbstractContextManager[None]]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestNames:
    def test_key_id(self) -> None:
        """Literal: it stands in messages and in the coordinator's database."""
        assert key_id(bytes(range(32))) == "630dcd2966c43366"

    def test_keys_differ(self) -> None:
        """Each from fresh randomness."""
        assert len({public_bytes(make_key()) for _ in range(8)}) == 8


class TestWriting:
    def test_round_trip(self, tmp_path: Path) -> None:
        """The same key, in one file."""
        key = make_key()
        write_key(tmp_path / "key.pem", key)
        assert public_bytes(read_key(tmp_path / "key.pem")) == public_bytes(key)
        assert _names(tmp_path) == ["key.pem"]

    @pytest.mark.parametrize("mask", [0o000, 0o077])
    def test_for_its_owner_only(self, tmp_path: Path, mask: int) -> None:
        """Whatever the process lets others do with its files."""
        before = os.umask(mask)
        try:
            write_key(tmp_path / "key.pem", make_key())
        finally:
            os.umask(before)
        assert _mode(tmp_path / "key.pem") == 0o600

    def test_from_its_first_byte_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody can open the file while it is written and read it later."""
        seen = []
        real = os.fsync

        def look(handle: int) -> None:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
            real(handle)

        monkeypatch.setattr(os, "fsync", look)
        write_key(tmp_path / "key.pem", make_key())
        assert seen == [0o600]

    def test_in_place_of_one_that_others_could_read(self, tmp_path: Path) -> None:
        """The new file has its own mode."""
        path = tmp_path / "key.pem"
        path.touch(0o644)
        write_key(path, make_key())
        assert _mode(path) == 0o600

    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        """What somebody else laid there neither gets the key nor loses its own content."""
        trap = tmp_path / "trap"
        trap.write_text("theirs")
        path = tmp_path / "key.pem"
        path.symlink_to(trap)
        (tmp_path / f".key.pem.{os.getpid()}.tmp").symlink_to(trap)
        write_key(path, make_key())
        assert trap.read_text() == "theirs"
        assert not path.is_symlink()
        assert _names(tmp_path) == ["key.pem", "trap"]

    def test_no_folder(self, tmp_path: Path) -> None:
        """One error with a remedy."""
        with pytest.raises(StoreError, match=r"key\.pem: cannot be written") as caught:
            write_key(tmp_path / "none" / "key.pem", make_key())
        assert "free space" in caught.value.remedy

    def test_a_folder_of_somebody_else(self, tmp_path: Path, as_nobody: Nobody) -> None:
        """The old key stays."""
        write_key(tmp_path / "key.pem", make_key())
        before = (tmp_path / "key.pem").read_bytes()
        tmp_path.chmod(0o755)
        with as_nobody(), pytest.raises(StoreError):
            write_key(tmp_path / "key.pem", make_key())
        assert (tmp_path / "key.pem").read_bytes() == before


class TestReading:
    def test_none(self, tmp_path: Path) -> None:
        """Named, with what to do."""
        with pytest.raises(IdentityError, match=r"key\.pem: the key cannot be read") as caught:
            read_key(tmp_path / "key.pem")
        assert "enrol again" in caught.value.remedy

    def test_of_somebody_else(self, tmp_path: Path, as_nobody: Nobody) -> None:
        """The mode is what keeps it."""
        write_key(tmp_path / "key.pem", make_key())
        tmp_path.chmod(0o755)
        tmp_path.parent.chmod(0o755)
        with as_nobody(), pytest.raises(IdentityError, match="Permission denied"):
            read_key(tmp_path / "key.pem")

    @pytest.mark.parametrize("data", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
    def test_damaged(self, tmp_path: Path, data: bytes) -> None:
        """A power cut under another program, or the wrong file."""
        (tmp_path / "key.pem").write_bytes(data)
        with pytest.raises(IdentityError, match="no private key in PEM"):
            read_key(tmp_path / "key.pem")

    def test_cut_short(self, tmp_path: Path) -> None:
        """Half of a key is none."""
        write_key(tmp_path / "key.pem", make_key())
        data = (tmp_path / "key.pem").read_bytes()
        (tmp_path / "key.pem").write_bytes(data[: len(data) // 2])
        with pytest.raises(IdentityError, match="no private key in PEM"):
            read_key(tmp_path / "key.pem")

    @pytest.mark.parametrize(
        "key", [ec.generate_private_key(ec.SECP256R1()), x25519.X25519PrivateKey.generate()]
    )
    def test_another_kind(
        self, tmp_path: Path, key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey
    ) -> None:
        """Ed25519 and no other."""
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / "key.pem").write_bytes(pem)
        with pytest.raises(IdentityError, match="no Ed25519 key"):
            read_key(tmp_path / "key.pem")

    def test_under_a_password(self, tmp_path: Path) -> None:
        """Nobody is there to type it."""
        pem = make_key().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        (tmp_path / "key.pem").write_bytes(pem)
        with pytest.raises(IdentityError, match="no private key in PEM"):
            read_key(tmp_path / "key.pem")

    def test_the_public_half(self, tmp_path: Path) -> None:
        """It is no key to sign with."""
        public = make_key().public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "key.pem").write_bytes(pem)
        with pytest.raises(IdentityError, match="no private key in PEM"):
            read_key(tmp_path / "key.pem")
