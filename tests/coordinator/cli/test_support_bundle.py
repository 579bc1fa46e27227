# SPDX-License-Identifier: Apache-2.0
"""``fedmill support-bundle``."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from click.testing import Result

Run = Callable[..., Result]


def _bundle(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            each.name.removeprefix("support/"): file.read()
            for each in archive
            if (file := archive.extractfile(each)) is not None
        }


def test_fleet_and_rounds(run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
    """Who is there and what came of rounds; no model, and no text of a job."""
    out = tmp_path / "bundle.tar.gz"
    result = run("support-bundle", "--config", plant.config, "--out", out)
    assert result.exit_code == 0, result.stderr
    found = _bundle(out)
    assert {each["agent"] for each in json.loads(found["fleet.json"])} >= {"press-1", "press-2"}
    assert json.loads(found["rounds.json"])["tiny"]["rounds"]
    assert not [name for name in found if "blob" in name or "sqlite" in name]


def test_coordinator_that_never_ran(run: Run, empty: Path, tmp_path: Path) -> None:
    """What is missing is said."""
    out = tmp_path / "bundle.tar.gz"
    result = run("support-bundle", "--config", empty, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "missing: fleet.json" in result.stdout
    assert "config.json" in _bundle(out)
