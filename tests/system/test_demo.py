# SPDX-License-Identifier: Apache-2.0
"""``fedmill demo``: what a newcomer runs first."""

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import json
from tests.system.fleet import PATIENCE_SECONDS, STOP_SECONDS, marked, run, sweep

from fedmill_coordinator.demo.processes import program

pytestmark = pytest.mark.system

KEYS = {
    "data",
    "task",
    "rounds",
    "seconds",
    "uplink_bytes",
    "downlink_bytes",
    "fp32_bytes",
    "agents",
    "artifacts",
}
ROW = {"agent", "metric", "local_only", "federated", "pooled", "windows"}


def demo(*arguments: str | Path) -> list[str]:
    """The command line of a demo."""
    return program("fedmill_coordinator", "demo", *arguments)


def report_of(output: str) -> dict[str, Any]:
    """The report: the last line of standard output."""
    report: dict[str, Any] = json.decode(output.splitlines()[-1])
    return report


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which demos run; none of their processes is left behind."""
    yield tmp_path
    left = sweep(tmp_path)
    assert not left, f"left behind: {left}"


def started(folder: Path, command: Sequence[str]) -> "subprocess.Popen[str]":
    """A demo that runs."""
    with marked(folder), (folder / "log").open("w") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )


class TestReport:
    @pytest.mark.slow
    def test_two_runs_of_one_seed_report_the_same(self, folder: Path) -> None:
        """All documented keys, artifacts that can be used, and figures that repeat."""
        outputs = []
        for name in ("first", "second"):
            done = run(
                folder, demo("--rounds", "3", "--seed", "7", "--json", "--out", folder / name)
            )
            assert done.returncode == 0, done.stderr
            outputs.append(report_of(done.stdout))
        report, again = outputs
        assert set(report) >= KEYS
        assert all(set(row) >= ROW for row in report["agents"])
        assert (report["task"], report["rounds"], len(report["agents"])) == ("classification", 3, 4)
        assert 0 < report["uplink_bytes"] + report["downlink_bytes"] < report["fp32_bytes"]
        self.assert_artifacts(report["artifacts"])
        for figure in ("agents", "overall", "last_of_run", "details", "fp32_bytes"):
            assert report[figure] == again[figure], figure
        models = [Path(each["artifacts"]["onnx"]).read_bytes() for each in outputs]
        assert models[0] == models[1]

    def assert_artifacts(self, artifacts: dict[str, str]) -> None:
        """The model runs in a plain ONNX Runtime, the database and the plot can be read."""
        import sqlite3
        from contextlib import closing
        from xml.etree import ElementTree as ET

        import onnx
        import onnxruntime

        assert set(artifacts) >= {"onnx", "database", "plot"}
        onnx.checker.check_model(artifacts["onnx"], full_check=True)
        session = onnxruntime.InferenceSession(artifacts["onnx"])
        (outputs,) = session.run(None, {"windows": np.zeros((5, 1, 1024), np.float32)})
        assert outputs.shape == (5, 4)
        assert np.isfinite(outputs).all()
        with closing(sqlite3.connect(artifacts["database"])) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert ET.parse(artifacts["plot"]).getroot().tag.endswith("svg")  # noqa: S314  written here


class TestInterrupt:
    @pytest.mark.parametrize("moment", ["state=statistics", "state=running", "demo.baseline"])
    def test_ends_everything_at_once(self, folder: Path, moment: str) -> None:
        """Ctrl-C at any time: exit code 130 within two seconds, one line, and no process left."""
        rounds = "3" if moment == "demo.baseline" else "80"
        child = started(folder, demo("--rounds", rounds, "--json", "--out", folder / "out"))
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while moment not in (folder / "log").read_text():
                assert child.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, f"{moment} did not come"
                time.sleep(0.02)
            child.send_signal(signal.SIGINT)
            output, _ = child.communicate(timeout=STOP_SECONDS)
        finally:
            child.kill()
            child.communicate()
        assert (child.returncode, output) == (130, "")
        assert (folder / "log").read_text().splitlines()[-1].startswith("fedmill: ")
        assert sweep(folder) == []


class TestRefusal:
    @pytest.mark.parametrize("given", ["missing", "empty", "file.mat"])
    def test_data_that_it_cannot_use_is_one_line(self, folder: Path, given: str) -> None:
        """Exit code 13, the path and the remedy on one line, and nothing is created."""
        (folder / "empty").mkdir()
        (folder / "file.mat").write_bytes(b"")
        done = run(folder, demo("--data", folder / given, "--out", folder / "out"))
        assert (done.returncode, done.stdout) == (13, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"fedmill: {folder / given}: ")
        assert not (folder / "out").exists()

    def test_a_folder_with_foreign_files_is_left_alone(self, folder: Path) -> None:
        """Exit code 2, one line, and the files are still there."""
        (folder / "out").mkdir()
        (folder / "out" / "thesis.tex").write_text("mine")
        done = run(folder, demo("--out", folder / "out"))
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert str(folder / "out") in line
        assert [path.name for path in (folder / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.data
class TestRealData:
    @pytest.mark.parametrize(
        ("name", "task", "agents"),
        [
            ("cwru", "classification", 4),
            ("tep", "classification", 4),
            pytest.param("cmapss", "regression", 10, marks=pytest.mark.slow),
        ],
    )
    def test_runs_through(
        self, folder: Path, data_folder: Path, name: str, task: str, agents: int
    ) -> None:
        """Three rounds on the recordings as they are published, and a score for every plant."""
        data, out = data_folder / name, folder / "out"
        command = demo("--data", data, "--rounds", "3", "--json", "--out", out)
        done = run(folder, command)
        assert done.returncode == 0, done.stderr
        report = report_of(done.stdout)
        assert (report["task"], report["rounds"]) == (task, 3)
        assert len(report["agents"]) >= agents
        for row in report["agents"]:
            figures = [row["local_only"], row["federated"], row["pooled"]]
            assert np.isfinite(figures).all()
            assert row["windows"] > 0
