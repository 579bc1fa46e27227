# SPDX-License-Identifier: Apache-2.0
"""A live source that a test writes itself: what its sessions say, and when they break."""

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmill_agent.sources.base import SourceKind, SourceOptions
from fedmill_agent.sources.live import (
    GOOD,
    Delivered,
    Live,
    LiveOptions,
    Readings,
    Shelf,
)
from fedmill_shared.clock import Clock

SECOND = 10**9


class ScriptedOptions(LiveOptions, frozen=True, kw_only=True, tag="scripted"):
    """A source that a test writes itself.

    Its clock jumps while its thread reads: what is silent or late is so where a test says it.
    """

    silence_seconds: float = 0.0
    wait_seconds: float = 3600.0


def block(
    tag: str,
    start_ns: int,
    values: Sequence[float],
    period_ns: int = SECOND,
    *,
    quality: int = GOOD,
    arrived_ns: int | None = None,
) -> Readings:
    """Values of one tag, evenly spaced, that arrive with the last of them."""
    times = start_ns + period_ns * np.arange(len(values), dtype=np.int64)
    last = int(times[-1]) if len(values) else start_ns
    return Readings(
        tag,
        times,
        np.array(values, np.float64),
        np.full(len(values), quality, np.uint16),
        last if arrived_ns is None else arrived_ns,
    )


@dataclass
class ScriptedSession:
    """Gives what the test put on its shelf; ``reads`` counts how often it was asked for that."""

    tags: tuple[str, ...]
    shelf: Shelf = field(default_factory=Shelf)
    problems: dict[str, str] = field(default_factory=dict)
    closed: threading.Event = field(default_factory=threading.Event)
    reads: int = 0

    @property
    def counts(self) -> Counter[str]:
        """What was left out."""
        return self.shelf.counts

    def read(self, timeout: float) -> Sequence[Delivered]:
        """What the test put there."""
        self.reads += 1
        return self.shelf.take(timeout)

    def close(self) -> None:
        """Let go."""
        self.closed.set()


@dataclass
class Script:
    """Owns the sessions of one scripted source.

    ``refusals`` are raised by ``open``, in order, and then ``away`` for as long as it is set.
    """

    refusals: deque[Exception] = field(default_factory=deque)
    away: Exception | None = None
    sessions: list[ScriptedSession] = field(default_factory=list)
    problems: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    snapshot: bool = False
    opened: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def live(self) -> Live:
        """How it is used."""
        return Live(self._open, snapshot=self.snapshot)

    @property
    def kind(self) -> SourceKind:
        """Its manifest."""
        return SourceKind(ScriptedOptions, live=self.live)

    @property
    def session(self) -> ScriptedSession:
        """The newest session, once there is a further one."""
        assert self.opened.acquire(timeout=20)
        return self.sessions[-1]

    def _open(self, _options: SourceOptions, tags: Sequence[str], _clock: Clock) -> ScriptedSession:
        self.attempts += 1
        if self.refusals:
            raise self.refusals.popleft()
        if self.away is not None:
            raise self.away
        session = ScriptedSession(tuple(tags), problems=dict(self.problems))
        self.sessions.append(session)
        self.opened.release()
        return session
