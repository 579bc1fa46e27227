# SPDX-License-Identifier: Apache-2.0
"""Drives polls over a connection, at their pace and within their time limits."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fedmill_agent.sources.live import Delivered
from fedmill_agent.sources.modbus.answer import SILENT, Answer
from fedmill_agent.sources.modbus.poller import Poller
from fedmill_agent.sources.modbus.waveforms import Asking
from fedmill_agent.sources.modbus.wire import Wire
from fedmill_agent.sources.pace import Schedule
from fedmill_shared.clock import Clock
from fedmill_shared.errors import SourceError

_UNANSWERED = 2
"""Questions without any answer, beside one for each device, that a connection is given."""


class ModbusSession:
    """See ``Session`` of ``fedmill_agent.sources.live``.

    Attributes:
        counts: ``garbage``, ``late answer``, ``silent``, ``refused``, ``late poll``,
            ``lost block``, ``torn block`` and ``sequence restart``.
        problems: values that make no sense as they are read are problems too.
    """

    def __init__(
        self,
        wire: Wire,
        poller: Poller,
        clock: Clock,
        *,
        interval: float,
        timeout: float,
    ) -> None:
        """A session over ``wire``, which shares its counts with ``poller``."""
        self.counts: Counter[str] = poller.counts
        self.problems: Mapping[str, str] = poller.health.problems
        self._wire = wire
        self._poller = poller
        self._clock = clock
        self._timeout = timeout
        self._schedule = Schedule(interval, clock.monotonic())
        self._asking: Asking | None = None
        self._deadline = 0.0
        self._unanswered = 0

    def suspects(self, tag: str, low: float, high: float) -> list[tuple[str, float]]:
        """Orders of bytes that would bring the newest value of ``tag`` between two bounds.

        Nothing where it lies there as it is read, where no order brings it there, and before the
        first value.
        """
        return self._poller.decoder.suspects(tag, low, high)

    def read(self, timeout: float) -> Sequence[Delivered]:
        """See ``Session``: what a poll brought, or as much of it as came in time."""
        end = self._clock.monotonic() + timeout
        while True:
            now = self._clock.monotonic()
            if self._asking is None and now >= self._schedule.due:
                self._begin(now)
            elif self._asking is None:
                self._wire.receive(min(self._schedule.due, end) - now)
            else:
                self._wait(end, now)
            self._wake()
            if (self._asking is None and self._poller.taken) or self._clock.monotonic() >= end:
                taken = list(self._poller.taken)
                self._poller.taken.clear()
                return taken

    def close(self) -> None:
        """See ``Session``."""
        self._wire.close()

    def _begin(self, now: float) -> None:
        if missed := self._schedule.begin(now):
            self.counts["late poll"] += missed
        self._asking = self._poller.poll()
        self._go_on(None)

    def _wait(self, end: float, now: float) -> None:
        answer = self._wire.receive(min(self._deadline, end) - now)
        if answer is None and self._clock.monotonic() >= self._deadline:
            answer = self._wire.give_up()
        if answer is not None:
            self._heard(answer)
            self._go_on(answer)

    def _heard(self, answer: Answer) -> None:
        self._unanswered = self._unanswered + 1 if answer is SILENT else 0
        if self._unanswered >= _UNANSWERED + self._poller.health.devices:
            raise SourceError(
                f"none of {self._unanswered} questions was answered within {self._timeout:g} s",
                remedy="see that the device runs, and check `device` and `timeout_seconds`",
            )

    def _go_on(self, answer: Answer | None) -> None:
        """Put the next question of the poll, if there is one."""
        if self._asking is None:
            return
        try:
            question = next(self._asking) if answer is None else self._asking.send(answer)
        except StopIteration:
            self._asking = None
            return
        self._wire.ask(question)
        self._deadline = self._clock.monotonic() + self._timeout

    def _wake(self) -> None:
        for device in self._wire.late:
            self._poller.health.woke(device)
        self._wire.late.clear()
