# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Callable

import pytest

from fedmill_agent.inbox import Inbox

PATIENCE = 20.0


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start ``work`` in a thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class TestOrder:
    def test_control_goes_before_bulk(self) -> None:
        """Each kind keeps its order; control overtakes whatever bulk waits."""
        inbox: Inbox[str] = Inbox(bulk_limit=4)
        inbox.put_bulk("bulk 1")
        inbox.put("control 1")
        inbox.put_bulk("bulk 2")
        inbox.put("control 2")
        taken = [inbox.get(0) for _ in range(5)]
        assert taken == ["control 1", "control 2", "bulk 1", "bulk 2", None]

    def test_control_is_not_bounded_by_bulk(self) -> None:
        """A full inbox takes control events without waiting."""
        inbox: Inbox[int] = Inbox(bulk_limit=1)
        inbox.put_bulk(0)
        for number in range(1, 100):
            inbox.put(number)
        assert [inbox.get(0) for _ in range(100)] == [*range(1, 100), 0]

    def test_waiting_reader_is_woken(self) -> None:
        """A reader that waits gets what another thread hands in."""
        inbox: Inbox[str] = Inbox(bulk_limit=1)
        taken: list[str | None] = []
        reader = in_thread(lambda: taken.append(inbox.get(PATIENCE)))
        inbox.put_bulk("late")
        reader.join(PATIENCE)
        assert taken == ["late"]


class TestBound:
    def test_full_inbox_blocks_its_producer(self) -> None:
        """The producer goes on once something was taken, and not before."""
        inbox: Inbox[int] = Inbox(bulk_limit=2)
        handed: list[int] = []

        def produce() -> None:
            for number in range(3):
                inbox.put_bulk(number)
                handed.append(number)

        producer = in_thread(produce)
        producer.join(0.05)
        assert producer.is_alive()
        assert len(handed) <= 2
        assert inbox.get(PATIENCE) == 0
        producer.join(PATIENCE)
        assert handed == [0, 1, 2]

    @pytest.mark.parametrize("producers", [1, 3])
    def test_close_frees_who_waits(self, producers: int) -> None:
        """They are told that nobody listens any more; so is everyone later."""
        inbox: Inbox[str] = Inbox(bulk_limit=1)
        assert inbox.put_bulk("first")
        answers: list[bool] = []
        threads = [
            in_thread(lambda: answers.append(inbox.put_bulk("too late"))) for _ in range(producers)
        ]
        inbox.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert answers == [False] * producers
        assert inbox.put_bulk("later still") is False
        assert [inbox.get(0), inbox.get(0)] == ["first", None]

    def test_nothing_is_lost_or_doubled_between_threads(self) -> None:
        """Every event of six producers arrives once, in the order of its producer."""
        inbox: Inbox[tuple[int, int]] = Inbox(bulk_limit=3)
        hand_in = [inbox.put_bulk] * 4 + [inbox.put] * 2

        def produce(who: int) -> None:
            for number in range(100):
                hand_in[who]((who, number))

        threads = [in_thread(lambda who=who: produce(who)) for who in range(6)]
        taken = [inbox.get(PATIENCE) for _ in range(600)]
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(taken) == [(who, number) for who in range(6) for number in range(100)]
        for who in range(6):
            mine = [event for event in taken if event is not None and event[0] == who]
            assert mine == sorted(mine)
