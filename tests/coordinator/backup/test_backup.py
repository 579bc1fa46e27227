# SPDX-License-Identifier: Apache-2.0
"""A coordinator is written to one file while it runs, and comes back whole or not at all."""

import os
import shutil
import sys
import tarfile
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.coordinator.backup.kit import (
    CONFIG,
    KEY,
    MARK,
    a_job,
    content,
    elsewhere,
    packed,
    written,
)

from fedmill_coordinator.backup import applying, manifest, snapshot
from fedmill_coordinator.backup.applying import finish
from fedmill_coordinator.backup.manifest import Manifest, Member
from fedmill_coordinator.backup.reading import manifest_of
from fedmill_coordinator.backup.restoring import restore
from fedmill_coordinator.config import load
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.files import make_folder, sha256, state_folder


class TestBackup:
    def test_comes_back_on_another_machine(
        self, config: Path, backup: Path, tmp_path: Path
    ) -> None:
        """With configuration, jobs, metadata and keys, where the configuration says."""
        done = restore(backup, elsewhere(tmp_path), replace=False, mark=MARK)
        assert content(tmp_path / "new") == content(config.parent)
        assert done.kept == []
        assert done.replaced is None

    def test_only_its_owner_reads_it(self, backup: Path, tmp_path: Path) -> None:
        """And what comes out of it."""
        assert backup.stat().st_mode & 0o777 == 0o600
        restore(backup, elsewhere(tmp_path), replace=False, mark=MARK)
        for path in (tmp_path / "new").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0 or path.is_dir()

    def test_keys_only_where_they_are_wanted(self, config: Path, tmp_path: Path) -> None:
        """No private key is in it otherwise, wherever it lies in the state folder."""
        (config.parent / "state" / "old-copy.txt").write_text(KEY)
        out = tmp_path / "plain.tar.gz"
        made = written(config, out).manifest
        assert not made.keys
        with tarfile.open(out) as archive:
            everything = b"".join(
                file.read() for each in archive if (file := archive.extractfile(each)) is not None
            )
        assert b"PRIVATE KEY" not in everything
        assert b"certificate" in everything

    def test_what_passes_is_left_out(self, backup: Path) -> None:
        """Locks, halves, and what agents send again."""
        names = {member.name for member in manifest_of(backup).members}
        assert not [each for each in names if "spool" in each or "lock" in each or "tmp" in each]

    def test_shows_one_moment(
        self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the daemon adds and deletes while the rows are copied: all that they name is in."""
        state = config.parent / "state"
        blobs, real = Blobs(state / "blobs"), snapshot._copy

        def meanwhile(source: Path, copy: Path) -> None:
            added = blobs.put(b"added")
            with SqlStore.in_file(state / "fedmill.sqlite") as store:
                store.add_job(a_job("added", added))
            real(source, copy)
            blobs.delete(sha256(b"template"))

        monkeypatch.setattr(snapshot, "_copy", meanwhile)
        made = written(config, tmp_path / "out.tar.gz")
        assert made.missing == []
        names = {member.sha256 for member in made.manifest.members}
        assert {sha256(b"added"), sha256(b"template")} <= names

    def test_lost_blobs_are_told(self, config: Path, tmp_path: Path) -> None:
        """The rest is worth a backup, too."""
        Blobs(config.parent / "state" / "blobs").delete(sha256(b"template"))
        assert written(config, tmp_path / "out.tar.gz").missing == [sha256(b"template")]

    def test_files_that_are_not_there_are_told(self, config: Path, tmp_path: Path) -> None:
        """A job file that somebody deleted is no reason for having none."""
        (config.parent / "jobs" / "press.toml").unlink()
        made = written(config, tmp_path / "out.tar.gz")
        assert [path.name for path in made.absent] == ["press.toml"]

    def test_damaged_database(self, config: Path, tmp_path: Path) -> None:
        """Is no backup; the one before stays."""
        out = tmp_path / "out.tar.gz"
        out.write_text("the one before")
        (config.parent / "state" / "fedmill.sqlite").write_bytes(b"x" * 10_000)
        with pytest.raises(StoreError):
            written(config, out)
        assert out.read_text() == "the one before"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tar.gz", "plant"]


class TestRestore:
    def test_not_while_the_coordinator_runs(
        self, config: Path, backup: Path, tmp_path: Path
    ) -> None:
        """Its state folder is held."""
        with (
            state_folder(config.parent / "state", "coordinator"),
            pytest.raises(StoreError, match="another coordinator is running"),
        ):
            restore(backup, config, replace=True, mark=MARK)

    def test_not_over_what_is_there(self, config: Path, backup: Path) -> None:
        """Unless that is wanted: then it is kept beside it."""
        before = content(config.parent)
        with pytest.raises(StoreError, match="is not empty"):
            restore(backup, config, replace=False, mark=MARK)
        assert content(config.parent) == before
        (config.parent / "state" / "pki" / "ca.pem").write_text("changed")
        done = restore(backup, config, replace=True, mark=MARK)
        assert content(config.parent) == before
        assert done.replaced is not None
        assert (done.replaced / "pki" / "ca.pem").read_text() == "changed"

    def test_what_is_replaced_goes_into_a_new_folder(self, config: Path, backup: Path) -> None:
        """Not into one of a restore in the same second, or that somebody has laid out for it."""
        before, there = content(config.parent), config.parent / "state" / f"replaced-{MARK}"
        (there / "pki").mkdir(parents=True)
        with pytest.raises(StoreError, match="is there already"):
            restore(backup, config, replace=True, mark=MARK)
        assert content(config.parent) == before
        assert [each.name for each in there.rglob("*")] == ["pki"]
        there.joinpath("pki").rmdir()
        there.rmdir()
        there.symlink_to(config.parent)
        with pytest.raises(StoreError, match="is there already"):
            restore(backup, config, replace=True, mark=MARK)

    def test_configuration_that_is_there_stays(self, backup: Path, tmp_path: Path) -> None:
        """A new machine may have another broker; it is told."""
        path = elsewhere(tmp_path)
        path.write_text(CONFIG + "[broker]\nport = 4711\n")
        done = restore(backup, path, replace=False, mark=MARK)
        assert done.kept == [path]
        assert load(path).broker.port == 4711
        assert (path.parent / "jobs" / "press.toml").exists()

    @pytest.mark.parametrize("place", range(0, 100, 7))
    def test_any_damage_is_found_before_anything_changes(
        self, config: Path, backup: Path, tmp_path: Path, place: int
    ) -> None:
        """A bit that flipped, anywhere."""
        data = bytearray(backup.read_bytes())
        data[len(data) * place // 100] ^= 0x10
        backup.write_bytes(data)
        path = elsewhere(tmp_path)
        path.write_text(CONFIG)
        state = path.parent / "state"
        try:
            restore(backup, path, replace=False, mark=MARK)
        except FedmillError:
            assert not state.exists() or applying.is_used(state) == []
        else:  # a byte of the archive that says nothing, as a time
            path.write_text(CONFIG)
            assert content(path.parent) == content(config.parent)

    def test_cut_off(self, backup: Path, tmp_path: Path) -> None:
        """As by a full disk."""
        backup.write_bytes(backup.read_bytes()[:-2000])
        path = elsewhere(tmp_path)
        with pytest.raises(StoreError):
            restore(backup, path, replace=False, mark=MARK)
        assert not (path.parent / "jobs").exists()

    @pytest.mark.parametrize(
        "member",
        [
            Member("state", "../../outside", 1, sha256(b"x")),
            Member("state", "/etc/passwd", 1, sha256(b"x")),
            Member("job", "a/../../b", 1, sha256(b"x")),
        ],
    )
    def test_paths_that_lead_out(self, tmp_path: Path, member: Member) -> None:
        """Are refused, whoever made the file."""
        made = Manifest(
            format=1, made_ns=1, software="1", coordinator="c", keys=False, members=[member]
        )
        path = packed(tmp_path, [(manifest.NAME, msgspec.json.encode(made)), (member.name, b"x")])
        with pytest.raises(StoreError, match="leads elsewhere"):
            restore(path, elsewhere(tmp_path), replace=False, mark=MARK)

    def test_more_than_the_manifest_says(self, backup: Path, tmp_path: Path) -> None:
        """Is not what was made."""
        with tarfile.open(backup) as archive:
            files = [
                (each.name, file.read())
                for each in archive
                if (file := archive.extractfile(each)) is not None
            ]
        path = packed(tmp_path, [*files, ("state/more", b"x")])
        with pytest.raises(StoreError, match="holds more"):
            restore(path, elsewhere(tmp_path), replace=False, mark=MARK)

    @pytest.mark.parametrize("data", [b"", b"no archive at all", b"\x1f\x8b" + b"x" * 100])
    def test_other_files(self, tmp_path: Path, data: bytes) -> None:
        """One error that names the file."""
        path = tmp_path / "other"
        path.write_bytes(data)
        with pytest.raises(StoreError, match="other"):
            restore(path, elsewhere(tmp_path), replace=False, mark=MARK)


class TestInterrupted:
    def test_given_again(
        self, config: Path, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the error says: the second one ends the first, and says that it did."""
        path = elsewhere(tmp_path)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(applying, "_place", full)
        with pytest.raises(StoreError, match="give the command again"):
            restore(backup, path, replace=False, mark=MARK)
        monkeypatch.undo()
        with pytest.raises(StoreError, match=r"was not at its end, and is now \(start the coord"):
            restore(backup, path, replace=False, mark=MARK)
        assert content(path.parent) == content(config.parent)


class TestKilled:
    """A process that ends at any of its effects on the disk, as by ``kill -9``."""

    def test_backup(self, config: Path, tmp_path: Path) -> None:
        """There is none, or a whole one; nothing is left when the next is made."""
        out = tmp_path / "out.tar.gz"
        for number in range(1, 500):
            over = _killed_at(number, lambda: written(config, out))
            if out.exists():
                new = tmp_path / f"new-{number}"
                new.mkdir()
                restore(out, new / "coordinator.toml", replace=False, mark=MARK)
                out.unlink()
            if over:
                break
        assert number > 10
        written(config, out)
        assert [path.name for path in tmp_path.glob(".*")] == []
        assert list((config.parent / "state").glob(".backup-*")) == []

    @pytest.mark.parametrize("keys", ["online", "state/online"])
    def test_restore(self, config: Path, tmp_path: Path, keys: str) -> None:
        """The old state or the new one, once the coordinator starts; never some of each."""
        (config.parent / "online").rename(config.parent / keys)
        config.write_text(CONFIG.replace('"online"', f'"{keys}"'))
        backup, old = tmp_path / "backup.tar.gz", tmp_path / "old"
        written(config, backup, keys=True)
        shutil.copytree(config.parent, old)
        (old / keys / "timestamp.pem").write_text("old")
        (old / "state" / "pki" / "ca.pem").write_text("old")
        (old / "state" / "only-old").write_text("old")
        wanted, kept = content(config.parent), content(old)
        seen, trial = set(), tmp_path / "trial"
        path = trial / "coordinator.toml"
        for number in range(1, 500):
            shutil.rmtree(trial, ignore_errors=True)
            shutil.copytree(old, trial)
            over = _killed_at(number, lambda: restore(backup, path, replace=True, mark=MARK))
            finish(trial / "state")
            found = content(trial)
            assert found in (wanted, kept), f"after {number} effects"
            seen.add(found == wanted)
            if over:
                break
        assert seen == {True, False}

    def test_where_keys_were_behind_a_link(self, tmp_path: Path) -> None:
        """It leads nowhere from where it went: what has come in since is not put over it."""
        state = make_folder(tmp_path / "state")
        (state / applying.LOCK).touch()
        make_folder(state / applying.STAGE / "state")
        (state / applying.STAGE / "key").write_text("new")
        (make_folder(state / f"replaced-{MARK}") / "online").symlink_to("../keys")
        make_folder(state / "online")
        plan = applying.Plan([], f"replaced-{MARK}", {"key": str(state / "online" / "key")})
        (state / applying.PLAN).write_bytes(msgspec.json.encode(plan))
        assert finish(state)
        assert (state / "online" / "key").read_text() == "new"
        assert (state / f"replaced-{MARK}" / "online").is_symlink()


EFFECTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "open")
DONE, KILLED, FAILED = 0, 9, 1


def _killed_at(number: int, act: Callable[[], object]) -> bool:
    """Do ``act`` in a process that ends before its effect ``number``; True if it had no more."""
    child = os.fork()
    if child == 0:
        left = [number]

        def count(event: str, arguments: tuple[object, ...]) -> None:
            writes = event != "open" or bool(int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR))
            if event in EFFECTS and writes:
                left[0] -= 1
                if left[0] == 0:
                    os._exit(KILLED)

        sys.addaudithook(count)
        try:
            act()
            os._exit(DONE)
        finally:  # nothing of the test may run on in here
            traceback.print_exc()
            os._exit(FAILED)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (DONE, KILLED)
    return code == DONE
