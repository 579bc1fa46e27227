# SPDX-License-Identifier: Apache-2.0
"""What works in a thread of its own until it is asked to end."""

import threading

import pytest

from fedmill_agent.threaded import Threaded

PATIENCE = 20.0


class Work(Threaded):
    """Tells that it has begun, and goes on until it is stopped."""

    def __init__(self) -> None:
        super().__init__("work-7")
        self.begun = threading.Event()
        self.thread: threading.Thread | None = None

    def _run(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        self._stopped.wait(PATIENCE)


@pytest.fixture
def work() -> Work:
    """Nothing has begun yet."""
    return Work()


def test_nothing_runs_before_it_is_started(work: Work) -> None:
    """Who prepares something and gives it up again has nothing to clear away."""
    work.join(PATIENCE)  # returns at once
    assert not work.begun.is_set()


def test_it_ends_when_it_is_asked_to(work: Work) -> None:
    """Its thread has its name, and holds the process up at no time."""
    work.start()
    assert work.begun.wait(PATIENCE)
    assert work.thread is not None
    assert (work.thread.name, work.thread.daemon) == ("work-7", True)
    work.stop()
    work.join(PATIENCE)
    assert not work.thread.is_alive()


def test_nobody_waits_longer_than_he_wants_to(work: Work) -> None:
    """What hangs is left behind."""
    work.start()
    assert work.begun.wait(PATIENCE)
    work.join(0.0)
    assert work.thread is not None
    assert work.thread.is_alive()
    work.stop()
    work.join(PATIENCE)


def test_it_may_be_stopped_before_it_begins(work: Work) -> None:
    """Then it ends as soon as it looks."""
    work.stop()
    work.start()
    work.join(PATIENCE)
    assert work.thread is not None
    assert not work.thread.is_alive()
