# SPDX-License-Identifier: Apache-2.0
"""The command and what all benches share, and one bench on a real small federation."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest
from tests.bench import __main__ as command
from tests.bench import harness
from tests.benchtests.measured import ROOT, measured
from tests.benchtests.measured import command as measuring

from fedmill_shared.errors import TrainerError, UsageError

HERE = harness.Environment(2, "machine", "3.11.0", {"numpy": "2.0"}, 0.5)


def gone(pid: int) -> bool:
    """Whether no process of this id runs, soon."""
    for _ in range(200):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


class TestFigure:
    @pytest.mark.parametrize(("value", "ok"), [(0.2, True), (0.25, True), (0.26, False)])
    def test_at_most_includes_its_limit(self, value: float, *, ok: bool) -> None:
        """A figure on the limit still holds."""
        assert harness.at_most("p50", value, "s", 0.25) == harness.Figure(
            "p50", value, "s", "<= 0.25", ok
        )

    @pytest.mark.parametrize(("value", "ok"), [(3, False), (4, True), (5, True)])
    def test_at_least_includes_its_limit(self, value: float, *, ok: bool) -> None:
        """A figure on the limit still holds."""
        assert harness.at_least("plants", value, "1", 4) == harness.Figure(
            "plants", value, "1", ">= 4", ok
        )

    def test_not_a_number_holds_no_target(self) -> None:
        """A measurement that failed must not pass."""
        assert not harness.at_most("x", nan, "s", inf).ok
        assert not harness.at_least("x", nan, "s", -inf).ok

    def test_without_target_it_is_ok(self) -> None:
        """What is only reported cannot fail."""
        assert harness.figure("x", 1.23456789, "s") == harness.Figure("x", 1.23457, "s", None, True)


class TestOutcome:
    def test_ok_needs_every_target(self) -> None:
        """One missed target fails the bench."""
        good, bad = harness.at_most("a", 1, "s", 2), harness.at_most("b", 3, "s", 2)
        assert harness.outcome("x", [good], HERE).ok
        assert not harness.outcome("x", [good, bad], HERE).ok

    def test_nothing_measured_is_not_ok(self) -> None:
        """A bench without figures has shown nothing."""
        assert not harness.outcome("x", [], HERE).ok

    def test_json_line(self) -> None:
        """The keys are those of the design, on one line."""
        line = harness.encode(harness.outcome("x", [harness.at_most("a", 1, "s", 2)], HERE))
        assert "\n" not in line
        assert msgspec.json.decode(line) == {
            "bench": "x",
            "ok": True,
            "figures": [{"name": "a", "value": 1.0, "unit": "s", "target": "<= 2", "ok": True}],
            "environment": {
                "cpus": 2,
                "machine": "machine",
                "python": "3.11.0",
                "versions": {"numpy": "2.0"},
                "load": 0.5,
            },
        }

    def test_lines_tell_a_missed_target(self) -> None:
        """People see which figure failed."""
        shown = harness.lines(harness.outcome("x", [harness.at_most("a", 3, "s", 2)], HERE))
        assert shown[0].split() == ["a", "3", "s", "target", "<=", "2:", "MISSED"]
        assert shown[-1] == "x: NOT OK"

    def test_environment_of_this_machine(self) -> None:
        """It names processors, Python and the packages that matter."""
        here = harness.environment()
        assert here.cpus == os.cpu_count()
        assert set(here.versions) == set(harness.PACKAGES)


class TestFolder:
    def test_temporary_one_vanishes(self) -> None:
        """Nothing is left behind."""
        with harness.folder(None) as place:
            (place / "file").write_text("x")
        assert not place.exists()

    def test_chosen_one_stays_and_must_be_empty(self, tmp_path: Path) -> None:
        """What an earlier run left would be taken up by the next."""
        with harness.folder(tmp_path / "run") as place:
            (place / "file").write_text("x")
        with pytest.raises(UsageError, match="holds something"), harness.folder(place):
            pass
        assert (place / "file").exists()


class TestChild:
    def test_a_deaf_family_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A child that ignores SIGTERM is killed, and so is what it started."""
        monkeypatch.setattr(harness, "STOP_SECONDS", 0.2)
        script = (
            "import signal, subprocess, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "sleep = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            "print(sleep.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        output = tmp_path / "told.txt"
        with harness.child([sys.executable, "-c", script], output) as process:
            while not output.read_text().endswith("\n"):
                time.sleep(0.02)
        assert process.returncode == -signal.SIGKILL
        assert gone(int(output.read_text()))

    def test_one_that_ended_is_left_alone(self, tmp_path: Path) -> None:
        """Its exit code is what it said."""
        with harness.child([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "o") as child:
            child.wait()
        assert child.returncode == 3


class TestCommand:
    @pytest.fixture(autouse=True)
    def handlers(self) -> Iterator[None]:
        """The signal handlers of the test run are its own."""
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        yield
        for each, handler in before.items():
            signal.signal(each, handler)

    def bench(
        self, monkeypatch: pytest.MonkeyPatch, run: Callable[[Namespace], list[harness.Figure]]
    ) -> None:
        """Make ``run`` the only bench, called ``x``."""
        module = SimpleNamespace(SUMMARY="", add_arguments=lambda _parser: None, run=run)
        monkeypatch.setattr(command, "BENCHES", {"x": module})

    def test_list_names_them_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        """One line for each bench."""
        assert command.main(["--list"]) == 0
        names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        assert names == list(command.BENCHES)
        assert "fuzz" in names

    def test_a_name_is_needed(self) -> None:
        """Without one nothing is measured."""
        with pytest.raises(SystemExit, match="2"):
            command.main([])

    @pytest.mark.parametrize(("value", "code"), [(1, 0), (3, 1)])
    def test_json_prints_one_line_and_code_follows_targets(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        value: float,
        code: int,
    ) -> None:
        """Exit code 0 only where every target holds."""
        self.bench(monkeypatch, lambda _options: [harness.at_most("a", value, "s", 2)])
        assert command.main(["x", "--json"]) == code
        (line,) = capsys.readouterr().out.splitlines()
        assert msgspec.json.decode(line)["ok"] is (code == 0)

    def test_without_json_the_last_line_is_the_same(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Figures for people come first."""
        self.bench(monkeypatch, lambda _options: [harness.figure("a", 1, "s")])
        assert command.main(["x"]) == 0
        *shown, line = capsys.readouterr().out.splitlines()
        assert len(shown) == 2
        assert msgspec.json.decode(line)["bench"] == "x"

    def test_an_error_still_ends_in_json(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A bench that breaks is not ok, says why, and has the error's exit code."""

        def broken(_options: Namespace) -> list[harness.Figure]:
            raise TrainerError("it died")

        self.bench(monkeypatch, broken)
        assert command.main(["x", "--json"]) == TrainerError.exit_code
        told = capsys.readouterr()
        assert msgspec.json.decode(told.out)["ok"] is False
        assert "it died" in told.err

    def test_a_signal_ends_the_bench(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Contexts are left; a second signal does not disturb that."""
        left = []

        def interrupted(_options: Namespace) -> list[harness.Figure]:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)
                left.append(True)
            return []

        self.bench(monkeypatch, interrupted)
        assert command.main(["x", "--json"]) == 130
        assert left == [True]
        assert "SIGTERM" in capsys.readouterr().err


@pytest.mark.system
class TestFederation:
    def size(self, folder: Path) -> list[str]:
        """A bench of two agents and a small model."""
        return ["--agents", "2", "--rounds", "12", "--params", "5000", "--folder", str(folder)]

    def test_round(self, tmp_path: Path) -> None:
        """A real small federation gives every figure, whatever the machine makes of the target."""
        figures = measured("round", *self.size(tmp_path / "run"))
        assert figures["rounds measured"].value == 1
        assert figures["parameters"].value == pytest.approx(5000, rel=0.02)
        assert figures["uplink per agent and round"].value > 3000
        assert figures["largest RSS, trainers"].value > 50

    def test_interrupt_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Ctrl-C in the middle ends coordinator, agents, trainers and broker."""
        bench = subprocess.Popen(
            measuring("round", *self.size(tmp_path / "run"), "--rounds", "100000"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        family: list[psutil.Process] = []
        try:
            while len(family) < 6 and bench.poll() is None:  # with a trainer for each agent
                family = psutil.Process(bench.pid).children(recursive=True)
                time.sleep(0.05)
        finally:
            bench.send_signal(signal.SIGINT)
            told, _ = bench.communicate(timeout=60)
        assert bench.returncode == 130
        assert msgspec.json.decode(told)["ok"] is False
        assert [process for process in family if not gone(process.pid)] == []
