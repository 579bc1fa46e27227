# SPDX-License-Identifier: Apache-2.0
import threading
from queue import SimpleQueue
from typing import Any

import pytest

from fedmill_agent.background import STUCK_SECONDS, Background
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ModelError


def fail() -> None:
    """As work does."""
    raise ModelError("no")


class TestBackground:
    def test_results_come_back_on_the_loop_in_order(self) -> None:
        """Work is done elsewhere, one piece after the other; the thread goes when there is none."""
        calls: SimpleQueue[Any] = SimpleQueue()
        background, found = Background(calls.put), []
        here = threading.current_thread()

        def where() -> str:
            assert threading.current_thread() is not here
            return threading.current_thread().name

        for _ in range(3):
            background.submit(where, found.append, lambda error: found.append(str(error)))
        background.submit(fail, found.append, lambda error: found.append(str(error)))
        for _ in range(4):
            calls.get(timeout=10.0)()
        assert found == ["background"] * 3 + ["no"]
        background.close()
        assert "background" not in {thread.name for thread in threading.enumerate()}

    def test_too_little_memory_is_told(self) -> None:
        """Whoever waits for it would wait for ever."""
        found: list[str] = []

        def huge() -> None:
            raise MemoryError

        Background().submit(huge, found.append, lambda error: found.append(str(error)))
        assert found == ["there is too little memory for it"]

    def test_a_closed_one_does_nothing_more(self) -> None:
        """What waits is dropped, what is being done is waited for."""
        calls: SimpleQueue[Any] = SimpleQueue()
        background, begun, go = Background(calls.put), threading.Event(), threading.Event()
        done: list[int] = []

        def slowly() -> int:
            begun.set()
            assert go.wait(10.0)
            return 1

        background.submit(slowly, done.append, fail)
        background.submit(lambda: 2, done.append, fail)
        assert begun.wait(10.0)
        closing = threading.Thread(target=background.close)
        closing.start()
        while background._work:
            pass
        go.set()
        closing.join(10.0)
        calls.get(timeout=10.0)()
        background.submit(lambda: 3, done.append, fail)
        assert background._thread is None
        assert done == [1]
        assert calls.empty()

    def test_work_that_hangs_is_overdue(self) -> None:
        """After an hour; whoever waits behind it would wait for ever."""
        calls, clock = SimpleQueue[Any](), ManualClock()
        background = Background(calls.put, clock)
        begun, go = threading.Event(), threading.Event()

        def hang() -> None:
            begun.set()
            assert go.wait(10.0)

        clock.advance(STUCK_SECONDS)
        background.submit(hang, lambda _: None, fail)
        assert begun.wait(10.0)
        clock.advance(STUCK_SECONDS)
        assert background.late == 0.0
        clock.advance(7.0)
        assert round(background.late, 3) == 7.0
        go.set()
        background.close()
        assert background.late == 0.0

    def test_without_a_loop_it_is_done_at_once(self) -> None:
        """By whoever hands it in."""
        found: list[object] = []
        Background().submit(threading.current_thread, found.append, found.append)
        Background().submit(fail, found.append, lambda error: found.append(str(error)))
        assert found == [threading.current_thread(), "no"]

    def test_a_fault_of_the_program_stops_no_other_work(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told as such by the thread that it ends; what waits has another one."""
        calls: SimpleQueue[Any] = SimpleQueue()
        told: SimpleQueue[Any] = SimpleQueue()
        monkeypatch.setattr(threading, "excepthook", told.put)
        background, go, found = Background(calls.put), threading.Event(), list[int]()

        def broken() -> int:
            assert go.wait(10.0)
            raise ZeroDivisionError

        background.submit(broken, found.append, fail)
        background.submit(lambda: 2, found.append, fail)
        go.set()
        calls.get(timeout=10.0)()
        assert found == [2]
        assert told.get(timeout=10.0).exc_type is ZeroDivisionError
        background.close()
