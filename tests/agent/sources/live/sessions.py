# SPDX-License-Identifier: Apache-2.0
"""What tests of real servers do with a session: read it until it brings something, or breaks."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.waiting import PATIENCE

from fedmill_agent.sources.live import Readings, Session
from fedmill_shared.errors import SourceError

READ_SECONDS = 0.1


@contextmanager
def started(stand: Any) -> Iterator[Any]:
    """A stand, running; no thread of it is left."""
    before = set(threading.enumerate())
    stand.start()
    yield stand
    stand.stop()
    assert set(threading.enumerate()) == before


def until(session: Session, enough: Callable[[Sequence[Readings]], bool]) -> list[Readings]:
    """Readings until they are ``enough``."""
    heard: list[Readings] = []
    deadline = time.monotonic() + PATIENCE
    while not enough(heard):
        assert time.monotonic() < deadline, (heard, session.counts, session.problems)
        heard += [each for each in session.read(READ_SECONDS) if isinstance(each, Readings)]
    return heard


def lost(session: Session) -> SourceError:
    """The error with which the session ends."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            session.read(READ_SECONDS)
        except SourceError as error:
            return error
    raise AssertionError("it did not end")
