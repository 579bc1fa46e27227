# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.link.backoff import (
    LONGEST_SECONDS,
    STEADY_SECONDS,
    Backoff,
    full_jitter,
)

ENDS = st.tuples(st.floats(0, 3 * STEADY_SECONDS), st.booleans())


def _longest(wait: float) -> float:
    """Jitter that draws the longest wait."""
    return wait


class TestFullJitter:
    @given(longest=st.floats(0, LONGEST_SECONDS))
    def test_stays_within(self, longest: float) -> None:
        """From nothing to the longest wait."""
        assert 0 <= full_jitter(longest) <= longest

    def test_is_spread_evenly(self) -> None:
        """Of a thousand clients, some come back in every tenth of the time: no storm."""
        tenths = {int(full_jitter(10.0)) for _ in range(1000)}
        assert tenths >= set(range(10))


class TestBackoff:
    def test_doubles_up_to_half_a_minute(self) -> None:
        """While no connection can be made."""
        backoff = Backoff(_longest)
        assert [backoff.wait(0) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]

    @given(ends=st.lists(ENDS, max_size=40))
    def test_equals_the_closed_form(self, ends: list[tuple[float, bool]]) -> None:
        """min(30, 2^n), n attempts after the last good connection that nobody took over."""
        backoff, fresh = Backoff(_longest), 0
        for attempt, (lasted, taken_over) in enumerate(ends):
            if lasted >= STEADY_SECONDS and not taken_over:
                fresh = attempt
            expected = min(LONGEST_SECONDS, 2.0 ** (attempt - fresh))
            assert backoff.wait(lasted, taken_over=taken_over) == expected

    def test_the_first_loss_after_a_long_life(self) -> None:
        """Retries within the first step; a life that was too short goes on with the steps."""
        backoff = Backoff(_longest)
        lives = [0.0, 0.0, STEADY_SECONDS - 1, STEADY_SECONDS, 0.0, 86_400.0]
        assert [backoff.wait(lasted) for lasted in lives] == [1, 2, 4, 1, 2, 1]

    def test_two_under_one_name_give_way(self) -> None:
        """However long each holds the name, the pace at which it changes hands slows down."""
        backoff = Backoff(_longest)
        assert [backoff.wait(60.0, taken_over=True) for _ in range(6)] == [1, 2, 4, 8, 16, 30]

    @pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
    def test_jitter_is_asked_for_each_wait(self, part: float) -> None:
        """What it draws is waited; the steps are not shortened by it."""
        backoff = Backoff(lambda longest: part * longest)
        assert [backoff.wait(0) for _ in range(3)] == [part * 1, part * 2, part * 4]
