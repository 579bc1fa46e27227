# SPDX-License-Identifier: Apache-2.0
"""That the broker refuses messages is told, and not once for each of them."""

import threading

import pytest

from fedmill_shared.clock import ManualClock
from fedmill_shared.link.base import Rejection
from fedmill_shared.link.rejections import TOLD_SECONDS, Rejections

NO = Rejection("a/up/state", "Not authorized", "check the broker's ACL")
Told = list[tuple[Rejection, int]]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands."""
    return ManualClock()


@pytest.fixture
def told() -> Told:
    """What was told."""
    return []


@pytest.fixture
def rejections(clock: ManualClock, told: Told) -> Rejections:
    """It tells a list."""
    return Rejections(lambda rejection, count: told.append((rejection, count)), clock)


class TestRejections:
    def test_the_first_is_told_at_once(self, rejections: Rejections, told: Told) -> None:
        """What the broker has taken is nothing to tell."""
        rejections.hear(None)
        assert told == []
        rejections.hear(NO)
        assert told == [(NO, 1)]

    def test_the_others_are_counted(
        self, rejections: Rejections, clock: ManualClock, told: Told
    ) -> None:
        """The next line comes with the first one after a minute, with how many since the last."""
        for _ in range(100):
            rejections.hear(NO)
        clock.advance(TOLD_SECONDS)
        rejections.hear(None)
        assert told == [(NO, 1)]
        other = Rejection("a/up/block", "Quota exceeded", "raise it")
        rejections.hear(other)
        rejections.hear(NO)
        assert told == [(NO, 1), (other, 100)]

    def test_any_thread_may_hear(
        self, rejections: Rejections, clock: ManualClock, told: Told
    ) -> None:
        """Each is counted once."""

        def hear() -> None:
            for _ in range(1000):
                rejections.hear(NO)

        threads = [threading.Thread(target=hear) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clock.advance(TOLD_SECONDS)
        rejections.hear(NO)
        assert told == [(NO, 1), (NO, 4000)]
