# SPDX-License-Identifier: Apache-2.0
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.store import blobs as module
from fedmill_coordinator.store.blobs import Blobs
from fedmill_shared.errors import StoreError

# sha256sum of the three bytes "abc", from FIPS 180-2.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty folder of blobs."""
    return Blobs(tmp_path / "blobs")


class TestPutAndGet:
    def test_name_and_place(self, blobs: Blobs) -> None:
        """A blob is called by its SHA-256 and lies in the folder of its first two digits."""
        assert blobs.put(b"abc") == ABC
        assert (blobs.folder / "ba" / ABC).read_bytes() == b"abc"
        assert blobs.get(ABC, 3) == b"abc"
        assert blobs.has(ABC)
        assert blobs.size(ABC) == 3
        assert blobs.names() == [ABC]

    @pytest.mark.parametrize(
        "data",
        [b"", bytearray(b"ab"), memoryview(b"abc")],
        ids=["empty", "bytearray", "memoryview"],
    )
    def test_any_bytes(self, blobs: Blobs, data: bytes | bytearray | memoryview) -> None:
        """Empty, mutable and borrowed bytes come back as bytes."""
        assert blobs.get(blobs.put(data), 3) == bytes(data)

    def test_opens_lazily(self, blobs: Blobs) -> None:
        """Nothing is created before the first blob, and asking finds nothing."""
        assert not blobs.has(ABC)
        assert blobs.names() == []
        assert blobs.prune(set()) == 0
        assert not blobs.folder.exists()

    def test_same_data_is_written_once(self, blobs: Blobs) -> None:
        """A blob that is there is left as it is."""
        path = blobs.folder / "ba" / blobs.put(b"abc")
        before = path.stat()
        blobs.put(b"abc")
        assert path.stat().st_ino == before.st_ino

    def test_put_heals_a_damaged_blob(self, blobs: Blobs) -> None:
        """Storing the same data again replaces what the disk lost."""
        path = blobs.folder / "ba" / blobs.put(b"abc")
        path.write_bytes(b"axc")
        blobs.put(b"abc")
        assert blobs.get(ABC, 3) == b"abc"

    def test_new_folders_are_made_durable(
        self, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The entry of each new folder is synced in its parent, once."""
        synced: list[Path] = []
        monkeypatch.setattr(module, "_sync", synced.append)
        blobs.put(b"abc")
        blobs.put(b"abc")
        assert synced == [blobs.folder.parent, blobs.folder]


class TestAdopt:
    def test_moves_the_file(self, blobs: Blobs, tmp_path: Path) -> None:
        """The very file, not a copy; where its blob lies is told before and after."""
        arrived = tmp_path / "arrived"
        arrived.write_bytes(b"abc")
        number = arrived.stat().st_ino
        assert blobs.path(ABC) == blobs.folder / "ba" / ABC
        blobs.adopt(arrived, ABC)
        assert not arrived.exists()
        assert blobs.get(ABC, 3) == b"abc"
        assert blobs.path(ABC).stat().st_ino == number

    def test_heals_a_damaged_blob(self, blobs: Blobs, tmp_path: Path) -> None:
        """What is there already is replaced."""
        blobs.path(blobs.put(b"abc")).write_bytes(b"axc")
        (tmp_path / "arrived").write_bytes(b"abc")
        blobs.adopt(tmp_path / "arrived", ABC)
        assert blobs.get(ABC, 3) == b"abc"

    def test_is_durable(
        self, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The entry of each new folder, and at last that of the blob."""
        synced: list[Path] = []
        monkeypatch.setattr(module, "_sync", synced.append)
        (tmp_path / "arrived").write_bytes(b"abc")
        blobs.adopt(tmp_path / "arrived", ABC)
        assert synced == [blobs.folder.parent, blobs.folder, blobs.folder / "ba"]

    def test_nothing_to_adopt(self, blobs: Blobs, tmp_path: Path) -> None:
        """A file that is not there is an error that names it."""
        with pytest.raises(StoreError, match=r"gone: cannot be moved to .*No such file"):
            blobs.adopt(tmp_path / "gone", ABC)
        assert not blobs.has(ABC)


class TestFaults:
    @pytest.mark.parametrize("content", [b"axc", b"ab", b""], ids=repr)
    def test_damage_is_told(self, blobs: Blobs, content: bytes) -> None:
        """A changed, cut or emptied file is an error that names it, never data."""
        path = blobs.folder / "ba" / blobs.put(b"abc")
        path.write_bytes(content)
        with pytest.raises(StoreError, match="damaged") as caught:
            blobs.get(ABC, 3)
        assert str(path) in str(caught.value)

    def test_limit_comes_before_reading(self, blobs: Blobs) -> None:
        """A sparse file of a terabyte is refused without being read."""
        path = blobs.folder / "ba" / blobs.put(b"abc")
        os.truncate(path, 2**40)
        with pytest.raises(StoreError, match="1099511627776 bytes, at most 3 are allowed"):
            blobs.get(ABC, 3)

    def test_missing(self, blobs: Blobs) -> None:
        """Reading or measuring what is not there is an error; deleting it is none."""
        for call in (lambda: blobs.get(ABC, 3), lambda: blobs.size(ABC)):
            with pytest.raises(StoreError, match="cannot be read"):
                call()
        blobs.delete(ABC)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "abc",
            ABC.upper(),
            ABC + "\n",
            ABC + "0",
            "../" + ABC[3:],
            "/etc/passwd",
            "b\x00" * 32,
        ],
    )
    def test_foreign_names_are_refused(self, blobs: Blobs, name: str) -> None:
        """Only 64 lower-case hexadecimal digits reach the file system."""
        blobs.put(b"abc")
        calls = (
            blobs.has,
            blobs.size,
            blobs.delete,
            blobs.path,
            lambda each: blobs.get(each, 3),
            lambda each: blobs.adopt(blobs.folder, each),
        )
        for call in calls:
            with pytest.raises(StoreError, match="is not the name of a blob"):
                call(name)

    @given(st.text(max_size=70))
    def test_no_other_text_is_a_name(self, name: str) -> None:
        """Whatever a sender makes up stays outside."""
        with pytest.raises(StoreError, match="is not the name of a blob"):
            Blobs(Path("/nowhere")).has(name)

    def test_folder_that_is_a_file(self, tmp_path: Path) -> None:
        """A state folder that cannot be one is told in words."""
        (tmp_path / "blobs").write_text("")
        with pytest.raises(StoreError, match="folder cannot be created"):
            Blobs(tmp_path / "blobs").put(b"abc")

    def test_folder_that_cannot_be_synced(
        self, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that fails at the sync is told, not passed over."""

        def fail(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="cannot be written to disk: Input/output error"):
            blobs.put(b"abc")
        assert not blobs.has(ABC)


class TestRemoval:
    def test_delete(self, blobs: Blobs) -> None:
        """A deleted blob is gone; the others stay."""
        other = blobs.put(b"other")
        blobs.delete(blobs.put(b"abc"))
        assert blobs.names() == [other]

    def test_prune_keeps_what_lives(self, blobs: Blobs) -> None:
        """Everything else goes, with the temporary files of a killed writer."""
        live, dead = blobs.put(b"live"), blobs.put(b"dead!")
        left = blobs.folder / dead[:2] / f".{dead}.123.tmp"
        left.write_bytes(b"half")
        assert blobs.prune({live, ABC}) == 9
        assert blobs.names() == [live]
        assert not left.exists()
        assert blobs.get(live, 4) == b"live"

    def test_what_cannot_be_removed_is_told(self, blobs: Blobs) -> None:
        """A folder in the place of a blob is an error that names it."""
        path = blobs.folder / "ba" / ABC
        path.mkdir(parents=True)
        with pytest.raises(StoreError, match="cannot be removed"):
            blobs.delete(ABC)


class TestReading:
    def test_each_is_told(self, tmp_path: Path) -> None:
        """Whoever must know that long work advances: also of a blob that is not there."""
        blobs, told = Blobs(tmp_path / "blobs"), []
        blobs.reading = lambda: told.append(1)
        name = blobs.put(b"abc")
        assert told == []
        blobs.get(name, 10)
        with pytest.raises(StoreError):
            blobs.get("0" * 64, 10)
        assert told == [1, 1]
