# SPDX-License-Identifier: Apache-2.0
"""Blocks asked for a window at a time, over a line that may lose or repeat some."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.link.blocks import TRANSFER_WINDOW
from fedmill_shared.link.pull import SILENCE_SECONDS, Pull


class TestAsk:
    def test_a_window_at_most(self) -> None:
        """The first of those that are missing."""
        pull = Pull(0.0)
        assert pull.ask(range(3, 100), 0.0) == list(range(3, 3 + TRANSFER_WINDOW))
        assert pull.ask([7, 5], 0.0) == [7, 5]

    def test_what_is_handed_out_is_not_ours(self) -> None:
        """A caller may do with it what it likes."""
        pull = Pull(0.0)
        pull.ask([1, 2], 0.0).clear()
        assert not pull.arrived(1, 0.0)
        assert pull.arrived(2, 0.0)

    def test_counts_those_that_stay_unanswered(self) -> None:
        """Any block that comes is an answer."""
        pull = Pull(0.0)
        for times in (1, 2, 3):
            pull.ask([0, 1], 0.0)
            assert pull.unanswered == times
        pull.arrived(0, 0.0)
        assert pull.unanswered == 0


class TestArrived:
    def test_the_last_of_a_window_ends_it(self) -> None:
        """What has not come before it is lost: blocks come in order."""
        pull = Pull(0.0)
        pull.ask([0, 1, 2], 0.0)
        assert [pull.arrived(0, 0.0), pull.arrived(2, 0.0)] == [False, True]

    def test_so_does_the_last_one_that_was_missing(self) -> None:
        """In whatever order they came."""
        pull = Pull(0.0)
        pull.ask([2, 0, 1], 0.0)
        assert [pull.arrived(index, 0.0) for index in (0, 2, 1)] == [False, False, True]

    def test_a_block_that_nobody_asked_for_ends_nothing(self) -> None:
        """Nor does one that comes twice."""
        pull = Pull(0.0)
        assert not pull.arrived(5, 0.0)
        pull.ask([0, 1], 0.0)
        assert not pull.arrived(9, 0.0)
        assert not pull.arrived(0, 0.0)
        assert not pull.arrived(0, 0.0)
        assert pull.arrived(1, 0.0)
        assert not pull.arrived(1, 0.0)


class TestSilent:
    def test_two_seconds_without_a_block(self) -> None:
        """Since it was asked, or since the last one came."""
        pull = Pull(10.0)
        assert not pull.silent(10.0 + SILENCE_SECONDS - 0.1)
        assert pull.silent(10.0 + SILENCE_SECONDS)
        pull.ask([0, 1], 20.0)
        assert not pull.silent(21.0)
        pull.arrived(0, 21.0)
        assert not pull.silent(20.0 + SILENCE_SECONDS)
        assert pull.silent(21.0 + SILENCE_SECONDS)


class TestTransfer:
    @given(
        count=st.integers(1, 40),
        lost=st.sets(st.integers(0, 120), max_size=60),
        twice=st.sets(st.integers(0, 120), max_size=20),
    )
    def test_ends_whatever_is_lost(self, count: int, lost: set[int], twice: set[int]) -> None:
        """Each window is asked for once its last block came or nothing did, and never before."""
        pull, now, sent, windows = Pull(0.0), 0.0, 0, 0
        missing = list(range(count))
        line = deque(pull.ask(missing, now))
        while missing:
            if not line:  # a lost last block is noticed by the silence behind it
                now += SILENCE_SECONDS
                assert pull.silent(now)
                line.extend(pull.ask(missing, now))
                windows += 1
                continue
            index, number = line.popleft(), sent
            sent += 1
            if number in lost:
                continue
            if number in twice:
                line.appendleft(index)
            if index in missing:
                missing.remove(index)
            if pull.arrived(index, now) and missing:
                assert set(line) <= {index}
                line.extend(pull.ask(missing, now))
                windows += 1
        assert windows <= count + len(lost)
