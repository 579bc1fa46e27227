# SPDX-License-Identifier: Apache-2.0
"""Watches what a job's model says, machine by machine, and decides when it is an alarm."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msgspec import structs

from fedmill_agent.alarms.book import EMPTY, FILE, Book, Entry, Page, read
from fedmill_agent.alarms.condition import Verdict, verdicts
from fedmill_agent.alarms.machine import Rules, Standing, Turn, step, wait
from fedmill_agent.alarms.record import MOST_CLASSES, AlarmRecord, short
from fedmill_agent.alarms.teller import Journal, Teller
from fedmill_agent.explaining.explanation import UNEXPLAINED, Explanation
from fedmill_agent.inference.scored import Scored, Sure
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.job import Alarm, Job
from fedmill_shared.log import Logger
from fedmill_shared.signals.windows import Window


class Explains(Protocol):
    """Says what of a window its prediction comes from."""

    def note(self, window: Window) -> None:
        """``window`` is as usual."""
        ...

    def explain(self, window: Window, classes: Sequence[str]) -> Explanation:
        """Why the model says one of ``classes`` of ``window``, or its number."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What alarms are watched with.

    Attributes:
        explain: what it comes from.
        journal: where records go.
    """

    explain: Explains
    journal: Journal


@dataclass(frozen=True, slots=True)
class _Seen:
    """One window and what was said of it."""

    scored: Scored
    place: int

    @property
    def sure(self) -> Sure:
        return self.scored.sure[self.place]

    @property
    def window(self) -> Window:
        return self.scored.windows[self.place]

    @property
    def unit(self) -> str:
        """The machine, or the run where nobody named one."""
        return short(self.window.unit or self.window.run)


class AlarmWatch:
    """Owns the alarms of one job: where each stands for each machine."""

    def __init__(self, job: Job, folder: Path, tools: Tools, *, clock: Clock, log: Logger) -> None:
        """Go on where the agent was before a restart; a damaged file is told, and begun anew."""
        self._job = job
        self._alarms = [(alarm, Rules.of(alarm)) for alarm in job.alarms]
        self._tools = tools
        self._clock = clock
        self._log = log
        page = Page()
        try:
            page = read(folder / FILE)
        except FedmillError as error:
            self._log.error("alarms.unreadable", error=str(error))
        self._book = Book(folder / FILE, page, [alarm.name for alarm in job.alarms])
        self._teller = Teller(self._book, tools.journal, clock=clock, log=log)

    @property
    def raised(self) -> int:
        """How many stand now, one for each machine."""
        return sum(entry.standing.raised for _, _, entry in self._book.open())

    def observe(self, scored: Scored) -> None:
        """Take in a batch of predictions. A window that was not scored is none."""
        confidences = [each.confidence for each in scored.sure]
        classes = self._job.labels.classes
        said = [verdicts(alarm, classes, scored.told, confidences) for alarm, _ in self._alarms]
        for place in range(len(scored.windows)):
            self._window(_Seen(scored, place), [each[place] for each in said])
        self._teller.tell()

    def tick(self) -> None:
        """Tell about once a second what was held back, and keep what has changed."""
        now_ns = self._clock.now_ns()
        rules = {alarm.name: each for alarm, each in self._alarms}
        for alarm, unit, entry in self._book.open():
            after, turn = wait(entry.standing, now_ns, rules[alarm])
            record = entry.record
            if turn is not None and record is not None:
                number = self._book.next_number(now_ns)
                record = _held_back(record, after, turn, number, now_ns)
                self._book.wait(record)
            if after != entry.standing:
                self._put(alarm, unit, after, record)
        self._teller.tick()

    def close(self) -> None:
        """Keep what has changed."""
        self._teller.close()

    def _window(self, seen: _Seen, said: Sequence[Verdict]) -> None:
        window, unit, usual = seen.window, seen.unit, True
        for (alarm, rules), verdict in zip(self._alarms, said, strict=True):
            entry = self._book.get(alarm.name, unit)
            usual &= verdict == Verdict.OFF and not entry.standing.raised
            if entry is EMPTY and verdict != Verdict.ON:
                continue
            before, moment_ns = entry.standing, seen.scored.scored_ns
            after, turn = step(before, verdict, window.start_ns, moment_ns, rules)
            record = entry.record
            if turn is not None or after.raised != before.raised:
                since_ns = after.since_ns or before.since_ns
                record = self._record(alarm, seen, turn, since_ns)
            if turn is not None and record is not None:
                self._book.wait(record)
            self._put(alarm.name, unit, after, record)
        if usual:
            self._tools.explain.note(window)

    def _put(self, alarm: str, unit: str, standing: Standing, record: AlarmRecord | None) -> None:
        known = record if standing.raised or standing.heard else None
        forgotten = self._book.put(alarm, unit, Entry(standing, known))
        if forgotten is not None:
            self._log.warning("alarm.forgotten", alarm=forgotten.alarm, unit=forgotten.unit)

    def _record(self, alarm: Alarm, seen: _Seen, turn: Turn | None, since_ns: int) -> AlarmRecord:
        """What is to be told of ``seen``; what nobody is told now is not explained."""
        scored, window, sure = seen.scored, seen.window, seen.sure
        outputs, classes = scored.told[seen.place], self._job.labels.classes
        state = turn.telling if turn is not None else "raised"
        why = UNEXPLAINED
        if turn is not None and state != "cleared":
            why = self._why(alarm, window)
        return AlarmRecord(
            number=self._book.next_number(scored.scored_ns),
            alarm=alarm.name,
            severity=alarm.severity,
            state=state,
            unit=seen.unit,
            run=short(window.run),
            since_ns=since_ns,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            told_ns=scored.scored_ns,
            version=scored.version,
            version_number=scored.number,
            predicted=short(classes[int(outputs.argmax())]) if classes else "",
            value=None if classes else float(outputs[0]),
            value_unit="" if classes else self._job.labels.unit,
            confidence=sure.confidence,
            low=sure.low,
            high=sure.high,
            plausible=tuple(map(short, (sure.plausible or ())[:MOST_CLASSES])),
            cause=why.text,
            causes=why.causes,
            remedy=alarm.remedy,
            suppressed=0 if turn is None else turn.suppressed,
        )

    def _why(self, alarm: Alarm, window: Window) -> Explanation:
        try:
            return self._tools.explain.explain(window, alarm.classes)
        except FedmillError as error:
            self._log.warning("alarm.unexplained", alarm=alarm.name, error=str(error))
            return UNEXPLAINED


def _held_back(
    record: AlarmRecord, standing: Standing, turn: Turn, number: int, now_ns: int
) -> AlarmRecord:
    """What was found when it was raised, or ended, told at ``now_ns``."""
    told = structs.replace(
        record,
        number=number,
        state=turn.telling,
        since_ns=standing.since_ns or record.since_ns,
        told_ns=now_ns,
        suppressed=turn.suppressed,
    )
    return structs.replace(told, cause="", causes=()) if turn.telling == "cleared" else told
