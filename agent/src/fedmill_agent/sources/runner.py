# SPDX-License-Identifier: Apache-2.0
"""Runs one source in a thread of its own: pace, repetition, and an end that is always reported."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec

from fedmill_agent.sources.base import (
    Event,
    LabelInterval,
    ReplayOptions,
    RunEnded,
    Samples,
    SourceKind,
)
from fedmill_agent.sources.timeline import parse_iso
from fedmill_agent.threaded import Threaded
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError, FedmillError


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """Something a source delivered."""

    source: str
    event: Event


@dataclass(frozen=True, slots=True)
class SourceEnded:
    """A source has nothing more to say; ``error`` tells why if it is not simply its end."""

    source: str
    error: FedmillError | None = None


Sink = Callable[[SourceEvent | SourceEnded], bool]


class SourceRunner(Threaded):
    """Reads one source; asked to stop, it does so at the next event."""

    def __init__(
        self,
        kind: SourceKind,
        options: ReplayOptions,
        tags: Sequence[str],
        rate_hz: float,
        *,
        sink: Sink,
        clock: Clock,
    ) -> None:
        """Prepare; ``sink`` returns False when nobody listens any more."""
        super().__init__(f"source-{options.name}")
        self._kind = kind
        self._options = options
        self._tags = tags
        self._rate_hz = rate_hz
        self._sink = sink
        self._clock = clock

    def _run(self) -> None:
        name = self._options.name
        error: FedmillError | None = DataError(
            f"source {name!r} broke down: its program has a fault",
            remedy="report the traceback in the log to whoever made this kind of source",
        )
        try:
            for event in self._paced(self._passes()):
                if self._stopped.is_set() or not self._sink(SourceEvent(name, event)):
                    self._stopped.set()
                    break
            error = None
        except FedmillError as problem:
            error = problem
        except OSError as problem:
            error = DataError(f"source {name!r}: {problem}")
        finally:  # also where a third party's source raises what it should not
            if not self._stopped.is_set():
                self._sink(SourceEnded(name, error))

    def _passes(self) -> Iterator[Event]:
        options, number = self._options, 1
        while True:
            first_ns = last_ns = parse_iso(options.start)
            for event in self._kind.read(options, self._tags, self._rate_hz):
                if isinstance(event, Samples):
                    count = event.values.shape[1]
                    last_ns = max(last_ns, event.start_ns + count * event.period_ns)
                yield _renamed(event, number)
            if not options.repeat or self._stopped.is_set():
                return
            if last_ns == first_ns:
                raise DataError(f"source {options.name!r} is empty", remedy="nothing to repeat")
            number += 1
            start = datetime.fromtimestamp(last_ns // 10**9 + 1, UTC).isoformat()
            options = msgspec.structs.replace(options, start=start)

    def _paced(self, events: Iterator[Event]) -> Iterator[Event]:
        """Let each chunk out when, at the source's speed, its last sample would have come."""
        speed = self._options.speed
        begin_ns = parse_iso(self._options.start)
        begin = self._clock.monotonic()
        for event in events:
            if speed > 0 and isinstance(event, Samples):
                for piece in _seconds_of(event, speed):
                    count = piece.values.shape[1]
                    end_ns = piece.start_ns + count * piece.period_ns
                    due = begin + (end_ns - begin_ns) / 1e9 / speed
                    if self._stopped.wait(max(0.0, due - self._clock.monotonic())):
                        return
                    yield piece
            else:
                yield event


def _seconds_of(samples: Samples, speed: float) -> Iterator[Samples]:
    """Pieces that last at most a quarter of a second of replay each."""
    count = max(1, int(0.25e9 * speed / samples.period_ns))
    for first in range(0, samples.values.shape[1], count):
        yield replace(
            samples,
            start_ns=samples.start_ns + first * samples.period_ns,
            values=samples.values[:, first : first + count],
        )


def _renamed(event: Event, number: int) -> Event:
    """Runs of a later pass are other runs."""
    if number == 1:
        return event
    run = f"{event.run}#{number}"
    if isinstance(event, Samples):
        return replace(event, run=run)
    if isinstance(event, LabelInterval):
        return replace(event, run=run)
    return RunEnded(run)
