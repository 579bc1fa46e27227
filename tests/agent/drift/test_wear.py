# SPDX-License-Identifier: Apache-2.0
"""A machine that wears out is no drift: neither real engines nor made-up ones may alarm."""

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.agent.drift.kit import a_watched_job

from fedmill_agent.drift.charts import highest
from fedmill_agent.drift.detector import Array
from fedmill_agent.drift.normaliser import Normaliser
from fedmill_agent.drift.rows import input_names, input_row, output_row, wears
from fedmill_agent.drift.signals import Signal
from fedmill_agent.drift.trend import MOST_RUNS, Trends, detrended, step
from fedmill_shared.job import Job

SENSORS = [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21]
"""Those of C-MAPSS FD001 that move at all."""
LENGTH, CAP = 30, 125.0
Rows = list[tuple[str, Array]]


def a_life_job(signals: int, *, cap: float = CAP, reference: int = 3000) -> Job:
    """A job that foretells a remaining life from ``signals``."""
    told = "".join(
        f'[[signals]]\nname = "s{number}"\nunit = "g"\nrate_hz = 1.0\n' for number in range(signals)
    )
    text = (
        f'[job]\nname = "engine"\ntask = "regression"\n{told}[window]\nlength = {LENGTH}\n'
        f'[labels]\nunit = "h"\ncap = {cap}\n[model]\narchitecture = "mlp"\n'
    )
    return a_watched_job(f'watch = ["input", "output"]\nreference_windows = {reference}', job=text)


def learned(job: Job, name: str, rows: Rows) -> Signal:
    """A signal that watches, with ``rows`` as its reference."""
    names = input_names(job) if name == "input" else ["prediction"]
    signal = Signal(job, name, names, Trends() if wears(job) else None)
    signal.learn(lambda: iter([rows]))
    while signal.go_on():
        pass
    assert signal.charts
    return signal


def worst(signal: Signal, rows: Iterable[tuple[str, Array]]) -> list[str]:
    """The charts that alarmed at any time."""
    found: list[str] = []
    for run, row in rows:
        found += [change.chart for change in signal.see(run, row) if change.now == "alarmed"]
    return found


class TestEngines:
    """C-MAPSS FD001, which engines run to failure in."""

    @pytest.fixture
    def engines(self, data_folder: Path) -> dict[int, NDArray[np.float64]]:
        """Number -> sensors (14, cycles)."""
        path = data_folder / "cmapss" / "train_FD001.txt.gz"
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file)
        chosen = table[:, [4 + sensor for sensor in SENSORS]]
        return {int(n): chosen[table[:, 0] == n].T for n in np.unique(table[:, 0])}

    @pytest.fixture
    def rows(self, engines: dict[int, NDArray[np.float64]]) -> dict[str, dict[int, Rows]]:
        """Input and output rows of each engine, by a linear model of the first sixty."""
        first = np.hstack([engines[n] for n in range(1, 61)])
        normaliser = Normaliser(
            range(len(SENSORS)),
            [],
            first.mean(1)[None],
            1.0 / first.std(1)[None],
            np.zeros((1, 0)),
            np.zeros(0),
        )
        windows = {n: self._windows(values) for n, values in engines.items()}
        white = {
            n: [normaliser.standardise(each)[1] for each in found] for n, found in windows.items()
        }
        model = self._model({n: white[n] for n in range(1, 61)})
        job = a_life_job(len(SENSORS))
        return {
            "input": {n: [(str(n), input_row(each)) for each in white[n]] for n in white},
            "output": {
                n: [
                    (str(n), output_row(job, np.array([self._columns(each) @ model], np.float32)))
                    for each in white[n]
                ]
                for n in white
            },
        }

    @pytest.mark.parametrize("name", ["input", "output"])
    def test_engines_that_run_to_failure_never_alarm(
        self, rows: dict[str, dict[int, Rows]], name: str
    ) -> None:
        """Twenty of them, which the reference has not seen."""
        job = a_life_job(len(SENSORS))
        reference = [row for n in range(61, 81) for row in rows[name][n]][:3000]
        signal = learned(job, name, reference)
        assert worst(signal, [row for n in range(81, 101) for row in rows[name][n]]) == []

    def test_a_sensor_that_breaks_in_an_engine_alarms(
        self, rows: dict[str, dict[int, Rows]]
    ) -> None:
        """Wear goes slowly; two deviations at once do not come from it."""
        job = a_life_job(len(SENSORS))
        signal = learned(job, "input", [row for n in range(61, 81) for row in rows["input"][n]])
        healthy, broken = rows["input"][81][:80], rows["input"][81][80:140]
        assert worst(signal, healthy) == []
        moved = [(run, row + 2.0 * np.eye(len(row))[3]) for run, row in broken]
        assert worst(signal, moved) == ["input-ewma"]

    @staticmethod
    def _windows(values: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        ends = range(LENGTH, values.shape[1] + 1)
        return [values[:, end - LENGTH : end].astype(np.float32) for end in ends]

    @staticmethod
    def _columns(white: Array) -> Array:
        return np.concatenate((white.mean(1), white[:, -10:].mean(1), [1.0]))

    def _model(self, white: dict[int, list[Array]]) -> Array:
        columns = np.array([self._columns(each) for found in white.values() for each in found])
        life = np.concatenate([np.arange(len(found))[::-1] for found in white.values()])
        found: Array = np.linalg.lstsq(columns, np.minimum(life, CAP), rcond=None)[0]
        return found


class TestMadeUp:
    @pytest.mark.parametrize("windows", [1000, 5000])
    def test_a_slow_way_down_never_alarms(self, windows: int) -> None:
        """Though the reference is of a machine that was new all the time."""
        job = a_life_job(1, cap=500.0, reference=500)
        generator = np.random.default_rng(windows)
        new: Rows = [("a", np.array([each])) for each in generator.normal(200.0, 8.0, 500)]
        way = np.linspace(200.0, 0.0, windows) + generator.normal(0.0, 8.0, windows)
        signal = learned(job, "output", new)
        assert worst(signal, [("a", np.array([each])) for each in way]) == []

    def test_a_job_without_a_life_alarms_on_the_same(self) -> None:
        """There a slow change is what matters."""
        life = a_life_job(1, reference=500)
        job = a_watched_job(
            'watch = ["output"]\nreference_windows = 500',
            job=_without_cap(life),
        )
        assert not wears(job)
        generator = np.random.default_rng(1)
        signal = learned(
            job, "output", [("a", np.array([each])) for each in generator.normal(200.0, 8.0, 500)]
        )
        way = np.linspace(200.0, 100.0, 1000) + generator.normal(0.0, 8.0, 1000)
        assert worst(signal, [("a", np.array([each])) for each in way])
        assert highest([signal.standing]) == "alarmed"

    def test_a_step_on_the_way_alarms(self) -> None:
        """A model that says another life from one window to the next is not worn, but wrong."""
        job = a_life_job(1, cap=500.0, reference=500)
        generator = np.random.default_rng(3)
        new: Rows = [("a", np.array([each])) for each in generator.normal(200.0, 8.0, 500)]
        way = np.linspace(200.0, 100.0, 500) + generator.normal(0.0, 8.0, 500)
        way[300:] -= 40.0
        signal = learned(job, "output", new)
        rows = [("a", np.array([each])) for each in way]
        assert worst(signal, rows[:300]) == []
        assert worst(signal, rows[300:]) == ["output-ewma"]


class TestTrend:
    def test_a_straight_line_leaves_nothing_in_the_end(self) -> None:
        """However steep."""
        left = detrended(["a"] * 4000, np.linspace(0.0, 1e4, 4000)[:, None])
        assert abs(left[-1, 0]) < 1e-3
        assert left[0, 0] == 0.0

    def test_a_step_leaves_itself(self) -> None:
        """And fades."""
        rows = np.repeat([0.0, 1.0], 100)[:, None]
        left = detrended(["a"] * 200, rows)[:, 0]
        assert left[100] == 1.0
        assert abs(left[-1]) < 0.1

    def test_runs_have_trends_of_their_own(self) -> None:
        """Two machines in one stream, in any order, are as two streams."""
        first, second = np.random.default_rng(0).normal(size=(2, 50, 3))
        mixed = np.stack([first, second], 1).reshape(100, 3)
        left = detrended(["a", "b"] * 50, mixed)
        assert np.array_equal(left[::2], detrended(["a"] * 50, first))
        assert np.array_equal(left[1::2], detrended(["b"] * 50, second))

    def test_only_so_many_runs_are_remembered(self) -> None:
        """The one that was seen least recently is forgotten."""
        trends = Trends()
        for number in range(MOST_RUNS + 5):
            trends.step(f"run {number}", np.ones(1))
        assert len(trends.runs) == MOST_RUNS
        assert "run 4" not in trends.runs

    def test_nothing_is_changed_in_place(self) -> None:
        """A state that was kept stays what it was."""
        state = np.array([[1.0], [0.5], [50.0]])
        after, error = step(state, np.array([3.0]))
        assert state.tolist() == [[1.0], [0.5], [50.0]]
        assert error.tolist() == [1.5]
        assert after[:, 0] == pytest.approx([1.65, 0.5015, 51.0])

    def test_where_a_run_begins_is_no_news(self) -> None:
        """Engines differ; the level of one is the mean of its first windows."""
        left = detrended(["a"] * 12, np.array([[value] for value in (5.0, 7.0) * 6]))[:, 0]
        assert left[:10].tolist() == [0.0] * 10
        assert left[10] == pytest.approx(-1.0)


def _without_cap(job: Job) -> str:
    """The same job in words, of a number that is no life."""
    names: Sequence[str] = [signal.name for signal in job.signals]
    told = "".join(f'[[signals]]\nname = "{name}"\nunit = "g"\nrate_hz = 1.0\n' for name in names)
    return (
        f'[job]\nname = "engine"\ntask = "regression"\n{told}[window]\nlength = {LENGTH}\n'
        '[labels]\nunit = "h"\n[model]\narchitecture = "mlp"\n'
    )
