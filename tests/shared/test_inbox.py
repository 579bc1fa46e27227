# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.inbox import Inbox

PATIENCE = 20.0


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start ``work`` in a thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class TestOrder:
    def test_the_lowest_lane_goes_first(self) -> None:
        """Each lane keeps its order; a lower one overtakes whatever waits above."""
        inbox: Inbox[str] = Inbox([0, 4, 4])
        for event, lane in (("c1", 2), ("b1", 1), ("a1", 0), ("c2", 2), ("a2", 0), ("b2", 1)):
            assert inbox.put(event, lane)
        taken = [inbox.get(0) for _ in range(7)]
        assert taken == ["a1", "a2", "b1", "b2", "c1", "c2", None]

    @given(lanes=st.lists(st.none() | st.integers(0, 2), max_size=30))
    def test_equals_a_sorted_list(self, lanes: list[int | None]) -> None:
        """Hand in and take (None) in any order: always the least of (lane, age)."""
        inbox: Inbox[tuple[int, int]] = Inbox([0, 30, 30])
        waiting: list[tuple[int, int]] = []
        for age, lane in enumerate(lanes):
            if lane is None:
                expected = min(waiting, default=None)
                assert inbox.get(0) == expected
                waiting = [event for event in waiting if event != expected]
            else:
                inbox.put((lane, age), lane)
                waiting.append((lane, age))

    def test_an_unbounded_lane_never_waits(self) -> None:
        """Neither for what it holds itself, nor for full lanes above."""
        inbox: Inbox[int] = Inbox([0, 1])
        inbox.put(0, 1)
        for number in range(1, 100):
            inbox.put(number, 0)
        assert [inbox.get(0) for _ in range(100)] == [*range(1, 100), 0]

    def test_waiting_reader_is_woken(self) -> None:
        """A reader that waits gets what another thread hands in, and None if it is closed."""
        inbox: Inbox[str] = Inbox([0, 1])
        taken: list[str | None] = []
        for hand_in in (lambda: inbox.put("late", 1), inbox.close):
            reader = in_thread(lambda: taken.append(inbox.get(PATIENCE)))
            hand_in()
            reader.join(PATIENCE)
            assert not reader.is_alive()
        assert taken == ["late", None]


class TestBound:
    def test_full_lane_blocks_its_producer(self) -> None:
        """The producer goes on once something of its lane was taken, and not before."""
        inbox: Inbox[int] = Inbox([1, 2])
        handed: list[int] = []

        def produce() -> None:
            for number in range(3):
                inbox.put(number, 1)
                handed.append(number)

        producer = in_thread(produce)
        producer.join(0.05)
        assert producer.is_alive()
        assert len(handed) <= 2
        inbox.put(-1, 0)
        assert inbox.get(PATIENCE) == -1
        producer.join(0.05)
        assert producer.is_alive()
        assert inbox.get(PATIENCE) == 0
        producer.join(PATIENCE)
        assert handed == [0, 1, 2]

    @pytest.mark.parametrize("producers", [1, 3])
    def test_close_frees_who_waits(self, producers: int) -> None:
        """They are told that nobody listens any more; so is everyone later, whatever the lane."""
        inbox: Inbox[str] = Inbox([0, 1])
        assert inbox.put("first", 1)
        answers: list[bool] = []
        threads = [
            in_thread(lambda: answers.append(inbox.put("too late", 1))) for _ in range(producers)
        ]
        inbox.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert answers == [False] * producers
        assert [inbox.put("later still", lane) for lane in (0, 1)] == [False, False]
        assert [inbox.get(PATIENCE), inbox.get(PATIENCE)] == ["first", None]

    def test_nothing_is_lost_or_doubled_between_threads(self) -> None:
        """Every event of six producers arrives once, in the order of its producer."""
        inbox: Inbox[tuple[int, int]] = Inbox([0, 3, 2])

        def produce(who: int) -> None:
            for number in range(100):
                inbox.put((who, number), who % 3)

        threads = [in_thread(lambda who=who: produce(who)) for who in range(6)]
        taken = [inbox.get(PATIENCE) for _ in range(600)]
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(taken) == [(who, number) for who in range(6) for number in range(100)]
        for who in range(6):
            mine = [event for event in taken if event is not None and event[0] == who]
            assert mine == sorted(mine)
