# SPDX-License-Identifier: Apache-2.0
"""``fedmill demo``: its options, and what it never deletes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result
from msgspec import json

from fedmill_coordinator.cli import demo as module
from fedmill_coordinator.demo.recipes import Plan
from fedmill_coordinator.demo.report import AgentRow, Artifacts, Report
from fedmill_shared.errors import Interrupted

Run = Callable[..., Result]
ROW = AgentRow(agent="all", metric="accuracy", local_only=0.5, federated=0.8, pooled=0.9, windows=4)
REPORT = Report(
    data="rig",
    task="classification",
    rounds=1,
    seconds=1.0,
    uplink_bytes=1,
    downlink_bytes=1,
    fp32_bytes=8,
    agents=[ROW],
    overall=ROW,
    last_of_run=ROW,
    details={},
    windows_scored=1,
    artifacts=Artifacts(onnx="m", database="d", plot="p"),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the demo would run, instead of running it."""
    found = SimpleNamespace()

    def run_demo(data: str, plan: Plan, folder: Path, *_: object, **__: object) -> Report:
        found.data, found.plan, found.folder = data, plan, folder
        return REPORT

    monkeypatch.setattr(module, "run_demo", run_demo)
    monkeypatch.setattr(module, "on_stop", lambda _: None)
    monkeypatch.setattr(module.log, "configure", lambda: None)
    return found


class TestOptions:
    """What may be asked for."""

    def test_json_is_the_last_line(self, run: Run, asked: SimpleNamespace, tmp_path: Path) -> None:
        """One object on standard output."""
        result = run("demo", "--json", "--out", tmp_path / "o", "--rounds", 3, "--seed", 5)
        assert json.decode(result.stdout, type=Report) == REPORT
        assert asked.plan.job.federation.rounds == 3
        assert asked.plan.job.name == "bearing-rig-5"
        assert asked.folder == tmp_path / "o"

    def test_table(self, run: Run, asked: SimpleNamespace, tmp_path: Path) -> None:
        """The same for people."""
        assert "80.0 %" in run("demo", "--out", tmp_path / "o").stdout

    def test_its_folder_has_a_name_by_default(
        self, run: Run, asked: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Recipe and seed, below ``runs``."""
        monkeypatch.chdir(tmp_path)
        run("demo", "--seed", 2)
        assert asked.folder == tmp_path / "runs" / "rig-2"

    @pytest.mark.parametrize(
        "options", [["--rounds", "0"], ["--seed", "-1"], ["--seed", "99999999999"]]
    )
    def test_impossible_numbers(self, run: Run, asked: SimpleNamespace, options: list[str]) -> None:
        """Refused before anything is made."""
        assert run("demo", *options).exit_code == 2

    def test_unknown_data(self, run: Run, asked: SimpleNamespace, tmp_path: Path) -> None:
        """Exit code 13 and one line."""
        result = run("demo", "--data", tmp_path / "none")
        assert result.exit_code == 13
        assert result.stderr.startswith(f"fedmill: {tmp_path / 'none'}: no such folder")

    def test_interrupted(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Exit code 130."""

        def stop(*_: object, **__: object) -> None:
            raise Interrupted("the demo was stopped")

        monkeypatch.setattr(module, "run_demo", stop)
        monkeypatch.setattr(module.log, "configure", lambda: None)
        monkeypatch.setattr(module, "on_stop", lambda _: None)
        assert run("demo", "--out", tmp_path / "o").exit_code == 130


class TestFolder:
    """What is in --out already."""

    def test_an_earlier_demo_is_replaced(
        self, run: Run, asked: SimpleNamespace, tmp_path: Path
    ) -> None:
        """It can be made again at any time."""
        (tmp_path / "o" / "broker").mkdir(parents=True)
        (tmp_path / "o" / "broker" / "mosquitto.conf").touch()
        assert run("demo", "--out", tmp_path / "o").exit_code == 0
        assert not (tmp_path / "o").exists()

    def test_an_empty_folder_is_used(
        self, run: Run, asked: SimpleNamespace, tmp_path: Path
    ) -> None:
        """It may be there."""
        assert run("demo", "--out", tmp_path).exit_code == 0

    @pytest.mark.parametrize("name", ["thesis.odt", "coordinator.toml"])
    def test_anything_else_is_left_alone(
        self, run: Run, asked: SimpleNamespace, tmp_path: Path, name: str
    ) -> None:
        """Above all the folder of a real coordinator, with its state."""
        (tmp_path / name).write_text("mine")
        result = run("demo", "--out", tmp_path)
        assert result.exit_code == 2
        assert "holds something else" in result.stderr
        assert (tmp_path / name).read_text() == "mine"

    def test_a_file(self, run: Run, asked: SimpleNamespace, tmp_path: Path) -> None:
        """It is no folder."""
        (tmp_path / "o").write_text("mine")
        result = run("demo", "--out", tmp_path / "o")
        assert (result.exit_code, "is no folder" in result.stderr) == (2, True)
