# SPDX-License-Identifier: Apache-2.0
"""What is in a backup: all that another machine needs, and nothing else."""

import shutil
from pathlib import Path

import pytest
from tests.coordinator.backup.kit import CONFIG, KEY, MARK, content, elsewhere, written

from fedmill_coordinator.backup import contents
from fedmill_coordinator.backup.restoring import restore
from fedmill_coordinator.trust.repository import LEAP_FILE, Repository
from fedmill_shared.errors import StoreError

IDENTITY = CONFIG.replace("[pki]", '[pki]\nca_certificate = "plant/ca.pem"') + (
    '[broker.tls]\nca = "tls/ca.pem"\ncertificate = "tls/own.pem"\nkey = "tls/own.key"\n'
)


def names(path: Path, tmp_path: Path, *, keys: bool) -> set[str]:
    """Of the files in a backup."""
    return {each.name for each in written(path, tmp_path / "b", keys=keys).manifest.members}


@pytest.fixture
def identified(config: Path) -> Path:
    """A coordinator whose certificates lie outside the state folder."""
    files = {"tls/ca.pem": "ca", "tls/own.pem": "own", "tls/own.key": KEY, "plant/ca.pem": "plant"}
    for name, text in files.items():
        (config.parent / name).parent.mkdir(exist_ok=True)
        (config.parent / name).write_text(text)
    config.write_text(IDENTITY)
    return config


class TestIdentity:
    def test_comes_back_with_keys(self, identified: Path, tmp_path: Path) -> None:
        """Without it the broker knows the coordinator no more."""
        written(identified, tmp_path / "b", keys=True)
        done = restore(tmp_path / "b", elsewhere(tmp_path), replace=False, mark=MARK)
        assert content(tmp_path / "new") == content(identified.parent)
        assert (done.kept, done.homeless) == ([], [])

    def test_its_key_only_where_it_is_wanted(self, identified: Path, tmp_path: Path) -> None:
        """Certificates are no secret."""
        found = names(identified, tmp_path, keys=False)
        assert {"identity/ca", "identity/certificate", "ca_certificate/ca.pem"} <= found
        assert "identity/key" not in found

    def test_keys_in_the_state_folder(self, config: Path, tmp_path: Path) -> None:
        """Where enrolment and `fedmill ca` put them by default; the authority's once only."""
        state = config.parent / "state"
        (state / "identity").mkdir()
        (state / "identity" / "key.pem").write_text(KEY)
        private = {"state/identity/key.pem", "ca_key/ca.key", "state/pki/ca.key"}
        assert names(config, tmp_path, keys=False) & private == set()
        assert names(config, tmp_path, keys=True) & private == private - {"state/pki/ca.key"}


class TestCredential:
    CONFIG = CONFIG.replace("[pki]", '[pki]\nca_key = "credential:ca.key"')

    def test_that_is_not_at_hand_is_told(self, config: Path, tmp_path: Path) -> None:
        """Nobody believes to have saved the authority's key who has not."""
        config.write_text(self.CONFIG)
        made = written(config, tmp_path / "b", keys=True)
        assert [str(path) for path in made.absent] == ["credential:ca.key"]

    def test_has_no_place_of_its_own(self, config: Path, backup: Path, tmp_path: Path) -> None:
        """Where the key is, only the service manager knows: the operator puts it there."""
        path = elsewhere(tmp_path)
        path.write_text(self.CONFIG)
        done = restore(backup, path, replace=False, mark=MARK)
        assert done.homeless == ["ca_key/ca.key"]


@pytest.mark.parametrize("name", ["online", "trust"])
def test_folders_that_are_not_there_are_told(config: Path, tmp_path: Path, name: str) -> None:
    """As where the service manager hands the keys over: they are not in the backup."""
    shutil.rmtree(config.parent / name)
    made = written(config, tmp_path / "b", keys=True)
    assert made.absent == [config.parent / name]


def test_long_names(config: Path, tmp_path: Path) -> None:
    """As a job of a long path has."""
    path = config.parent / "state" / "audit-heads" / ("x" * 120) / ("y" * 120)
    path.parent.mkdir()
    path.write_text("1:abc")
    written(config, tmp_path / "b", keys=True)
    restore(tmp_path / "b", elsewhere(tmp_path), replace=False, mark=MARK)
    assert content(tmp_path / "new") == content(config.parent)


def test_backups_in_the_state_folder_are_left_out(config: Path) -> None:
    """The only place that the service may write: each would hold all before it."""
    state = config.parent / "state"
    written(config, state / "monday.tar.gz")
    tuesday = written(config, state / "tuesday.tar.gz").manifest
    assert not [each.name for each in tuesday.members if "day" in each.name]


def test_nobody_signs_while_metadata_is_read(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timestamp with a snapshot that is not in the backup would be worth nothing."""
    real, tried = contents.outer_files, list[str]()

    def meanwhile(*args: object, **options: object) -> object:
        with (
            pytest.raises(StoreError, match="another command holds"),
            Repository(config.parent / "trust").alone(seconds=0),
        ):
            pass
        tried.append("signing")
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(contents, "outer_files", meanwhile)
    written(config, tmp_path / "b")
    assert tried == ["signing"]


def test_keys_that_the_backup_lacks_are_told(config: Path, tmp_path: Path) -> None:
    """Whoever deletes what was replaced would delete the only ones."""
    written(config, tmp_path / "b", keys=False)
    done = restore(tmp_path / "b", config, replace=True, mark=MARK)
    assert done.replaced is not None
    assert done.keys == [done.replaced / "pki" / "ca.key"]


def test_signed_metadata_leaps_after_a_restore(backup: Path, tmp_path: Path) -> None:
    """Agents that saw later versions would take none of the restored ones."""
    restore(backup, elsewhere(tmp_path), replace=False, mark=MARK)
    assert (tmp_path / "new" / "trust" / LEAP_FILE).exists()
