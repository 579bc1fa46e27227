# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import Any

import pytest

from fedmill_agent.cli.observe import Look, Seen
from fedmill_agent.cli.verdict import Mapped, faults_of, line_of
from fedmill_agent.sources.live import LiveOptions, PolledOptions
from fedmill_shared.job import Signal

SECOND = 10**9


class Pushed(LiveOptions, frozen=True, kw_only=True, tag="pushed"):
    """A source that says values by itself."""


class Polled(PolledOptions, frozen=True, kw_only=True, tag="polled"):
    """A source that is asked."""


def seen(low: float = 20.0, high: float = 21.0, rate_hz: float = 1.0, **changes: Any) -> Seen:
    """Ten good values."""
    fields = {
        "batches": 10,
        "values": 10,
        "good": 10,
        "low": low,
        "high": high,
        "last": high,
        "first_ns": SECOND,
        "last_ns": SECOND + round(9 * SECOND / rate_hz),
    }
    return Seen(**(fields | changes))


def mapped(**signal: Any) -> Mapped:
    """A temperature in degC, from a source that has it so."""
    made = Signal(**({"name": "temperature", "unit": "degC"} | signal))
    return Mapped("temperature", "T1", "degC", signal=made)


def faults(
    found: Seen, what: Mapped | None = None, options: LiveOptions | None = None, **problems: str
) -> list[str]:
    """What is wrong with the one tag."""
    look = Look({"T1": found}, problems=problems, seconds=8.0)
    return list(faults_of(options or Pushed(name="line"), what or mapped(), look))


class TestLine:
    def test_a_good_signal(self) -> None:
        """Newest value and extent in the job's unit, rate, and share of good values."""
        what = Mapped("temperature", "T1", "degF", 5 / 9, -160 / 9, mapped().signal)
        line = line_of(what, Look({"T1": seen(68.0, 77.0)}))
        assert (
            line == "temperature          tag T1               25 degC, 20 to 25; 1 Hz, 100 % good"
        )

    def test_without_a_job_in_the_unit_of_the_source(self) -> None:
        """As the configuration has it."""
        line = line_of(Mapped("speed", "T1", "rpm"), Look({"T1": seen(1500, 1500)}))
        assert "1500 rpm; 1 Hz" in line

    def test_what_is_no_number(self) -> None:
        """The text itself is shown."""
        found = seen(good=0, text="Run", values=2, batches=2)
        assert "no number ('Run'); 2 values, 0 % good" in line_of(mapped(), Look({"T1": found}))

    def test_nothing_came(self) -> None:
        """It is said."""
        assert "nothing good; 0 values, nothing came" in line_of(mapped(), Look({"T1": Seen()}))

    def test_stale_values_are_counted(self) -> None:
        """Beside the share of good ones."""
        found = seen(good=5, stale=5)
        assert "50 % good, 5 stale" in line_of(mapped(), Look({"T1": found}))


class TestFaults:
    def test_a_good_signal_has_none(self) -> None:
        """Right unit, rate and clock."""
        assert faults(seen(), mapped(range=[0.0, 100.0])) == []

    def test_a_missing_tag_with_the_reason_of_the_source(self) -> None:
        """The other side knows best."""
        (fault,) = faults(Seen(), T1="there is no such node; browse with discover")
        assert fault == "tag 'T1': there is no such node; browse with discover"

    def test_a_silent_tag(self) -> None:
        """It may exist and not change."""
        (fault,) = faults(Seen())
        assert "nothing came in 8 s" in fault

    @pytest.mark.parametrize(
        ("found", "told"),
        [
            (seen(good=0), "all values are bad"),
            (seen(good=0, text="Run"), "no numbers ('Run')"),
        ],
    )
    def test_only_bad_values(self, found: Seen, told: str) -> None:
        """Bad quality and texts are told apart."""
        (fault,) = faults(found)
        assert told in fault

    @pytest.mark.parametrize(
        ("low", "high", "told"),
        [
            (293.0, 294.0, "does the source have it in K?"),
            (68.0, 77.0, "does the source have it in degF?"),
            (2000.0, 2100.0, "with a scale of 0.01 under `scales`"),
            (1e20, 1e21, "the order of bytes and words"),
        ],
    )
    def test_a_wrong_unit_or_scale_is_guessed(self, low: float, high: float, told: str) -> None:
        """Whatever would make the values plausible."""
        (fault,) = faults(seen(low, high), mapped(range=[15.0, 30.0]))
        assert "outside 15 to 30 degC" in fault
        assert told in fault

    def test_another_order_of_bytes_is_named_first(self) -> None:
        """With the value that it would give, in the unit of the job."""
        what = Mapped(
            "temperature", "T1", "degF", 5 / 9, -160 / 9, mapped(range=[15.0, 30.0]).signal
        )
        look = Look({"T1": seen(4e7, 4e7)}, suspects={"T1": [("CDAB", 68.0), ("DCBA", 80.0)]})
        (fault,) = faults_of(Pushed(name="line"), what, look)
        assert fault.endswith("; read as CDAB it would be 20: correct its order")
        assert what.plausible == pytest.approx((59.0, 86.0))

    def test_guesses_go_by_what_is_configured(self) -> None:
        """A scale is given whole, and a unit is tried with the scale that there is."""
        what = Mapped("temperature", "T1", "degC", 0.1, signal=mapped(range=[15.0, 30.0]).signal)
        scaled = replace(what, scale=0.1)
        (fault,) = faults(seen(2000.0, 2100.0), scaled)
        assert "with a scale of 0.01 under `scales` it would fit" in fault
        (fault,) = faults(seen(680.0, 770.0), scaled)
        assert "does the source have it in degF?" in fault

    def test_a_scale_of_nothing_has_no_bounds(self) -> None:
        """Nothing that the source can say would be plausible."""
        assert replace(mapped(range=[15.0, 30.0]), factor=0.0).plausible is None

    def test_partly_implausible(self) -> None:
        """Some of the values may be right."""
        (fault,) = faults(seen(20.0, 1e9), mapped(range=[15.0, 30.0]))
        assert "is in part outside" in fault

    def test_too_slow_for_the_job(self) -> None:
        """Every other sample would be missing."""
        (fault,) = faults(seen(rate_hz=0.5))
        assert "comes at 0.5 Hz, the job wants 1 Hz: windows would have gaps" in fault

    @pytest.mark.parametrize(
        "options",
        [Pushed(name="line", hold_seconds=3.0), Polled(name="line", interval_seconds=2.0)],
    )
    def test_slow_values_that_count_long_enough(self, options: LiveOptions) -> None:
        """They are held until the next one comes."""
        assert faults(seen(rate_hz=0.5), options=options) == []

    def test_faster_than_the_job(self) -> None:
        """Without a filter it would alias."""
        (fault,) = faults(seen(rate_hz=50.0))
        assert "write rates = { temperature = 50 }" in fault
        told = Pushed(name="line", rates={"temperature": 50.0})
        assert faults(seen(rate_hz=50.0), options=told) == []

    def test_a_clock_ahead(self) -> None:
        """An hour, as by a wrong time zone; unless the times of arrival count."""
        (fault,) = faults(seen(skew_ns=3600 * SECOND))
        assert "3600 s ahead" in fault
        told = Pushed(name="line", clock="arrival")
        assert faults(seen(skew_ns=3600 * SECOND), options=told) == []
