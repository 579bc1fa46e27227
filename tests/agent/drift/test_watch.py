# SPDX-License-Identifier: Apache-2.0
"""A watch learns what is usual, notices what is not, and has done what the job wants done."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec import json, to_builtins
from tests.agent.drift.kit import LENGTH, WIDTH, Plant, a_watched_job, steady, windows

from fedmill_agent import kept
from fedmill_agent.background import Background
from fedmill_agent.drift import keeping, signals
from fedmill_agent.drift.keeping import DriftState
from fedmill_agent.drift.told import DriftTold
from fedmill_agent.drift.watch import NO_FEATURES, Watch
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.predictions import Prediction

INPUT = 'watch = ["input"]\nreference_windows = 300\nblock_windows = 50\n'
Made = Callable[[str], Plant]


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Made]:
    """Makes a plant of a job with some lines below ``[drift]``."""
    made: list[Plant] = []

    def make(lines: str) -> Plant:
        made.append(Plant(a_watched_job(lines), tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


def armed(plant: Plant) -> Watch:
    """A watch that has learned from stored training and validation windows."""
    plant.add(steady(1, 300), "train")
    plant.add(steady(2, 300), "validation")
    watch = plant.watch()
    watch.observe(plant.scored(steady(3, 1)))
    plant.settle(watch)
    assert all(chart.standing == "quiet" for chart in watch.told().charts)
    assert not watch.told().waiting
    return watch


def recalibrated(plant: Made) -> tuple[Plant, Watch]:
    """A plant whose model was set anew after a shift by three deviations, and serves."""
    rig = plant(f'{INPUT}on_alarm = ["recalibrate"]\ncollect_windows = 100')
    watch = armed(rig)
    watch.observe(rig.scored(steady(5, 200, shift=3.0)))
    ((_, rig.vector, _),) = rig.proposed
    rig.version = "b" * 64
    return rig, watch


class TestLearning:
    def test_from_training_windows(self, plant: Made) -> None:
        """What comes in is compared with what the agent trains on, from the first window on."""
        rig = plant(INPUT)
        watch = armed(rig)
        assert rig.log.of("drift.armed") == [{"signal": "input", "windows": 300}]
        assert [chart.chart for chart in watch.told().charts] == [
            "input-ewma",
            "input-ks",
            "input-psi",
        ]

    def test_wide_features_have_a_shorter_reference(
        self, plant: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is held in memory and on disk: of 300 stored windows the newest 150 have room."""
        monkeypatch.setattr(signals, "MOST_NUMBERS", 150 * WIDTH)
        rig = plant('watch = ["representation"]\nreference_windows = 300')
        watch = armed(rig)
        assert rig.log.of("drift.armed") == [{"signal": "representation", "windows": 150}]
        _, features = rig.look(list(steady(2, 300)))
        assert features is not None
        reference = watch._signals["representation"].reference
        assert np.array_equal(reference, features[150:])

    def test_from_what_comes_where_nothing_is_stored(self, plant: Made) -> None:
        """Until there is enough of it, it says that it is learning."""
        rig = plant(INPUT)
        watch = rig.watch()
        assert watch.told().waiting == {"input": "no model scores yet"}
        watch.observe(rig.scored(steady(1, 200)))
        rig.settle(watch)
        watch.observe(rig.scored(steady(2, 200)))
        assert watch.told().waiting == {"input": "learns what is usual, 200 of 300 windows"}
        watch.observe(rig.scored(steady(3, 100)))
        rig.settle(watch)
        assert len(watch.told().charts) == 3

    def test_representation_is_off_where_the_graph_tells_no_features(self, plant: Made) -> None:
        """It says so instead of keeping quiet."""
        rig = plant('watch = ["representation"]')
        rig.telling = False
        watch = rig.watch()
        watch.observe(rig.scored(steady(1, 1)))
        rig.settle(watch)
        assert watch.told().waiting == {"representation": NO_FEATURES}

    def test_learning_is_done_a_little_at_a_time(self, plant: Made) -> None:
        """The daemon's loop goes on between portions of windows, and while charts are made."""
        rig = plant(INPUT)
        rig.add(steady(1, 300), "train")
        waiting: list[Callable[[], None]] = []
        at_once = Background().submit
        rig.submit = lambda work, done, failed: waiting.append(lambda: at_once(work, done, failed))
        watch = rig.watch()
        watch.observe(rig.scored(steady(3, 1)))
        real = rig.clock.monotonic

        def hurried() -> float:
            rig.clock.advance(0.015)
            return real()

        rig.clock.monotonic = hurried  # type: ignore[method-assign]
        watch.tick()
        assert watch.told().waiting
        assert not waiting
        for _ in range(20):
            watch.tick()
        assert watch.told().waiting, "nobody has calibrated yet"
        waiting.pop()()
        watch.tick()
        assert not watch.told().waiting
        assert not waiting


class TestNoticing:
    @pytest.mark.parametrize("name", ["input", "representation", "output"])
    def test_a_shift_is_an_alarm(self, plant: Made, name: str) -> None:
        """In whatever is watched."""
        rig = plant(f'watch = ["{name}"]\nreference_windows = 300\nblock_windows = 50')
        watch = armed(rig)
        watch.observe(rig.scored(steady(4, 100)))
        assert watch.told().standing != "alarmed"
        watch.observe(rig.scored(steady(5, 100, shift=2.0)))
        assert watch.told().standing == "alarmed"
        event = rig.log.of("drift.alarmed")[0]
        assert event["statistic"] > event["limit"] > 0
        assert event["windows"] > 100

    def test_it_names_what_has_changed(self, plant: Made) -> None:
        """People are to look at one sensor, not at all of them."""
        rig = plant(INPUT)
        watch = armed(rig)
        moved = steady(5, 60)
        moved[:, 1] += 4.0
        watch.observe(rig.scored(moved))
        assert {event["column"] for event in rig.log.of("drift.alarmed")} == {"stroke mean"}

    def test_a_wider_spread_is_an_alarm_too(self, plant: Made) -> None:
        """Though no mean has moved."""
        rig = plant(INPUT)
        watch = armed(rig)
        watch.observe(rig.scored(steady(5, 400, spread=2.0)))
        assert watch.told().standing == "alarmed"

    def test_errors_are_watched_where_the_truth_comes(self, plant: Made) -> None:
        """By predictions that were made before anybody knew."""
        rig = plant('watch = ["residual"]\nreference_windows = 200')
        values = steady(1, 200)
        made = windows(values, run="held")
        rig.store.add(made, "validation")
        rig.store.add_labels(_labels("held", values))
        watch = rig.watch()
        watch.observe(rig.scored(steady(3, 1)))
        rig.settle(watch)
        assert rig.log.of("drift.armed") == [{"signal": "residual", "windows": 200}]
        for run, wrong in (("right", False), ("wrong", True)):
            _predicted(rig, run, steady(7, 80), wrong=wrong)
            rig.clock.advance(31.0)
            watch.tick()
            assert (watch.told().standing == "alarmed") is wrong
        windows_seen = watch.told().charts[0].windows
        rig.clock.advance(31.0)
        watch.tick()
        assert watch.told().charts[0].windows == windows_seen, "nothing is counted twice"


class TestActing:
    def test_one_shift_one_round(self, plant: Made) -> None:
        """Several charts alarm, and go on alarming: the coordinator hears of it once."""
        rig = plant(INPUT)
        watch = armed(rig)
        for seed in range(5, 15):
            watch.observe(rig.scored(steady(seed, 50, shift=2.0)))
        assert len(rig.log.of("drift.alarmed")) == 3
        (wish,) = rig.wishes
        assert (wish.job, wish.kind) == ("press", "round")
        assert "input-ewma" in wish.reason
        assert wish.evidence["input_ewma"] > wish.evidence["limit"]
        assert rig.kept == [200], "the warning before had windows kept"
        assert [done.action for done in watch.told().acted] == ["collect", "round"]
        assert [event["action"] for event in rig.log.of("drift.acted")] == ["collect", "round"]

    def test_a_clock_that_is_set_back_ends_the_pause(self, plant: Made) -> None:
        """It would else last until that time comes again."""
        rig = plant(f"{INPUT}run_length = 2000\nwarn_run_length = 200\non_warning = []")
        watch = armed(rig)
        for _ in range(2):
            watch.observe(rig.scored(steady(5, 60, shift=2.0)))
            watch.observe(rig.scored(steady(6, 200)))
            rig.clock.advance(-86400.0)
        assert len(rig.wishes) == 2

    def test_a_second_shift_waits_for_the_pause(self, plant: Made) -> None:
        """Drift that comes and goes does not keep a fleet busy."""
        rig = plant(f"{INPUT}run_length = 2000\nwarn_run_length = 200\non_warning = []")
        watch = armed(rig)
        for _ in range(2):
            watch.observe(rig.scored(steady(5, 60, shift=2.0)))
            watch.observe(rig.scored(steady(6, 200)))
            assert watch.told().standing == "quiet"
        assert len(rig.wishes) == 1
        assert rig.log.of("drift.paused")
        rig.clock.advance(3601.0)
        watch.observe(rig.scored(steady(5, 60, shift=2.0)))
        assert len(rig.wishes) == 2

    def test_recalibration_undoes_a_change_of_scale(self, plant: Made) -> None:
        """The next windows, under the new standardisation, look to the model as before."""
        rig = plant(f'{INPUT}on_alarm = ["recalibrate"]\ncollect_windows = 300')
        watch = armed(rig)
        changed = steady(5, 400) * np.float32(1.1) + np.float32(3.0)
        watch.observe(rig.scored(changed))
        ((origin, vector, _),) = rig.proposed
        assert origin == "recalibrated"
        before = (steady(6, 400) - rig.vector[:2, None]) * rig.vector[2:4, None]
        after = (changed[100:] - vector[:2, None]) * vector[2:4, None]
        assert after.mean((0, 2)) == pytest.approx(before.mean((0, 2)), abs=0.15)
        assert after.std((0, 2)) == pytest.approx(before.std((0, 2)), rel=0.1)
        assert np.array_equal(vector[4:], rig.vector[4:]), "nothing else of the model has changed"

    def test_after_it_what_comes_is_usual(self, plant: Made) -> None:
        """The reference is learned anew from what the recalibrated model sees."""
        rig, watch = recalibrated(plant)
        watch.observe(rig.scored(steady(6, 1, shift=3.0)))
        assert watch.told().standing == "quiet"
        rig.settle(watch)
        watch.observe(rig.scored(steady(7, 300, shift=3.0)))
        rig.settle(watch)
        watch.observe(rig.scored(steady(8, 200, shift=3.0)))
        assert watch.told().standing == "quiet"
        watch.observe(rig.scored(steady(9, 100)))
        assert watch.told().standing == "alarmed", "the old state is now what differs"

    def test_another_model_ends_a_recalibration_that_waits(self, plant: Made) -> None:
        """What it has gathered is of the standardisation before."""
        rig = plant(f'{INPUT}on_alarm = ["recalibrate"]\ncollect_windows = 100')
        watch = armed(rig)
        watch.observe(rig.scored(steady(5, 60, shift=3.0)))
        assert watch.told().acted
        rig.version = "b" * 64
        watch.observe(rig.scored(steady(6, 200, shift=3.0)))
        assert rig.proposed == []

    def test_a_new_version_leaves_what_comes_in_as_it_is(self, plant: Made) -> None:
        """Rounds bring versions all day; the input does not change with them."""
        rig = plant(INPUT)
        watch = armed(rig)
        watch.observe(rig.scored(steady(5, 30)))
        rig.version = "b" * 64
        watch.observe(rig.scored(steady(6, 20)))
        assert {chart.windows for chart in watch.told().charts} == {50}

    @pytest.mark.parametrize("busy", [False, True])
    def test_roll_back(self, plant: Made, busy: bool) -> None:  # noqa: FBT001  a parameter
        """Goes with its evidence; where it is not possible, that is said and nothing counts."""
        rig = plant(f'{INPUT}on_alarm = ["rollback"]\non_warning = []')
        rig.busy = busy
        watch = armed(rig)
        watch.observe(rig.scored(steady(5, 60, shift=3.0)))
        assert len(rig.rolled_back) == (not busy)
        assert bool(watch.told().acted) is not busy
        assert bool(rig.log.of("drift.refused")) is busy

    def test_the_personal_model_takes_over(self, plant: Made, tmp_path: Path) -> None:
        """Where the agent has one."""
        job = a_watched_job(
            f'{INPUT}on_alarm = ["personal"]\non_warning = []\n[learning]\nditto = 0.1'
        )
        rig = Plant(job, tmp_path)
        watch = armed(rig)
        watch.observe(rig.scored(steady(5, 60, shift=3.0)))
        assert "not tuned a model" in str(rig.log.of("drift.refused"))
        watch.observe(rig.scored(steady(6, 300)))
        rig.own = rig.vector * 2
        watch.observe(rig.scored(steady(7, 60, shift=3.0)))
        assert [(origin, vector is rig.own) for origin, vector, _ in rig.proposed] == [
            ("personal", True)
        ]
        rig.close()


class TestTruth:
    def test_what_comes_while_charts_are_made_still_counts(self, plant: Made) -> None:
        """It is counted as soon as there are charts."""
        rig = plant('watch = ["residual"]\nreference_windows = 200')
        values = steady(1, 200)
        rig.store.add(windows(values, run="held"), "validation")
        rig.store.add_labels(_labels("held", values))
        background: list[Callable[[], None]] = []
        rig.submit = lambda work, done, _: background.append(lambda: done(work()))
        watch = rig.watch()
        watch.observe(rig.scored(steady(3, 1)))
        rig.settle(watch)
        assert "calibrated" in watch.told().waiting["residual"]
        _predicted(rig, "right", steady(7, 80), wrong=False)
        rig.clock.advance(31.0)
        watch.tick()
        background.pop()()
        for _ in range(2):
            rig.clock.advance(31.0)
            watch.tick()
        assert [chart.windows for chart in watch.told().charts] == [80]


class TestRestart:
    def test_goes_on_as_if_there_had_been_none(self, plant: Made) -> None:
        """The same windows, the same numbers to the last digit, the same alarm."""
        rig = plant('watch = ["input", "output", "representation"]\nreference_windows = 200')
        watch = armed(rig)
        watch.observe(rig.scored(steady(5, 37)))
        watch.keep()
        again = rig.watch()
        assert again.told() == watch.told()
        for seed, shift in ((6, 0.0), (7, 0.7), (8, 2.0)):
            scored = rig.scored(steady(seed, 61, shift=shift))
            watch.observe(scored)
            again.observe(scored)
            assert again.told().charts == watch.told().charts
        assert again.told().standing == "alarmed"

    def test_what_was_done_still_counts(self, plant: Made) -> None:
        """A restart does not shorten a pause, and says the same of the past."""
        rig = plant(INPUT)
        watch = armed(rig)
        watch.observe(rig.scored(steady(5, 100, shift=3.0)))
        watch.keep()
        again = rig.watch()
        assert again.told().acted == watch.told().acted
        again.observe(rig.scored(steady(6, 100, shift=3.0)))
        assert len(rig.wishes) == 1

    def test_the_reference_is_what_it_learned_from(self, plant: Made) -> None:
        """Stored windows that were too few for one are no part of it."""
        rig = plant(INPUT)
        rig.add(steady(1, 90, shift=5.0), "train")
        watch = rig.watch()
        watch.observe(rig.scored(steady(3, 1)))
        rig.settle(watch)
        watch.observe(rig.scored(steady(4, 300)))
        rig.settle(watch)
        watch.keep()
        state = kept.find(rig.folder / keeping.FILE, DriftState, watch._layout).kept
        assert state is not None
        assert state.reference is not None
        assert state.reference.count.array.tolist() == [300 * LENGTH]

    def test_an_alarm_outlives_it_while_others_still_learn(self, plant: Made) -> None:
        """No truth has come yet for months: a restart forgets nothing of what comes in."""
        rig = plant(f'{INPUT}on_alarm = ["round"]'.replace('"input"]', '"input", "residual"]'))
        rig.add(steady(1, 300), "train")
        watch = rig.watch()
        watch.observe(rig.scored(steady(3, 1)))
        rig.settle(watch)
        watch.observe(rig.scored(steady(5, 100, shift=3.0)))
        before = watch.told()
        assert before.standing == "alarmed"
        assert "residual" in before.waiting
        watch.keep()
        again = rig.watch()
        again.observe(rig.scored(steady(6, 10, shift=3.0)))
        rig.settle(again)
        again.observe(rig.scored(steady(7, 100, shift=3.0)))
        told = again.told()
        assert told.standing == "alarmed"
        assert {chart.windows for chart in told.charts} == {210}
        assert told.waiting == before.waiting
        assert len(rig.wishes) == 1

    def test_what_comes_is_usual_after_a_recalibration(self, plant: Made) -> None:
        """A restart in the middle of learning does not go back to windows of the old state."""
        rig, watch = recalibrated(plant)
        watch.observe(rig.scored(steady(6, 50, shift=3.0)))
        rig.settle(watch)
        watch.keep()
        again = rig.watch()
        again.observe(rig.scored(steady(7, 1, shift=3.0)))
        rig.settle(again)
        assert again.told().charts == []
        again.observe(rig.scored(steady(8, 300, shift=3.0)))
        rig.settle(again)
        again.observe(rig.scored(steady(9, 200, shift=3.0)))
        assert again.told().standing == "quiet"

    def test_a_recalibration_goes_on_waiting(self, plant: Made) -> None:
        """It has seen half of its windows, and something else has not learned yet."""
        lines = f'{INPUT}on_alarm = ["recalibrate"]\ncollect_windows = 100'
        rig = plant(lines.replace('"input"]', '"input", "residual"]'))
        rig.add(steady(1, 300), "train")
        watch = rig.watch()
        watch.observe(rig.scored(steady(3, 1)))
        rig.settle(watch)
        watch.observe(rig.scored(steady(5, 60, shift=3.0)))
        watch.keep()
        again = rig.watch()
        again.observe(rig.scored(steady(6, 60, shift=3.0)))
        assert [origin for origin, _, _ in rig.proposed] == ["recalibrated"]

    def test_a_damaged_file_is_set_aside(self, plant: Made) -> None:
        """It learns anew; nothing else is lost."""
        rig = plant(INPUT)
        watch = armed(rig)
        watch.keep()
        path = rig.folder / keeping.FILE
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        again = rig.watch()
        assert rig.log.of("drift.set_aside")
        again.observe(rig.scored(steady(3, 1)))
        rig.settle(again)
        assert len(again.told().charts) == 3

    def test_another_job_is_learned_anew(self, plant: Made) -> None:
        """A reference belongs to the job that it was made for."""
        armed(plant(INPUT)).keep()
        other = plant(f"{INPUT}run_length = 50000")
        assert other.watch().told().charts == []

    def test_nothing_is_written_for_each_window(self, plant: Made) -> None:
        """Flash memory wears out: the file is written when something was learned, and rarely."""
        rig = plant(INPUT)
        watch = armed(rig)
        path = rig.folder / keeping.FILE
        before = path.stat().st_mtime_ns
        for seed in range(20):
            watch.observe(rig.scored(steady(seed, 10)))
            rig.clock.advance(1.0)
            watch.tick()
        assert path.stat().st_mtime_ns == before
        rig.clock.advance(400.0)
        watch.tick()
        assert path.stat().st_mtime_ns > before


def test_what_is_told_can_be_read_again(plant: Made) -> None:
    """As the status file has it."""
    rig = plant(INPUT)
    watch = armed(rig)
    watch.observe(rig.scored(steady(5, 100, shift=3.0)))
    told = watch.told()
    assert json.decode(json.encode(told), type=DriftTold) == told
    assert to_builtins(told)["standing"] == "alarmed"


def _labels(run: str, values: np.ndarray, *, wrong: bool = False) -> list[LabelInterval]:
    """The class that the model of the plant names, or the other one."""
    worn = (values[:, 0].mean(1) < 100.0) != wrong
    made = windows(values, run=run)
    return [
        LabelInterval(run, window.start_ns, window.end_ns, "worn" if bad else "good")
        for window, bad in zip(made, worn, strict=True)
    ]


def _predicted(rig: Plant, run: str, values: np.ndarray, *, wrong: bool) -> None:
    """Windows that were scored and stored, and whose labels have come."""
    made, (outputs, _) = windows(values, run=run), rig.look(list(values))
    rig.store.add(made, "train")
    rig.store.add_predictions(
        [
            Prediction(w.run, w.end_ns, rig.version, row, 0, unit=w.unit, start_ns=w.start_ns)
            for w, row in zip(made, outputs, strict=True)
        ]
    )
    rig.store.add_labels(_labels(run, values, wrong=wrong))
