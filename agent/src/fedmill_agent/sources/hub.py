# SPDX-License-Identifier: Apache-2.0
"""The live sources of an agent: one connection each, whatever the number of jobs that need it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from fedmill_agent.sources import live_of
from fedmill_agent.sources.aligner import Aligner
from fedmill_agent.sources.base import LabelInterval, RunEnded, Samples, SourceOptions, narrow
from fedmill_agent.sources.columns import Column
from fedmill_agent.sources.live import Delivered, LiveOptions, Readings, hold_ns
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.sources.state import Standing
from fedmill_agent.sources.supervisor import Listener, Supervisor
from fedmill_agent.sources.wanted import Wanted
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.log import Logger

Sink = Callable[[SourceEvent], bool]


@dataclass(slots=True)
class _Subscriber:
    aligner: Aligner
    sink: Sink


@dataclass(slots=True)
class _Line:
    """One source: its supervisor, and who gets what it brings; replaced whole when that changes."""

    options: LiveOptions
    supervisor: Supervisor
    subscribers: dict[int, _Subscriber] = field(default_factory=dict)


class Hub:
    """Owns a supervisor for each live source, and an aligner for each job that reads it.

    Events reach a job's sink on the source's own thread. A sink that waits holds up its source;
    what comes meanwhile is bounded there, and counted where it is lost.
    """

    def __init__(
        self,
        sources: Iterable[SourceOptions],
        *,
        clock: Clock,
        log: Logger,
        failed: Callable[[FedmillError], None],
    ) -> None:
        """Prepare; ``failed`` is told why the agent is to end (``startup = "error"``)."""
        self._clock = clock
        self._log = log
        self._failed = failed
        self._lines: dict[str, _Line] = {}
        for options in sources:
            self._add(options)

    def start(self) -> None:
        """Open those that map tags themselves; the others wait for a job to name tags."""
        for line in self._lines.values():
            self._watch(line)

    def subscribe(self, number: int, source: str, wanted: Wanted, sink: Sink) -> None:
        """Deliver samples of ``source`` as ``wanted`` to ``sink`` until ``unsubscribe(number)``."""
        line = self._lines[source]
        aligner = _aligner(line.options, wanted)
        line.subscribers = {**line.subscribers, number: _Subscriber(aligner, sink)}
        self._watch(line)

    def unsubscribe(self, number: int) -> None:
        """Deliver nothing more to who subscribed as ``number``; never waits."""
        for line in self._lines.values():
            if number in line.subscribers:
                rest = {n: each for n, each in line.subscribers.items() if n != number}
                line.subscribers = rest
                self._watch(line)

    def standings(self) -> dict[str, Standing]:
        """How each source is; ``dropped`` tells also what came too late for a job's samples."""
        return {name: _standing(line) for name, line in self._lines.items()}

    def close(self, seconds: float) -> None:
        """Close all connections, within about ``seconds``."""
        for line in self._lines.values():
            line.supervisor.stop()
        deadline = self._clock.monotonic() + seconds
        for line in self._lines.values():
            line.supervisor.join(max(0.0, deadline - self._clock.monotonic()))

    def _add(self, given: SourceOptions) -> None:
        options, live = narrow(given, LiveOptions), live_of(given)
        name = options.name
        listener = Listener(
            deliver=lambda delivered, now_ns: self._deliver(name, delivered, now_ns),
            advance=lambda now_ns: self._advance(name, now_ns),
            lost=lambda now_ns: self._lost(name, now_ns),
            failed=self._failed,
        )
        supervisor = Supervisor(live, options, listener, clock=self._clock, log=self._log)
        self._lines[name] = _Line(options, supervisor)

    def _watch(self, line: _Line) -> None:
        """Have the source read all tags that anybody wants; those of the configuration always."""
        wanted = dict.fromkeys(line.options.tags.values())
        if line.options.run_tag and (wanted or line.subscribers):
            wanted[line.options.run_tag] = None
        for each in line.subscribers.values():
            wanted.update(dict.fromkeys(column.tag for column in each.aligner.columns))
        if wanted:
            line.supervisor.watch(list(wanted))

    def _deliver(self, name: str, delivered: Sequence[Delivered], now_ns: int) -> None:
        for each in self._lines[name].subscribers.values():
            for one in delivered:
                if isinstance(one, LabelInterval):
                    each.sink(SourceEvent(name, one))
                elif isinstance(one, Readings):
                    _pass(name, each, each.aligner.push(one, now_ns))

    def _advance(self, name: str, now_ns: int) -> None:
        for each in self._lines[name].subscribers.values():
            _pass(name, each, each.aligner.advance(now_ns))

    def _lost(self, name: str, now_ns: int) -> None:
        for each in self._lines[name].subscribers.values():
            each.aligner.stale(now_ns)
            _pass(name, each, each.aligner.advance(now_ns))


def _pass(name: str, subscriber: _Subscriber, events: Iterable[Samples | RunEnded]) -> None:
    for event in events:
        subscriber.sink(SourceEvent(name, event))


def _aligner(options: LiveOptions, wanted: Wanted) -> Aligner:
    period_ns = max(1, round(1e9 / wanted.rate_hz))
    held = hold_ns(options, period_ns)
    return Aligner(
        options.unit or options.name,
        [
            Column(tag, held, factor)
            for tag, factor in zip(wanted.tags, wanted.factors, strict=True)
        ],
        wanted.rate_hz,
        wait_ns=round(options.wait_seconds * 1e9),
        run_tag=options.run_tag,
    )


def _standing(line: _Line) -> Standing:
    found = line.supervisor.standing
    lost = Counter(found.dropped)
    for each in line.subscribers.values():
        for reason, number in each.aligner.counts.items():
            lost[reason] = max(lost[reason], number)
    return structs.replace(found, dropped=dict(+lost))
