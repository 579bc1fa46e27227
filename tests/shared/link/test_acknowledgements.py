# SPDX-License-Identifier: Apache-2.0
"""Whoever waits for an answer is told once, whichever thread is first."""

from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.link.acknowledgements import Acknowledgements


class TestAcknowledgements:
    def test_the_usual_order(self) -> None:
        """Published, then answered."""
        waiting, told = Acknowledgements[str](), list[str]()
        waiting.enter(1, told.append)
        assert told == []
        waiting.take(1, "taken")
        assert told == ["taken"]

    def test_the_other_order(self) -> None:
        """Answered before the publisher knows the number: it is told at once, and what was said."""
        waiting, told = Acknowledgements[str](), list[str]()
        waiting.take(1, "refused")
        waiting.enter(1, told.append)
        assert told == ["refused"]
        waiting.enter(1, told.append)  # the number is used again
        assert told == ["refused"]

    def test_nobody_waits(self) -> None:
        """A message without anybody to tell leaves nothing behind for the next of its number."""
        waiting, told = Acknowledgements[str](), list[str]()
        waiting.enter(1, None)
        waiting.take(1, "refused")
        waiting.take(1, "refused")
        waiting.enter(1, None)
        waiting.enter(1, told.append)
        assert told == []
        waiting.take(1, "taken")
        assert told == ["taken"]

    def test_who_is_told_may_publish_again(self) -> None:
        """Nothing is held while it is told, whichever was first."""
        waiting, told = Acknowledgements[str](), list[str]()
        waiting.enter(1, lambda _: waiting.enter(1, told.append))
        waiting.take(1, "refused")
        waiting.take(1, "taken")
        waiting.take(2, "refused")
        waiting.enter(2, lambda _: waiting.enter(2, told.append))
        waiting.take(2, "taken")
        assert told == ["taken", "taken"]

    @given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=30))
    def test_each_is_told_once(self, messages: list[tuple[int, bool]]) -> None:
        """Messages one after the other, with numbers that repeat, in either order."""
        waiting, told = Acknowledgements[int](), list[int]()
        for answer, (number, early) in enumerate(messages):
            if early:
                waiting.take(number, answer)
                waiting.enter(number, told.append)
            else:
                waiting.enter(number, told.append)
                waiting.take(number, answer)
        assert told == list(range(len(messages)))
        assert not waiting._awaited
        assert not waiting._early
