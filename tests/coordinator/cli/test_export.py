# SPDX-License-Identifier: Apache-2.0
"""``fedmill models export``: any version as one plain ONNX file."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from click.testing import Result

Run = Callable[..., Result]


def weights_of(path: Path) -> np.ndarray:
    """All initialisers of a file, in order."""
    model = onnx.load(path)
    return np.concatenate([onnx.numpy_helper.to_array(t).ravel() for t in model.graph.initializer])


class TestExport:
    """Which version is meant, and what is written."""

    @pytest.mark.parametrize(
        ("wanted", "number"),
        [([], 1), (["candidate"], 2), (["stable"], 1), (["2"], 2), (["prefix"], 2), (["whole"], 1)],
    )
    def test_by_alias_number_or_digest(
        self, run: Run, plant: SimpleNamespace, tmp_path: Path, wanted: list[str], number: int
    ) -> None:
        """The stable one by default."""
        names = {"prefix": plant.versions[2][:8], "whole": plant.versions[1]}
        options = ["--version", names.get(wanted[0], wanted[0])] if wanted else []
        file = tmp_path / "model.onnx"
        result = run("models", "export", plant.config, file, *options)
        assert result.exit_code == 0, result.output
        assert f"version {number} ({plant.versions[number][:12]})" in result.output
        weights = weights_of(file)
        assert all(np.isin(plant.made[number].vector, weights))
        onnx.checker.check_model(onnx.load(file), full_check=True)

    @pytest.mark.parametrize("wanted", ["7", "previous", "abcdef", "", "latest"])
    def test_a_version_that_is_not_there(
        self, run: Run, plant: SimpleNamespace, tmp_path: Path, wanted: str
    ) -> None:
        """The aliases that are there are named; no file is made."""
        file = tmp_path / "model.onnx"
        result = run("models", "export", plant.config, file, "--version", wanted)
        assert result.exit_code == 2
        assert f"version '{wanted}' of job tiny: no versions have that name" in result.stderr
        assert "candidate, stable" in result.stderr
        assert not file.exists()

    def test_too_short_a_prefix(self, run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
        """Five digits might be anything."""
        options = ["--version", plant.versions[2][:5]]
        result = run("models", "export", plant.config, tmp_path / "m.onnx", *options)
        assert result.exit_code == 2

    def test_a_forgotten_version(self, run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
        """Its row is there, its weights are not."""
        result = run("models", "export", plant.config, tmp_path / "m.onnx", "--version", "0")
        assert result.exit_code == 21
        assert "version 0 of job tiny: its weights are no longer kept" in result.stderr

    def test_a_damaged_blob(self, run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
        """Nothing wrong is ever exported."""
        for blob in (plant.config.parent / "state" / "blobs").glob("*/*"):
            blob.write_bytes(b"?" + blob.read_bytes()[1:])
        result = run("models", "export", plant.config, tmp_path / "m.onnx")
        assert result.exit_code == 21
        assert "damaged" in result.stderr

    def test_a_folder_instead_of_a_file(
        self, run: Run, plant: SimpleNamespace, tmp_path: Path
    ) -> None:
        """It says what is missing."""
        result = run("models", "export", plant.config, tmp_path)
        assert result.exit_code == 2
        assert "give the name of a file" in result.stderr

    def test_a_folder_that_is_not_there(
        self, run: Run, plant: SimpleNamespace, tmp_path: Path
    ) -> None:
        """One line, not a traceback."""
        result = run("models", "export", plant.config, tmp_path / "no" / "m.onnx")
        assert result.exit_code == 21
        assert "cannot be written" in result.stderr
