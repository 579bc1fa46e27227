# SPDX-License-Identifier: Apache-2.0
"""``fedmill backup`` and ``fedmill restore``."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.audit import FILE
from fedmill_shared.audit.verifying import entries
from fedmill_shared.files import state_folder

Run = Callable[..., Result]


def test_there_and_back(run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
    """To another machine; both are in the audit log that goes with it."""
    out, config = tmp_path / "backup.tar.gz", tmp_path / "new" / "coordinator.toml"
    made = run("backup", "--config", plant.config, "--out", out)
    assert made.exit_code == 0, made.stderr
    assert str(out) in made.stdout
    back = run("restore", out, "--config", config)
    assert back.exit_code == 0, back.stderr
    assert "restored coordinator as of" in back.stdout
    with SqlStore.in_file(config.parent / "state" / "fedmill.sqlite") as store:
        assert [job.name for job in store.jobs()] == ["tiny"]
    told = [each.what for each in entries(config.parent / "state" / FILE)]
    assert told == ["backup.made", "backup.restored"]


def test_beside_a_coordinator_that_runs(run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
    """A backup needs no pause; a restore refuses."""
    out = tmp_path / "backup.tar.gz"
    with state_folder(plant.config.parent / "state", "coordinator"):
        assert run("backup", "--config", plant.config, "--out", out).exit_code == 0
        result = run("restore", out, "--config", plant.config, "--replace")
    assert result.exit_code == 21
    assert "another coordinator is running" in result.stderr


def test_keys_are_warned_of(run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
    """Who has them can sign for the plant."""
    result = run("backup", "--config", plant.config, "--out", tmp_path / "b", "--with-keys")
    assert "can issue certificates and sign releases" in result.stderr


@pytest.mark.parametrize("words", [["backup", "--out", "x"], ["restore", "x"]])
def test_files_that_are_not_there(run: Run, tmp_path: Path, words: list[str]) -> None:
    """One line and an exit code of ours."""
    result = run(*words, "--config", tmp_path / "none.toml")
    assert result.exit_code in (10, 21)
    assert result.stderr.startswith("fedmill: ")


def test_what_is_there_is_kept_aside(run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
    """And where it is, is told."""
    out = tmp_path / "backup.tar.gz"
    run("backup", "--config", plant.config, "--out", out)
    assert run("restore", out, "--config", plant.config).exit_code == 21
    result = run("restore", out, "--config", plant.config, "--replace")
    assert result.exit_code == 0, result.stderr
    assert "what was there is in" in result.stdout
    [replaced] = (plant.config.parent / "state").glob("replaced-*")
    assert (replaced / "fedmill.sqlite").is_file()


def test_keys_that_the_backup_lacks(run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
    """They are named: the only ones are about to be deleted."""
    plant.config.write_text("[pki]\n")
    out, at = tmp_path / "backup.tar.gz", ["--config", plant.config]
    assert run("ca", "init", *at).exit_code == 0
    made = run("backup", *at, "--out", out)
    assert "note: private keys are not in it" in made.stderr
    result = run("restore", out, *at, "--replace")
    assert result.exit_code == 0, result.stderr
    assert "pki/ca.key: a key that the backup lacks: copy it back" in result.stderr


def test_key_that_only_the_service_is_handed(
    run: Run, plant: SimpleNamespace, tmp_path: Path
) -> None:
    """It is missed, unless it is named; a restore does not guess where it goes."""
    plant.config.write_text("[pki]\n")
    out, at = tmp_path / "backup.tar.gz", ["--config", plant.config]
    assert run("ca", "init", *at).exit_code == 0
    plant.config.write_text('[pki]\nca_key = "credential:ca.key"\n')
    made = run("backup", *at, "--out", out, "--with-keys")
    assert "credential:ca.key is not there, and not in the backup" in made.stderr
    key = plant.config.parent / "state" / "pki" / "ca.key"
    made = run("backup", *at, "--out", out, "--with-keys", "--ca-key", key)
    assert "credential" not in made.stderr
    back = run("restore", out, "--config", tmp_path / "new" / "coordinator.toml")
    assert back.exit_code == 0, back.stderr
    assert "ca_key/ca.key: not put back" in back.stderr
