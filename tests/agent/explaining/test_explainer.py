# SPDX-License-Identifier: Apache-2.0
"""Why a model says what it says, in the words of signals and frequencies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.agent.explaining.test_occlusion import a_job

from fedmill_agent.explaining.explainer import (
    LONGEST_NAME,
    MOST_MACHINES,
    MOST_ROWS,
    REMEMBERED_BYTES,
    Explainer,
)
from fedmill_agent.explaining.explanation import UNEXPLAINED, Cause, Explanation
from fedmill_agent.explaining.words import band, sentence
from fedmill_agent.sources.base import Samples
from fedmill_agent.sources.mat import KIND, MatOptions
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Labels, Signal, Task
from fedmill_shared.job import Window as Cut
from fedmill_shared.signals.windows import Window

Values = NDArray[np.float32]
RATE = 12_000.0
LENGTH = 2048


def window(values: NDArray[np.floating], unit: str = "m") -> Window:
    """A window of one machine."""
    return Window("run", unit, 0, 1, values.astype(np.float32), 1.0, 0)


def constant(*levels: float, length: int = 8) -> Window:
    """Signals that stand still."""
    return window(np.repeat(np.array(levels)[:, None], length, axis=1))


def weighing(*weights: float) -> Callable[[Values], Values]:
    """Three logits: 0, 0, and the weighted sum of the signals' means."""

    def run(rows: Values) -> Values:
        total = (rows.mean(axis=2) * np.array(weights)).sum(axis=1)
        return np.stack([0 * total, 0 * total - 1e9, total], axis=1).astype(np.float32)

    return run


def explained(job: Job, run: Callable[[Values], Values], usual: Window, odd: Window) -> Explanation:
    """Why ``odd`` is broken, where ``usual`` was as usual."""
    explainer = Explainer(job, run, lambda _: None)
    explainer.note(usual)
    return explainer.explain(odd, ["broken"])


class TestSignals:
    def test_the_one_that_does_it_is_named(self) -> None:
        """With its share, by the weights of a linear model; what is small is left out."""
        job = a_job("force", "heat", "noise")
        found = explained(job, weighing(7, 2.5, 0.5), constant(0, 0, 0), constant(1, 1, 1))
        assert found.text == "force carries 70 % of it, heat 25 %"
        assert [cause.signal for cause in found.causes] == ["force", "heat"]
        assert found.causes[0].share == pytest.approx(0.7)

    def test_of_an_alarm_on_every_class_it_is_the_likely_one_that_counts(self) -> None:
        """That of the window, in every comparison: the odds of all classes would be endless."""
        explainer = Explainer(a_job("force", "heat"), weighing(7, 3), lambda _: None)
        explainer.note(constant(0, 0))
        found = explainer.explain(constant(1, 1), ["good", "worn", "broken"])
        assert found == explainer.explain(constant(1, 1), ["broken"])
        assert found.text == "force carries 70 % of it, heat 30 %"

    def test_where_no_single_one_does_that_is_said(self) -> None:
        """The largest are named all the same."""
        job = a_job("a", "b", "c", "d")
        found = explained(job, weighing(4, 3, 2, 1), constant(0, 0, 0, 0), constant(1, 1, 1, 1))
        assert found.text == "no single signal explains it: a carries 40 % of it, b 30 %, c 20 %"

    def test_many_that_each_do_little(self) -> None:
        """None is named."""
        names = [f"s{n}" for n in range(12)]
        found = explained(
            a_job(*names), weighing(*[1] * 12), constant(*[0] * 12), constant(*[1] * 12)
        )
        assert found.text == "no single signal explains it"
        assert found.causes == ()

    def test_signals_that_act_together(self) -> None:
        """Of three that it takes all of, none does anything alone: that is said."""

        def run(rows: Values) -> Values:
            product = 10 * rows.mean(axis=2).prod(axis=1)
            return np.stack([0 * product, product - 1e9, product], axis=1)

        found = explained(
            a_job("a", "b", "c", "d"), run, constant(0, 0, 0, 0), constant(1, 1, 1, 1)
        )
        assert "act together: one by one they make more than all" in found.text

    def test_two_that_say_the_same_share_it(self) -> None:
        """Without one of them the other would still raise it; both are named."""

        def run(rows: Values) -> Values:
            largest = 10 * rows.mean(axis=2).max(axis=1)
            return np.stack([0 * largest, largest - 1e9, largest], axis=1)

        found = explained(a_job("a", "b"), run, constant(0, 0), constant(1, 1))
        assert found.text == "a carries 50 % of it, b 50 %"

    @given(st.integers(15, 256), st.data())
    def test_one_of_very_many_is_found(self, count: int, data: st.DataObject) -> None:
        """By groups, and never with more rows than promised."""
        place = data.draw(st.integers(0, count - 1))
        weights = np.full(count, 1e-3)
        weights[place] = 9.0
        scored = []

        def run(rows: Values) -> Values:
            scored.append(len(rows))
            return weighing(*weights)(rows)

        job = a_job(*(f"s{n}" for n in range(count)))
        found = explained(job, run, constant(*[0] * count), constant(*[1] * count))
        named = found.causes[0].signal.split(" to ")
        assert f"s{place}" in named
        assert len(named) == 1 or count > 14 * 16
        assert sum(scored) <= MOST_ROWS <= 64

    def test_features_are_named(self) -> None:
        """Of the signal that carries most."""
        job = a_job("a", "b", length=64, steps=("time_statistics",))
        usual, odd = np.zeros((16, 1)), np.zeros((16, 1))
        odd[13] = 1.0
        found = explained(job, weighing(*np.ones(16)), window(usual), window(odd))
        assert found.text == "kurtosis of b carries all of it"
        assert found.causes == (Cause("b", pytest.approx(1.0), feature="kurtosis"),)

    def test_a_number(self) -> None:
        """Whichever way it went."""
        job = Job(
            job=Task(name="life", task="regression"),
            signals=[Signal(name="force"), Signal(name="heat")],
            labels=Labels(unit="h"),
        )
        explainer = Explainer(
            job, lambda rows: 90 - 3 * rows.mean(axis=2).sum(axis=1, keepdims=True), lambda _: None
        )
        explainer.note(constant(0, 0))
        found = explainer.explain(constant(9, 1), [])
        assert found.text == "force carries 90 % of it, heat 10 %"


class TestUsual:
    def test_before_any_window_was_usual_it_is_the_fleets_mean(self) -> None:
        """Where the model tells it; otherwise nothing is said."""
        job, run, odd = a_job("a", "b"), weighing(1, 3), constant(1, 1)
        levels = np.zeros((2, 8), np.float32)
        assert Explainer(job, run, lambda _: levels).explain(odd, ["broken"]).text.startswith("b ")
        assert Explainer(job, run, lambda _: None).explain(odd, ["broken"]) == UNEXPLAINED

    def test_each_machine_has_its_own(self) -> None:
        """What is usual for one may be odd for another."""
        explainer = Explainer(a_job("a", "b"), weighing(1, 1), lambda _: None)
        explainer.note(window(np.array([[5.0] * 8, [0.0] * 8]), "left"))
        explainer.note(window(np.array([[0.0] * 8, [5.0] * 8]), "right"))
        odd = np.array([[6.0] * 8, [6.0] * 8])
        assert explainer.explain(window(odd, "left"), ["broken"]).causes[0].signal == "b"
        assert explainer.explain(window(odd, "right"), ["broken"]).causes[0].signal == "a"

    def test_where_the_usual_says_the_same_nothing_is_claimed(self) -> None:
        """A model that always raises the alarm has no reason in the window."""
        found = explained(a_job("a", "b"), weighing(1, 1), constant(2, 2), constant(1, 1))
        assert found.text == "with usual values the model says the same"
        assert found.causes == ()

    def test_no_more_is_remembered_than_allowed(self) -> None:
        """Of many machines those that were seen last."""
        explainer = Explainer(a_job("a", length=65536), weighing(1), lambda _: None)
        for n in range(10):
            explainer.note(window(np.zeros((1, 65536)), f"m{n}"))
        assert sum(each.nbytes for each in explainer._usual.values()) <= REMEMBERED_BYTES
        assert list(explainer._usual) == ["m6", "m7", "m8", "m9"]

    def test_a_source_that_makes_up_machines(self) -> None:
        """Short windows take little room, and their names no more than that."""
        explainer = Explainer(a_job("a"), weighing(1), lambda _: None)
        for n in range(MOST_MACHINES + 50):
            explainer.note(window(np.zeros((1, 8)), f"{n:04}" + "m" * 10_000))
        assert len(explainer._usual) == MOST_MACHINES
        assert sum(map(len, explainer._usual)) <= MOST_MACHINES * LONGEST_NAME

    def test_what_tells_the_operating_condition_stays(self) -> None:
        """It is no reason: the model is to know nothing of it."""
        job = Job(
            job=Task(name="rig"),
            signals=[Signal(name="a"), Signal(name="speed", role="regime")],
            window=Cut(length=8, normalise="regime"),
            labels=Labels(classes=["good", "worn", "broken"]),
        )
        found = explained(job, weighing(1, 100), constant(0, 0), constant(1, 50))
        assert found.causes == (Cause("a", pytest.approx(1.0)),)

    def test_a_model_that_fails(self) -> None:
        """It is the caller's to tell."""

        def fails(_: Values) -> Values:
            raise ModelError("no model version scores yet")

        with pytest.raises(ModelError):
            explained(a_job("a"), fails, constant(0), constant(1))


VIBRATION = a_job("vibration", rate=RATE, length=LENGTH)
TIMES = np.arange(LENGTH) / RATE


def louder(rows: Values) -> Values:
    """A model that knows only how loud it is, and of no frequency."""
    power = 3 * np.log(np.square(rows).mean(axis=(1, 2)) + 1e-12)
    return np.stack([0 * power, 0 * power - 1e9, power], axis=1).astype(np.float32)


def frequencies(found: Explanation) -> tuple[float, float]:
    """The band that is named."""
    [cause] = found.causes
    assert cause.signal == "vibration"
    assert cause.low is not None
    assert cause.high is not None
    assert cause.unit == "Hz"
    return cause.low, cause.high


def recorded(folder: Path, name: str, file_hz: float) -> NDArray[np.float32]:
    """Windows (n, length) of one recording of CWRU."""
    path = str(folder / "cwru" / f"{name}.mat")
    options = MatOptions(name="x", path=path, rate_hz=file_hz)
    found = KIND.read(options, ["*_DE_time"], RATE)
    values = np.concatenate([each.values[0] for each in found if isinstance(each, Samples)])
    return values[: len(values) // LENGTH * LENGTH].reshape(-1, LENGTH).astype(np.float32)


class TestBands:
    @pytest.mark.parametrize("hertz", [30.0, 180.0, 2437.0, 2624.9, 5990.0])
    def test_a_tone_is_found(self, hertz: float) -> None:
        """Wherever it is: within a band of two sixteenths of the spectrum."""
        noise = np.random.default_rng(0).normal(0, 0.1, (2, LENGTH))
        odd = noise[1] + 2.0 * np.sin(2 * np.pi * hertz * TIMES)
        low, high = frequencies(explained(VIBRATION, louder, window(noise[:1]), window(odd[None])))
        assert low - 3 <= hertz <= high + 3
        assert high - low <= 2 * 380

    def test_it_is_told_in_kilohertz(self) -> None:
        """In one sentence."""
        noise = np.random.default_rng(0).normal(0, 0.1, (2, LENGTH))
        odd = noise[1] + 2.0 * np.sin(2 * np.pi * 2450.0 * TIMES)
        found = explained(VIBRATION, louder, window(noise[:1]), window(odd[None]))
        assert found.text == "vibration at 2.2-2.6 kHz carries 98 % of it"

    def test_what_is_louder_everywhere_has_no_band(self) -> None:
        """The signal as a whole is named."""
        noise = np.random.default_rng(0).normal(0, 0.1, (2, LENGTH))
        found = explained(VIBRATION, louder, window(noise[:1]), window(5 * noise[1:]))
        assert found.text == "vibration carries all of it"

    @pytest.mark.parametrize("hertz", [700.0, 2450.0, 4100.0])
    def test_a_tone_in_a_real_bearing(self, data_folder: Path, hertz: float) -> None:
        """Added to what a healthy bearing of the CWRU recordings sounds like."""
        healthy = recorded(data_folder, "normal/Normal_0", 48_000.0)
        odd = healthy[7] + 0.4 * np.sin(2 * np.pi * hertz * TIMES)
        low, high = frequencies(
            explained(VIBRATION, louder, window(healthy[:1]), window(odd[None]))
        )
        assert low <= hertz <= high
        assert high - low < 800

    def test_a_real_fault(self, data_folder: Path) -> None:
        """What an inner race with a pit makes louder is the resonance between 2 and 4 kHz."""
        healthy = recorded(data_folder, "normal/Normal_0", 48_000.0)
        faulty = recorded(data_folder, "12k_DE/IR007_0", RATE)
        for odd in faulty[:5]:
            low, high = frequencies(
                explained(VIBRATION, louder, window(healthy[:1]), window(odd[None]))
            )
            assert 1800 <= low < high <= 4200


class TestWords:
    @pytest.mark.parametrize(
        ("low", "high", "unit", "text"),
        [
            (0.0, 372.0, "Hz", "0-372 Hz"),
            (2247.0, 2622.0, "Hz", "2.2-2.6 kHz"),
            (2240.0, 2290.0, "Hz", "2.24-2.29 kHz"),
            (1.5, 4.75, "orders", "1.5-4.8 orders"),
            (0.0, 62.5, "orders", "0-62 orders"),
            (3.0, 9.0, "Hz", "3.0-9.0 Hz"),
        ],
    )
    def test_bands(self, low: float, high: float, unit: str, text: str) -> None:
        """As exact as they are wide."""
        assert band(low, high, unit) == text

    @given(
        st.lists(
            st.builds(Cause, signal=st.text(max_size=400), share=st.floats(-10, 10)), max_size=3
        ),
        st.floats(-10, 10),
    )
    def test_any_causes(self, causes: list[Cause], explained: float) -> None:
        """A sentence of bounded length."""
        assert 0 < len(sentence(causes, explained)) < 400
