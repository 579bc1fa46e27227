# SPDX-License-Identifier: Apache-2.0
"""What a job asks of a live source: tags, a rate, and how much faster each tag comes."""

import pytest
from tests.agent.sources.live.scripted import ScriptedOptions

from fedmill_agent.sources.wanted import MOST_FACTOR, wanted_of
from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Signal


def options(**rates: float) -> ScriptedOptions:
    """A source whose signals come at these rates."""
    return ScriptedOptions(name="line", rates=rates)


def signals(**rates: float) -> list[Signal]:
    """Signals of a job, with their rates."""
    return [Signal(name=name, rate_hz=rate) for name, rate in rates.items()]


class TestFactors:
    def test_as_the_job_wants_it(self) -> None:
        """Nothing is said of rates: each tag comes as the job wants it."""
        wanted = wanted_of(options(), signals(a=10.0, b=10.0), ["tag a", "tag b"])
        assert (wanted.tags, wanted.rate_hz, wanted.factors) == (("tag a", "tag b"), 10.0, (1, 1))

    def test_faster_by_a_whole_factor(self) -> None:
        """One is filtered, the other is not; a little off is meant to be whole."""
        wanted = wanted_of(options(a=12_000.0, b=1000.5), signals(a=1000.0, b=1000.0), ["a", "b"])
        assert wanted.factors == (12, 1)

    @pytest.mark.parametrize("rate", [15.0, 5.0, 10.0 * (MOST_FACTOR + 1), 1e-3])
    def test_no_whole_factor(self, rate: float) -> None:
        """It is refused before anything is read, with what would do."""
        with pytest.raises(SchemaError, match=f"'a' comes at {rate:g} Hz.*10 Hz.*whole multiple"):
            wanted_of(options(a=rate), signals(a=10.0), ["a"])

    def test_a_slower_signal(self) -> None:
        """A job of several rates: one that is held may come as slowly as the job says."""
        job = signals(fast=100.0, slow=1.0)
        assert wanted_of(options(slow=1.0), job, ["f", "s"]).factors == (1, 1)
        assert wanted_of(options(slow=10.0), job, ["f", "s"]).factors == (1, 1)
        assert wanted_of(options(slow=200.0), job, ["f", "s"]).factors == (1, 2)
        with pytest.raises(SchemaError, match=r"'slow' comes at 0.1 Hz"):
            wanted_of(options(slow=0.1), job, ["f", "s"])

    def test_a_state_is_not_filtered(self) -> None:
        """A mean of two operating modes is none."""
        job = [Signal(name="mode", rate_hz=1.0, role="regime"), Signal(name="a", rate_hz=1.0)]
        assert wanted_of(options(mode=8.0, a=8.0), job, ["m", "a"]).factors == (1, 8)
