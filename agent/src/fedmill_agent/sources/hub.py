# SPDX-License-Identifier: Apache-2.0
"""The live sources of an agent: one connection each, whatever the number of jobs that need it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import structs

from fedmill_agent.sources import live_of
from fedmill_agent.sources.aligner import Aligner
from fedmill_agent.sources.backfill import Backfill
from fedmill_agent.sources.base import LabelInterval, SourceOptions, narrow
from fedmill_agent.sources.columns import Column
from fedmill_agent.sources.live import STALE, Delivered, LiveOptions, Readings, hold_ns
from fedmill_agent.sources.recorder import Recorder, Recording, no_recording
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.sources.state import Standing
from fedmill_agent.sources.subscriber import Subscriber
from fedmill_agent.sources.supervisor import Listener, Supervisor
from fedmill_agent.sources.wanted import Wanted
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.log import Logger

LONGEST_HOLD_NS = 10 * 366 * 86_400 * 10**9

Sink = Callable[[SourceEvent], bool]


@dataclass(slots=True)
class _Line:
    """One source: its supervisor, and who gets what it brings; replaced whole when that changes."""

    options: LiveOptions
    supervisor: Supervisor
    subscribers: dict[int, tuple[Subscriber, Sink]] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)  # source time of each tag's last reading
    ahead_ns: int = 0  # the source's clock, by the last reading
    dropped: Counter[str] = field(default_factory=Counter)


class Hub:
    """Owns a supervisor for each live source, an aligner for each job that reads it, and the rings.

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
        recording: Recording = no_recording,
    ) -> None:
        """Prepare; ``failed`` is told why the agent is to end (``startup = "error"``)."""
        self._clock = clock
        self._log = log
        self._failed = failed
        self._recorder = Recorder(recording, clock, log)
        self._started = False
        self._leaving: list[Supervisor | Subscriber] = []
        self._lines: dict[str, _Line] = {}
        for options in sources:
            self._lines[options.name] = self._line(options)

    def start(self) -> None:
        """Open those whose tags are known; the others wait for a job to name some."""
        self._started = True
        for line in self._lines.values():
            self._watch(line)

    def reconfigure(
        self, sources: Iterable[SourceOptions], recording: Recording | None = None
    ) -> None:
        """Have these sources from now on; those with equal options go on undisturbed.

        Who reads one that has changed goes on reading it; who reads one that is gone gets nothing
        more. With another ``recording`` all rings are opened anew.
        """
        before = self._lines
        if recording is not None:
            self._recorder.renew(recording)
        lines: dict[str, _Line] = {}
        for options in sources:
            old = before.get(options.name)
            if old is not None and old.options == options:
                lines[options.name] = old
                continue
            line = lines[options.name] = self._line(options, old)
            for number, (subscriber, sink) in (old.subscribers if old else {}).items():
                self._add(line, number, subscriber.wanted, sink)
        for name, line in before.items():
            if lines.get(name) is not line:
                self._leave(line)
            if name not in lines:
                self._recorder.end(name)
        self._lines = lines
        if self._started:
            self.start()

    def subscribe(
        self,
        number: int,
        source: str,
        wanted: Wanted,
        sink: Sink,
        *,
        backfill: Backfill | None = None,
    ) -> None:
        """Deliver samples of ``source`` as ``wanted`` to ``sink`` until ``unsubscribe(number)``.

        With ``backfill`` it is given what was recorded of the source before, and then the rest
        without a gap and without anything twice.
        """
        line = self._lines[source]
        self._begin(line)
        self._add(line, number, wanted, sink, backfill=backfill)
        self._watch(line)

    def unsubscribe(self, number: int) -> None:
        """Deliver nothing more to who subscribed as ``number``; never waits."""
        for line in self._lines.values():
            if number in line.subscribers:
                self._dismiss(line.subscribers[number][0])
                rest = {n: each for n, each in line.subscribers.items() if n != number}
                line.subscribers = rest
                self._watch(line)

    def standings(self) -> dict[str, Standing]:
        """How each source is; ``dropped`` tells also what came too late for a job's samples."""
        return {name: _standing(line) for name, line in self._lines.items()}

    def late(self) -> dict[str, float]:
        """Sources that hang, by name, and for how many seconds they have been overdue."""
        return {name: late for name, each in self._lines.items() if (late := each.supervisor.late)}

    def close(self, seconds: float) -> None:
        """Close all connections and rings, within about ``seconds``."""
        for line in self._lines.values():
            self._leave(line)
        deadline = self._clock.monotonic() + seconds
        for each in self._leaving:
            each.join(max(0.0, deadline - self._clock.monotonic()))
        self._recorder.close()

    def _leave(self, line: _Line) -> None:
        """Let go of a connection, and of all who read it."""
        for subscriber, _ in _all(line):
            self._dismiss(subscriber)
        line.subscribers = {}
        self._dismiss(line.supervisor)

    def _dismiss(self, each: Supervisor | Subscriber) -> None:
        """Have it end; that it has is waited for at the very end only."""
        each.stop()
        self._leaving = [other for other in self._leaving if not other.join(0.0)]
        self._leaving.append(each)

    def _line(self, given: SourceOptions, old: _Line | None = None) -> _Line:
        options = narrow(given, LiveOptions)
        listener = Listener(
            deliver=lambda delivered, now_ns: self._deliver(line, delivered, now_ns),
            advance=lambda now_ns: _advance(line, now_ns),
            lost=lambda now_ns: self._lost(line, now_ns),
            failed=self._failed,
        )
        supervisor = Supervisor(
            live_of(given),
            options,
            listener,
            clock=self._clock,
            log=self._log,
            after=None if old is None else old.supervisor,
        )
        line = _Line(options, supervisor)
        return line

    def _begin(self, line: _Line) -> None:
        self._recorder.begin(line.options.name)

    def _add(
        self,
        line: _Line,
        number: int,
        wanted: Wanted,
        sink: Sink,
        *,
        backfill: Backfill | None = None,
    ) -> None:
        name = line.options.name
        ring = None if backfill is None else self._recorder.store(name)
        subscriber = Subscriber(
            wanted,
            _aligner(line.options, wanted),
            lambda event: sink(SourceEvent(name, event)),
            self._log.bind(source=name),
            live=ring is None,
        )
        line.subscribers = {**line.subscribers, number: (subscriber, sink)}
        if backfill is not None and ring is not None:
            subscriber.fill(ring, backfill)

    def _watch(self, line: _Line) -> None:
        """Have the source read all tags that anybody wants; those of the configuration always."""
        if not self._started:
            return
        wanted = set(line.options.tags.values())
        for subscriber, _ in _all(line):
            wanted.update(subscriber.wanted.tags)
        if wanted and line.options.run_tag:
            wanted.add(line.options.run_tag)
        if wanted:
            self._begin(line)
            line.supervisor.watch(sorted(wanted))

    def _deliver(self, line: _Line, delivered: Sequence[Delivered], now_ns: int) -> None:
        readings = [each for each in delivered if isinstance(each, Readings)]
        present = [each for each in readings if not each.historical]
        for each in present:
            newest = int(each.times_ns.max())
            line.newest[each.tag] = max(newest, line.newest.get(each.tag, newest))
            line.ahead_ns = newest - now_ns
        if not self._recorder.take(line.options.name, readings):
            line.dropped["historical"] += sum(map(len, readings)) - sum(map(len, present))
        for subscriber, sink in _all(line):
            subscriber.deliver(present, now_ns)
            for one in delivered:
                if isinstance(one, LabelInterval):
                    sink(SourceEvent(line.options.name, one))

    def _lost(self, line: _Line, now_ns: int) -> None:
        """No value holds any longer; the recording is told so too."""
        marks = [
            Readings(
                tag,
                np.array([max(newest + 1, now_ns + line.ahead_ns)], np.int64),
                np.array([np.nan]),
                np.array([STALE], np.uint16),
                self._clock.now_ns(),
            )
            for tag, newest in line.newest.items()
        ]
        line.newest = {}
        self._recorder.take(line.options.name, marks)
        for subscriber, _ in _all(line):
            subscriber.lost(now_ns)


def _all(line: _Line) -> list[tuple[Subscriber, Sink]]:
    return list(line.subscribers.values())


def _advance(line: _Line, now_ns: int) -> None:
    for subscriber, _ in _all(line):
        subscriber.advance(now_ns)


def _aligner(options: LiveOptions, wanted: Wanted) -> Aligner:
    period_ns = max(1, round(1e9 / wanted.rate_hz))
    held = min(hold_ns(options, period_ns), LONGEST_HOLD_NS)
    return Aligner(
        options.unit or options.name,
        [
            Column(tag, period_ns // 2 if sampled else held, factor)
            for tag, factor, sampled in zip(
                wanted.tags, wanted.factors, wanted.sampled, strict=True
            )
        ],
        wanted.rate_hz,
        wait_ns=round(options.wait_seconds * 1e9),
        run_tag=options.run_tag,
    )


def _standing(line: _Line) -> Standing:
    found = line.supervisor.standing
    lost = Counter(found.dropped)
    lost.update(dict(line.dropped))  # a copy: its thread counts on
    for subscriber, _ in _all(line):
        for reason, number in subscriber.counts.items():
            lost[reason] = max(lost[reason], number)
    return structs.replace(found, dropped=dict(+lost))
