# SPDX-License-Identifier: Apache-2.0
"""Processes of a run share their templates, and each has what it would have exported itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs
from tests import exported

from fedmill_coordinator.registry.template import export_template
from fedmill_shared.job import (
    Federation,
    Job,
    Labels,
    Learning,
    Mlp,
    Signal,
    Task,
    Wdcnn,
    Window,
)
from fedmill_shared.job_check import canonical
from fedmill_shared.models import build

PROGRAM = """
import sys
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.models import build

if __name__ == "__main__":
    from fedmill_coordinator.registry.template import export_template
    job = job_from_canonical(bytes.fromhex(sys.argv[1]))
    sys.stdout.buffer.write(export_template(job, build(job, 0)))
    print("onnxscript" in sys.modules, file=sys.stderr)
"""
JOB = Job(
    job=Task(name="shared"),
    signals=[Signal(name="force", unit="kN")],
    window=Window(length=32),
    labels=Labels(classes=["good", "burr"]),
    model=Mlp(hidden=[4, 4]),
)


def named(**sections: object) -> str:
    """The name of the job's template with other ``sections``."""
    job = structs.replace(JOB, **sections)
    return exported.name_of(job, build(job, 0))


def test_a_program_has_what_it_would_export(tmp_path: Path) -> None:
    """It finds the very bytes that the exporter gives, and does without the exporter."""
    (tmp_path / "program.py").write_text(PROGRAM)
    own = export_template(JOB, build(JOB, 0))
    first = exported.shared(tmp_path, export_template, JOB, build(JOB, 1))
    done = subprocess.run(
        exported.sharing([sys.executable, "-m", "program", canonical(JOB).hex()]),
        env={**os.environ, exported.FOLDER: str(tmp_path), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.stderr == b"False\n"
    assert own == first == done.stdout


def test_who_finds_one_does_not_export(tmp_path: Path) -> None:
    """Only the first of two waits, and an export that fails leaves nothing behind."""

    def refuse(*_: object) -> bytes:
        raise AssertionError

    with pytest.raises(AssertionError):
        exported.shared(tmp_path, refuse, JOB, build(JOB, 0))
    assert list(tmp_path.iterdir()) == []
    exported.shared(tmp_path, lambda *_: b"graph", JOB, build(JOB, 0))
    assert exported.shared(tmp_path, refuse, JOB, build(JOB, 0)) == b"graph"


@pytest.mark.parametrize(
    "sections",
    [
        {"job": Task(name="other")},
        {"job": Task(name="shared", task="regression"), "labels": Labels(unit="h")},
        {"signals": [Signal(name="force", unit="N")]},
        {"window": Window(length=64)},
        {"labels": Labels(classes=["good", "crack"])},
        {"model": Mlp(hidden=[4, 5])},
        {"model": Mlp(hidden=[4, 4], dropout=0.5)},
        {"model": Wdcnn(channels=[4, 4], kernel=5, stride=1)},
        {"model": Wdcnn(channels=[4, 4], kernel=5, stride=1, norm="batch")},
    ],
)
def test_another_graph_has_another_name(sections: dict[str, object]) -> None:
    """Whatever decides about a template, or is told in it."""
    assert named(**sections) != named()


def test_what_is_no_part_of_it_does_not_count() -> None:
    """Jobs that only learn in another way have one template."""
    assert named(federation=Federation(rounds=9), learning=Learning(steps=2)) == named()
