# SPDX-License-Identifier: Apache-2.0
"""Whoever waits for an acknowledgement is told once, whichever thread is first."""

from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.link.acknowledgements import Acknowledgements


class TestAcknowledgements:
    def test_the_usual_order(self) -> None:
        """Published, then acknowledged."""
        waiting, told = Acknowledgements(), list[int]()
        assert not waiting.enter(1, lambda: told.append(1))
        done = waiting.take(1)
        assert done is not None
        done()
        assert told == [1]

    def test_the_other_order(self) -> None:
        """Acknowledged before the publisher knows the number: it is told at once."""
        waiting = Acknowledgements()
        assert waiting.take(1) is None
        assert waiting.enter(1, lambda: None)
        assert not waiting.enter(1, lambda: None)  # the number is used again

    def test_nobody_waits(self) -> None:
        """A message without anybody to tell leaves nothing behind for the next of its number."""
        waiting = Acknowledgements()
        assert not waiting.enter(1, None)
        assert waiting.take(1) is None
        assert not waiting.enter(1, lambda: None)
        assert waiting.take(1) is not None

    @given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=30))
    def test_each_is_told_once(self, messages: list[tuple[int, bool]]) -> None:
        """Messages one after the other, with numbers that repeat, in either order."""
        waiting, told = Acknowledgements(), 0
        for number, early in messages:
            if early:
                assert waiting.take(number) is None
                told += waiting.enter(number, lambda: None)
            else:
                assert not waiting.enter(number, lambda: None)
                told += waiting.take(number) is not None
        assert told == len(messages)
        assert not waiting._awaited
        assert not waiting._early
