# SPDX-License-Identifier: Apache-2.0
"""Sessions with real servers, of every kind of live source."""

from collections.abc import Callable, Iterator

import pytest

from fedmill_agent.sources import live_of
from fedmill_agent.sources.live import LiveOptions, Session
from fedmill_shared.clock import SystemClock


@pytest.fixture
def opened() -> Iterator[Callable[..., Session]]:
    """Factory of sessions, closed at the end."""
    made: list[Session] = []

    def make(options: LiveOptions, *tags: str) -> Session:
        made.append(live_of(options).open(options, tags, SystemClock()))
        return made[-1]

    yield make
    for each in made:
        each.close()
