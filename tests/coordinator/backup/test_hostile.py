# SPDX-License-Identifier: Apache-2.0
"""A backup that somebody made to do harm, or that does not fit: nothing changes."""

import gzip
import io
import os
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from tests.coordinator.backup.kit import CONFIG, MARK, elsewhere, packed

from fedmill_coordinator.backup import applying, manifest, reading, restoring
from fedmill_coordinator.backup.manifest import Manifest, Member, Place
from fedmill_coordinator.backup.reading import manifest_of, unpack
from fedmill_coordinator.backup.restoring import restore
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256

Entry = Callable[[], tarfile.TarInfo]


def made(*members: Member) -> Manifest:
    """What such a file says of itself."""
    return Manifest(
        format=1, made_ns=1, software="1", coordinator="c", keys=False, members=[*members]
    )


def member(path: str, data: bytes = b"x", place: Place = "state") -> Member:
    """A file in it."""
    return Member(place, path, len(data), sha256(data))


def machine(tmp_path: Path) -> Path:
    """The configuration of one that has nothing else."""
    path = elsewhere(tmp_path)
    path.write_text(CONFIG)
    return path


def refused(backup: Path, path: Path, match: str, *, replace: bool = False) -> None:
    """It is not restored, and the state folder has nothing but its lock."""
    with pytest.raises(StoreError, match=match):
        restore(backup, path, replace=replace, mark=MARK)
    state = path.parent / "state"
    assert not state.exists() or [each.name for each in state.iterdir()] == ["lock"]


class TestNames:
    @pytest.mark.parametrize(
        "path",
        [
            ".restore-plan.json",
            ".restoring/state/x",
            "lock",
            "replaced-1/x",
            "pki/.hidden",
            "spool/x",
            ".",
        ],
    )
    def test_what_no_backup_has(self, tmp_path: Path, path: str) -> None:
        """A plan of its own would be carried out by the next start, wherever it leads."""
        backup = packed(
            tmp_path,
            [
                (manifest.NAME, msgspec.json.encode(made(member(path)))),
                (f"state/{path}", b"x"),
            ],
        )
        refused(backup, machine(tmp_path), "no backup holds")

    def test_a_place_that_cannot_be_written(self, backup: Path, tmp_path: Path) -> None:
        """It is found before anything is moved, and not after."""
        path = machine(tmp_path)
        (path.parent / "jobs").write_text("a file where the folder should be")
        refused(backup, path, "jobs/press.toml: cannot be written by this user")


def _extended() -> tarfile.TarInfo:
    entry = tarfile.TarInfo("state/x")
    entry.size, entry.pax_headers = 1, {"comment": "x" * 100_000}
    return entry


def _long() -> tarfile.TarInfo:
    entry = tarfile.TarInfo("state/" + "x" * 100_000)
    entry.size = 1
    return entry


def _sparse() -> tarfile.TarInfo:
    entry = tarfile.TarInfo("state/x")
    entry.size = 1
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return entry


def _of(kind: bytes) -> Entry:
    def entry() -> tarfile.TarInfo:
        found = tarfile.TarInfo("state/x")
        found.type, found.linkname = kind, "/etc/passwd"
        return found

    return entry


class TestHeads:
    @pytest.mark.parametrize(
        ("entry", "layout"),
        [
            (_extended, tarfile.PAX_FORMAT),
            (_sparse, tarfile.PAX_FORMAT),
            (_long, tarfile.GNU_FORMAT),
            (_of(tarfile.SYMTYPE), tarfile.GNU_FORMAT),
            (_of(tarfile.LNKTYPE), tarfile.GNU_FORMAT),
            (_of(tarfile.DIRTYPE), tarfile.GNU_FORMAT),
            (_of(tarfile.FIFOTYPE), tarfile.GNU_FORMAT),
            (_of(tarfile.CHRTYPE), tarfile.GNU_FORMAT),
            (_of(tarfile.GNUTYPE_SPARSE), tarfile.GNU_FORMAT),
        ],
    )
    def test_only_files(self, tmp_path: Path, entry: Entry, layout: int) -> None:
        """Links lead out; other heads are as long as they say, and would be read into memory."""
        path = tmp_path / "hostile.tar.gz"
        told = msgspec.json.encode(made(member("x")))
        with tarfile.open(path, "w:gz", format=layout) as archive:
            first = tarfile.TarInfo(manifest.NAME)
            first.size = len(told)
            archive.addfile(first, io.BytesIO(told))
            archive.addfile(entry(), io.BytesIO(b"x"))
        refused(path, machine(tmp_path), "is no plain file")

    def test_names_of_names(self, tmp_path: Path) -> None:
        """However many there are without a file."""
        entry = tarfile.TarInfo("././@LongLink")
        entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 512
        path = tmp_path / "hostile.tar.gz"
        path.write_bytes(gzip.compress((entry.tobuf(tarfile.GNU_FORMAT) + b"x" * 512) * 3000))
        refused(path, machine(tmp_path), "is no backup, or is damaged")

    @pytest.mark.parametrize("length", range(1, 12))
    def test_hardly_begun(self, backup: Path, tmp_path: Path, length: int) -> None:
        """As a full disk may leave it."""
        backup.write_bytes(backup.read_bytes()[:length])
        refused(backup, machine(tmp_path), "is no backup, or is damaged")


class TestSizes:
    def test_more_than_there_is_room_for(self, tmp_path: Path) -> None:
        """It says so itself: nothing is unpacked, and no disk filled."""
        huge = structs.replace(member("x"), size=1 << 60)
        backup = packed(tmp_path, [(manifest.NAME, msgspec.json.encode(made(huge)))])
        refused(backup, machine(tmp_path), "MB are to be unpacked")

    def test_more_than_it_says(self, tmp_path: Path) -> None:
        """No byte more is written."""
        told = msgspec.json.encode(made(member("x")))
        backup = packed(tmp_path, [(manifest.NAME, told), ("state/x", bytes(1 << 20))])
        refused(backup, machine(tmp_path), "1048576 bytes, not 1")

    def test_a_disk_that_fills_meanwhile(
        self, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was unpacked goes again: the coordinator needs the room."""

        def full(*_: object) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(reading, "_write", full)
        refused(backup, machine(tmp_path), "No space left")

    def test_a_configuration_of_that_size(self, tmp_path: Path) -> None:
        """It is looked at before anything is unpacked, in memory."""
        data = b"#" * (reading.LARGEST_CONFIG + 1)
        told = msgspec.json.encode(made(member("coordinator.toml", data, "config")))
        backup = packed(tmp_path, [(manifest.NAME, told), ("config/coordinator.toml", data)])
        refused(backup, elsewhere(tmp_path), "coordinator.toml has 1048577 bytes")


def test_a_file_that_is_exchanged_while_it_is_read(backup: Path, tmp_path: Path) -> None:
    """What is unpacked is what was judged."""
    before = structs.replace(manifest_of(backup), made_ns=7)
    with pytest.raises(StoreError, match="changed while it was read"):
        unpack(backup, before, lambda _: tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("INSERT INTO schema_version (version) VALUES (99)", "tables of version 99, this fedmill"),
        ("DROP TABLE schema_version", "no database that can be read"),
        ("DELETE FROM schema_version", "tables of version None"),
    ],
)
def test_tables_of_another_version(config: Path, tmp_path: Path, statement: str, told: str) -> None:
    """The coordinator would not start with them; what there was would be gone."""
    database = config.parent / "state" / "fedmill.sqlite"
    with closing(sqlite3.connect(database)) as rows:
        rows.execute("PRAGMA journal_mode=DELETE")
        with rows:
            rows.execute(statement)
    data = database.read_bytes()
    told_of = msgspec.json.encode(made(member("fedmill.sqlite", data)))
    backup = packed(tmp_path, [(manifest.NAME, told_of), ("state/fedmill.sqlite", data)])
    refused(backup, machine(tmp_path), told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
class TestRoot:
    def test_gives_all_to_the_owner_of_the_state_folder(self, backup: Path, tmp_path: Path) -> None:
        """Also the folders that it makes: the daemon must come through them, and take its lock."""
        path = machine(tmp_path)
        state = path.parent / "state"
        state.mkdir()
        os.chown(state, 4711, 4711)
        restore(backup, path, replace=False, mark=MARK)
        found = {each: each.stat().st_uid for each in path.parent.rglob("*")}
        assert {each for each, owner in found.items() if owner != 4711} == {path}
        assert path.parent / "jobs" in found
        assert state / "lock" in found

    def test_carries_out_no_plan_of_the_daemons_user(self, backup: Path, tmp_path: Path) -> None:
        """It could name any place of the machine."""
        path, victim = machine(tmp_path), tmp_path / "victim"
        state = path.parent / "state"
        (state / applying.STAGE).mkdir(parents=True)
        (state / applying.STAGE / "x").write_text("harm")
        plan = applying.Plan([], "", {"x": str(victim)})
        (state / applying.PLAN).write_bytes(msgspec.json.encode(plan))
        os.chown(state / applying.PLAN, 4711, 4711)
        with pytest.raises(StoreError, match="was not written by root"):
            restore(backup, path, replace=False, mark=MARK)
        assert not victim.exists()

    def test_is_led_nowhere_by_a_link(self, backup: Path, tmp_path: Path) -> None:
        """That stands where everything is unpacked."""
        path, elsewhere_ = machine(tmp_path), tmp_path / "etc"
        elsewhere_.mkdir()
        (elsewhere_ / "passwd").write_text("root")
        state = path.parent / "state"
        state.mkdir()
        os.chown(state, 4711, 4711)
        (state / applying.STAGE).symlink_to(elsewhere_)
        restore(backup, path, replace=False, mark=MARK)
        assert [each.name for each in elsewhere_.iterdir()] == ["passwd"]
        assert (elsewhere_ / "passwd").stat().st_uid == 0


def test_nothing_of_it_is_believed_before(backup: Path) -> None:
    """The names are judged before anything else is done."""
    assert restoring._manifest(backup) == manifest_of(backup)
