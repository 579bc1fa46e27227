# SPDX-License-Identifier: Apache-2.0
"""Configurations, jobs and exported models on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.kit import Versions, classes_of, two_classes, write_csv

from fedmill_coordinator.registry.export import self_contained

JOB = """
[job]
name = "press"

[[signals]]
name = "vibration"
unit = "g"

[window]
length = 8

[labels]
classes = ["good", "worn"]

[model]
architecture = "mlp"
hidden = [4, 3]

[learning]
batch_size = 4

[federation]
rounds = 3
minimum = 1

[evaluation]
validation = 0.0
test = 0.25
"""


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """The job of the tiny press."""
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Path]:
    """Writes the configuration of an agent with one recording of eight runs."""

    def write(
        name: str = "a", *, port: int = 1883, extra: str = "", agent: str = "", seed: int = 0
    ) -> Path:
        runs = two_classes(8, seed=seed)
        recording = write_csv(tmp_path / f"{name}.csv", runs, classes_of(runs))
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f'[agent]\nid = "{name}"\nstate = "{name}-state"\n{agent}\n'
            f"[broker]\nport = {port}\n"
            f'[[sources]]\nkind = "csv"\nname = "line"\npath = "{recording.name}"\n'
            f'run_column = "run"\nlabel_column = "label"\n{extra}\n'
        )
        return path

    return write


@pytest.fixture
def export(tmp_path: Path) -> Callable[[Versions], Path]:
    """Writes the newest version as an ordinary ONNX file."""

    def write(versions: Versions) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(self_contained(versions.architecture.template, versions.newest.vector))
        return path

    return write
