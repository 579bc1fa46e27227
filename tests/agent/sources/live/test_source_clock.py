# SPDX-License-Identifier: Apache-2.0
"""Times of a source whose clock is wrong, jumps, or is nobody's business."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.agent.sources.live.scripted import block

from fedmill_agent.sources.live import Readings, reading
from fedmill_agent.sources.source_clock import JUMP_READINGS, LATEST_NS, SourceClock

SECOND = 10**9
HOUR = 3600 * SECOND
NOW = 1_700_000_000 * SECOND


def clock(kind: Any = "source", *, snapshot: bool = False) -> SourceClock:
    """Of a session that has just begun."""
    made = SourceClock(kind, snapshot, Counter())
    made.opened(NOW)
    return made


def told(it: SourceClock, tag: str, ahead: float, *, after: float = 0.0) -> int | None:
    """How far ahead of its arrival a value counts that claims to be ``ahead`` seconds."""
    arrived = NOW + round(after * SECOND)
    time = arrived + round(ahead * SECOND)
    found = it.timed(reading(tag, 1.0, time_ns=time, arrived_ns=arrived))
    return None if found is None else round((int(found.times_ns[0]) - arrived) / SECOND)


def old(it: SourceClock, ahead: float) -> Readings | None:
    """What a value of the past is made of that claims to be ``ahead`` seconds."""
    time = NOW + round(ahead * SECOND)
    return it.timed(replace(reading("a", 1.0, time_ns=time, arrived_ns=NOW), historical=True))


class TestHistory:
    """Values that a source kept while nobody listened."""

    def test_keep_their_times_and_say_nothing_of_the_clock(self) -> None:
        """The first live one is still the first; a clock that seems set is not set by them."""
        it = clock(snapshot=True)
        found = old(it, -7200)
        assert found is not None
        assert int(found.times_ns[0]) == NOW - 7200 * SECOND
        assert told(it, "a", -3600) == 0  # a snapshot's value of long ago counts from now on
        assert [told(it, "a", 7200) for _ in range(JUMP_READINGS - 1)].count(None) == 4
        assert old(it, -7200) is not None
        assert told(it, "a", 7200) == 7200
        assert it.dropped == {"clock": 4}

    def test_from_the_future(self) -> None:
        """Is no past: left out, however often it comes."""
        it = clock()
        assert [old(it, 7200) for _ in range(2 * JUMP_READINGS)] == [None] * 2 * JUMP_READINGS
        assert told(it, "a", 1) == 1
        assert it.dropped == {"clock": 2 * JUMP_READINGS}

    def test_before_1970(self) -> None:
        """Is none."""
        it = clock()
        assert old(it, -3 * NOW / SECOND) is None
        assert it.dropped == {"time": 1}

    def test_where_its_times_do_not_count(self) -> None:
        """There is no other time for it."""
        it = clock("arrival")
        assert old(it, -7200) is None
        assert it.dropped == {"historical": 1}


class TestSource:
    @pytest.mark.parametrize("ahead", [0, -5, 30, 59, -HOUR // SECOND, -10 * 365 * 86400])
    def test_its_own_times_count(self, ahead: int) -> None:
        """A little wrong, or long ago: nothing is changed."""
        it = clock()
        assert [told(it, "a", ahead) for _ in range(10)] == [ahead] * 10
        assert not it.dropped

    def test_one_value_from_the_future(self) -> None:
        """It would make all that follows late: it is left out."""
        it = clock()
        found = [told(it, "a", ahead) for ahead in (0, 7200, 0, 0, 7200, 7200, 0)]
        assert found == [0, None, 0, 0, None, None, 0]
        assert it.dropped == {"clock": 3}

    def test_a_clock_that_was_set_ahead(self) -> None:
        """After a few values in a row it is believed, and set right again at once."""
        it = clock()
        assert told(it, "a", 0) == 0
        found = [told(it, "a", 7200) for _ in range(JUMP_READINGS + 2)]
        assert found == [None] * (JUMP_READINGS - 1) + [7200] * 3
        assert told(it, "a", 1) == 1
        assert told(it, "a", 7200) is None

    def test_one_device_of_many(self) -> None:
        """A tag whose clock is wrong does not carry the others away, however often it comes."""
        it = clock()
        for n in range(200):
            assert told(it, "wrong", 7200, after=n / 10) is None
            assert told(it, f"right {n % 5}", 0, after=n / 10) == 0
        for n in range(200):
            assert told(it, "wrong", 7200, after=20 + n / 10) is None

    def test_all_others_rest(self) -> None:
        """Nothing else has come for a minute: then it is the clock."""
        it = clock()
        for tag in "bcdef":
            told(it, tag, 0)
        found = [told(it, "a", 7200, after=n) for n in range(80)]
        assert found[60] is None
        assert found[-1] == 7200

    @pytest.mark.parametrize("time", [-1, LATEST_NS, (1 << 63) - 1, -(1 << 63)])
    def test_no_time_at_all(self, time: int) -> None:
        """It is left out and counted; the rest of its message counts."""
        it = clock()
        assert it.timed(reading("a", 1.0, time_ns=time, arrived_ns=NOW)) is None
        mixed = block("a", NOW, [1.0, 2.0], arrived_ns=NOW)
        mixed.times_ns[0] = time
        found = it.timed(mixed)
        assert found is not None
        assert found.values.tolist() == [2.0]
        assert it.dropped == {"time": 2}

    def test_nothing(self) -> None:
        """A message without a value."""
        assert clock().timed(block("a", NOW, [])) is None

    def test_our_own_clock_was_wrong_at_the_start(self) -> None:
        """A gateway without a battery begins in 1970; then it learns the time."""
        it = clock()
        years = 50 * 365 * 86400
        found = [told(it, "a", years) for _ in range(JUMP_READINGS)]
        assert found[-1] == years
        assert [told(it, "a", 0) for _ in range(3)] == [0] * 3


class TestArrival:
    def test_the_newest_came_now(self) -> None:
        """Its neighbours are as far from it as they were."""
        found = clock("arrival").timed(block("a", 5 * SECOND, [1.0, 2.0, 3.0], arrived_ns=NOW))
        assert found is not None
        assert (NOW - found.times_ns).tolist() == [2 * SECOND, SECOND, 0]

    def test_any_clock_will_do(self) -> None:
        """Hours ahead, hours behind."""
        it = clock("arrival")
        assert [told(it, "a", ahead) for ahead in (7200, 0, -7200)] == [0, 0, 0]


class TestSnapshot:
    def test_what_stands_counts_from_the_beginning(self) -> None:
        """The first value of each tag, which may be a week old; not the second."""
        it = clock(snapshot=True)
        assert told(it, "a", -7 * 86400, after=2) == -2
        assert told(it, "b", -7 * 86400, after=3) == -3
        assert told(it, "a", -5, after=10) == -5

    def test_what_is_newer_stays(self) -> None:
        """It has come since, or the source's clock is ahead."""
        assert told(clock(snapshot=True), "a", 3, after=1) == 3

    def test_a_block_is_no_snapshot(self) -> None:
        """A stretch of values has times of its own."""
        old = block("a", NOW - HOUR, [1.0, 2.0], arrived_ns=NOW)
        found = clock(snapshot=True).timed(old)
        assert found is not None
        assert np.array_equal(found.times_ns, old.times_ns)

    def test_by_the_clock_of_the_source(self) -> None:
        """It is half a minute behind, as the session before has shown: so is what stands."""
        it = clock(snapshot=True)
        for _ in range(3):
            told(it, "a", -30, after=5)
        it.opened(NOW + 60 * SECOND)
        stands = reading("b", 1.0, time_ns=NOW - HOUR, arrived_ns=NOW + 61 * SECOND)
        found = it.timed(stands)
        assert isinstance(found, Readings)
        assert found.times_ns[0] == NOW + 30 * SECOND
