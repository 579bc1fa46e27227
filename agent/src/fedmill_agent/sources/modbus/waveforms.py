# SPDX-License-Identifier: Apache-2.0
"""Blocks that one number counts: read together, so that they are of the same time."""

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.modbus import decoder, values
from fedmill_agent.sources.modbus.answer import Answer
from fedmill_agent.sources.modbus.blocks import BlockClock
from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.decoder import Decoder
from fedmill_agent.sources.modbus.health import Health
from fedmill_agent.sources.modbus.plan import Group, Request
from fedmill_agent.sources.modbus.spans import Span, spans
from fedmill_agent.sources.modbus.values import WIDTHS
from fedmill_shared.clock import Clock

Asking = Generator[Request, Answer, None]
Reading = Generator[Request, Answer, dict[Register, bytes]]

TRIES = 3
"""Times that blocks are read in one poll, until they do not change meanwhile."""


@dataclass(slots=True)
class Waveforms:
    """Owns the time lines of the blocks that ``sequence`` counts, or of one that nothing counts.

    Attributes:
        taken: where readings go.
        counts: ``lost block``, ``torn block`` and ``sequence restart``, beside what others count.
    """

    registers: Sequence[Register]
    health: Health
    decoder: Decoder
    clock: Clock
    taken: list[Readings]
    counts: Counter[str]
    _clocks: dict[Register, BlockClock] = field(init=False)
    _told: set[Register] = field(default_factory=set)  # those whose absence was told
    _apart: bool = False  # a span was refused

    def __post_init__(self) -> None:
        self._clocks = {each: _clock_of(each) for each in self.registers}

    @property
    def sequence(self) -> Register | None:
        """What counts the blocks."""
        return self.registers[0].sequence

    def at(self, now_ns: int) -> int:
        """Where what is read at ``now_ns``, before the blocks of the poll, lies among them."""
        return next(iter(self._clocks.values())).at(now_ns)

    def ask(self, number: int | None) -> Asking:
        """Read what is new, if the number of the newest blocks is ``number``, None if unknown."""
        if self.sequence is not None and number is None:
            self._none(self.registers)
            return
        due = self._due(number)
        for _ in range(TRIES):
            if not due:
                return
            data = yield from self._read(due)
            arrived = self.clock.now_ns()
            due = [each for each in due if each in data]
            if self.sequence is None or not due:
                self._take(data, None, arrived)
                return
            answer = yield Group((self.sequence,)).request
            if not answer.good:
                self.health.failed([self.sequence], answer, self.clock.monotonic())
                self._none(due)
                return
            before, number = number, number_of(self.sequence, answer.data)
            if before == number:
                self._take(data, number, arrived)
                return
            self.counts["torn block"] += len(due)

    def _due(self, number: int | None) -> list[Register]:
        now, due = self.clock.monotonic(), []
        for each in self.registers:
            if not self.health.may(each, now):
                self._none([each])
            elif number is None or number != self._clocks[each].last:
                due.append(each)
            elif each in self._told:
                self._told.discard(each)
                self.health.works([each])
        return due

    def _read(self, due: Sequence[Register]) -> Reading:
        """The bytes of those blocks that come; the others are told."""
        data: dict[Register, bytes] = {}
        whole = spans(due, self.health.limits.largest_gap)
        found = [part for each in whole for part in (_alone(each) if self._apart else [each])]
        for span in found:
            if not self.health.may(span.registers[0], self.clock.monotonic()):
                self._none(span.registers)  # the device fell silent in the span before
                continue
            came, answer = b"", Answer()
            for request in span.requests(self.health.limits.largest_read):
                answer = yield request
                if not answer.good:
                    break
                came += answer.data
            if answer.good:
                data |= {each: decoder.part(came, each, span.first) for each in span.registers}
            elif answer.refused and len(span.registers) > 1:
                self._apart = True
                return (yield from self._read(due))
            else:
                self.health.failed(span.registers, answer, self.clock.monotonic())
                self._none(span.registers)
        return data

    def _take(self, data: dict[Register, bytes], number: int | None, arrived: int) -> None:
        for register, own in data.items():
            placed = self._clocks[register].place(number, arrived)
            if placed.lost:
                self.counts["lost block"] += placed.lost
            if placed.restarted:
                self.counts["sequence restart"] += 1
            self.health.works([register])
            self.taken.append(self.decoder.block(register, own, placed.times_ns, arrived))
            self._told.discard(register)

    def _none(self, registers: Iterable[Register]) -> None:
        """Tell once that blocks with a number do not come: their time stands still."""
        now = self.clock.now_ns()
        for each in registers:
            if each not in self._told or each.sequence is None:
                self.taken.append(decoder.none(each, self._clocks[each].after_ns(now), now))
            self._told.add(each)


def number_of(sequence: Register, data: bytes) -> int:
    """What a register that counts blocks holds."""
    return int(values.raw_values(data, sequence.type, sequence.order)[0])


def _alone(span: Span) -> Iterable[Span]:
    return [Span((each,), each.address, each.end) for each in span.registers]


def _clock_of(register: Register) -> BlockClock:
    modulus = 1 << 8 * WIDTHS[register.sequence.type] if register.sequence else 0
    return BlockClock(register.count, register.rate_hz, modulus)
