# SPDX-License-Identifier: Apache-2.0
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fedmill_shared.errors import StoreError
from fedmill_shared.files import is_held, make_folder, sha256, state_folder, write_atomic

Nobody = Callable[[], AbstractContextManager[None]]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class TestWriteAtomic:
    @pytest.mark.parametrize("data", [b"", b"new", bytearray(b"new"), memoryview(b"new")])
    def test_replaces(self, tmp_path: Path, data: bytes | bytearray | memoryview) -> None:
        """The new bytes, and no file beside them."""
        path = tmp_path / "file"
        path.write_bytes(b"old and longer")
        write_atomic(path, data)
        assert path.read_bytes() == bytes(data)
        assert _names(tmp_path) == ["file"]

    def test_readers_see_the_old_or_the_new(self, tmp_path: Path) -> None:
        """Who has the old file open goes on reading the old bytes."""
        path = tmp_path / "file"
        write_atomic(path, b"old")
        with path.open("rb") as reader:
            write_atomic(path, b"new")
            assert reader.read() == b"old"
        assert path.read_bytes() == b"new"

    def test_data_is_on_the_disk_before_its_name_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """File, name, folder, in this order: else a power cut could leave an empty file."""
        calls: list[str] = []
        real_sync, real_replace = os.fsync, Path.replace

        def sync(handle: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
            calls.append("folder" if is_folder else f"file of {os.fstat(handle).st_size}")
            real_sync(handle)

        def replace(self: Path, target: Path) -> Path:
            calls.append(f"rename to {target.name}")
            return real_replace(self, target)

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", replace)
        write_atomic(tmp_path / "file", b"new")
        assert calls == ["file of 3", "rename to file", "folder"]

    def test_full_disk(self, tmp_path: Path) -> None:
        """A process that may write 1000 bytes writes 2000: the old file stays, nothing beside it.

        The limit on the size of files fails in ``write`` as a full disk does.
        """
        path = tmp_path / "file"
        path.write_bytes(b"old")
        code = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from fedmill_shared.errors import StoreError\n"
            "from fedmill_shared.files import write_atomic\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try: write_atomic(Path(sys.argv[1]), bytes(2000))\n"
            "except StoreError as error: print(error)"
        )
        child = subprocess.run(
            [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
        )
        assert child.stdout == (
            f"{path}: cannot be written: File too large "
            "(check free space and that the folder belongs to the service user)\n"
        )
        assert path.read_bytes() == b"old"
        assert _names(tmp_path) == ["file"]

    def test_no_permission(self, tmp_path: Path, as_nobody: Nobody) -> None:
        """A read-only folder, and one that may not even be looked into."""
        folder = tmp_path / "state"
        folder.mkdir()
        write_atomic(folder / "file", b"old")
        for mode in (0o500, 0o000):
            folder.chmod(mode)
            with as_nobody(), pytest.raises(StoreError, match="file: cannot be written: Perm"):
                write_atomic(folder / "file", b"new")
        folder.chmod(0o700)
        assert (folder / "file").read_bytes() == b"old"
        assert _names(folder) == ["file"]

    @pytest.mark.parametrize("place", ["missing/file", "other/file", "x" * 256])
    def test_impossible_place(self, tmp_path: Path, place: str) -> None:
        """No folder, a file where the folder should be, a name too long: always a StoreError."""
        (tmp_path / "other").touch()
        with pytest.raises(StoreError, match="cannot be written"):
            write_atomic(tmp_path / place, b"new")
        assert _names(tmp_path) == ["other"]

    def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        """The rename fails last; the temporary file goes too."""
        (tmp_path / "file").mkdir()
        with pytest.raises(StoreError, match="file: cannot be written: Is a directory"):
            write_atomic(tmp_path / "file", b"new")
        assert _names(tmp_path) == ["file"]


class TestMakeFolder:
    def test_for_the_owner_only(self, tmp_path: Path) -> None:
        """Made with its parents; making it again is no error."""
        path = tmp_path / "a" / "b"
        assert make_folder(path) == make_folder(path) == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700

    def test_parents_are_the_owners_too(self, tmp_path: Path) -> None:
        """`fedmill ca init` makes `pki` below the state folder: the state is nobody else's then."""
        make_folder(tmp_path / "state" / "pki")
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700

    def test_below_a_file(self, tmp_path: Path) -> None:
        """The message names the place, the reason and the remedy."""
        (tmp_path / "file").touch()
        for path in (tmp_path / "file", tmp_path / "file" / "state"):
            with pytest.raises(StoreError, match=r"cannot be created: .*\(choose another state"):
                make_folder(path)

    def test_not_ours(self, tmp_path: Path, as_nobody: Nobody) -> None:
        """A folder that exists but cannot be written is refused at the start, not at night."""
        path = tmp_path / "state"
        path.mkdir(mode=0o500)
        with as_nobody(), pytest.raises(StoreError, match=r"\(chown it|cannot be created"):
            make_folder(path)


class TestSha256:
    def test_of_abc(self) -> None:
        """FIPS 180-2, appendix B.1."""
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert {sha256(kind(b"abc")) for kind in (bytes, bytearray, memoryview)} == {digest}


class TestHeld:
    def test_while_a_daemon_runs(self, tmp_path: Path) -> None:
        """And not before or after; nothing is made by looking."""
        folder = tmp_path / "state"
        assert not is_held(folder)
        assert not folder.exists()
        with state_folder(folder, "agent"):
            assert is_held(folder)
            assert is_held(folder)
        assert not is_held(folder)
        with state_folder(folder, "agent"):
            assert is_held(folder)
