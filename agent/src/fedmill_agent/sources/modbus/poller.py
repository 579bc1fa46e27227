# SPDX-License-Identifier: Apache-2.0
"""One poll: what is asked, and what is made of the answers.

It is a generator that yields questions and is sent answers, so it knows neither sockets nor time
limits; whoever drives it does.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.modbus import decoder, values
from fedmill_agent.sources.modbus.answer import Answer
from fedmill_agent.sources.modbus.blocks import BlockClock, pieces
from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.decoder import Decoder
from fedmill_agent.sources.modbus.health import Health
from fedmill_agent.sources.modbus.plan import Group, Plan, Request
from fedmill_agent.sources.modbus.values import WIDTHS
from fedmill_shared.clock import Clock

Asking = Generator[Request, Answer, None]

TRIES = 3
"""Times that a block is read in one poll, until it does not change meanwhile."""


@dataclass(slots=True)
class Block:
    """A block register, its time line, and whether it was told that it does not come."""

    register: Register
    clock: BlockClock
    told: bool = False


@dataclass(slots=True)
class Poller:
    """Owns the plan of questions.

    Attributes:
        health: of the devices and registers.
        counts: ``lost block``, ``torn block`` and ``sequence restart``, beside what others count.
        decoder: what came last.
        taken: readings that came; whoever reads them empties it.
    """

    registers: Sequence[Register]
    health: Health
    clock: Clock
    counts: Counter[str]
    decoder: Decoder = field(init=False)
    taken: list[Readings] = field(default_factory=list)
    _plan: Plan = field(init=False)
    _blocks: list[Block] = field(init=False)
    _counted: dict[Register, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        blocks = [each for each in self.registers if each.count > 1]
        singles = [each for each in self.registers if each.count == 1]
        counted = dict.fromkeys(each.sequence for each in blocks if each.sequence is not None)
        limits = self.health.limits
        self.decoder = Decoder(self.health.problems)
        self._plan = Plan([*singles, *counted], limits.largest_gap, limits.largest_read)
        self._blocks = [Block(each, _clock_of(each)) for each in blocks]

    def poll(self) -> Asking:
        """Ask for everything that is due; devices that were silent come last."""
        self._counted.clear()
        for group in sorted(self._plan.groups, key=lambda g: self.health.failures(g.registers[0])):
            yield from self._ask(group)
        self._plan.settle()
        for block in sorted(self._blocks, key=lambda b: self.health.failures(b.register)):
            yield from self._ask_block(block)

    def _ask(self, group: Group) -> Asking:
        if not self.health.may(group.registers[0], self.clock.monotonic()):
            self._none(group.registers)
            return
        answer = yield group.request
        passing = answer.failed and group.proven
        if answer.good:
            self._take(group, answer.data)
        elif answer.refused and len(group.registers) > 1 and not passing:
            self.health.answers(group.registers[0].device)
            for smaller in self._plan.split(group):
                yield from self._ask(smaller)
        else:
            if answer.refused and not passing:
                self._plan.isolate(group.registers[0])
            self.health.failed(group.registers, answer, self.clock.monotonic())
            self._none(group.registers)

    def _take(self, group: Group, data: bytes) -> None:
        now, first = self.clock.now_ns(), group.registers[0].address
        group.proven = True
        if well := self.health.works(group.registers):
            self._plan.release(well)
        for register in group.registers:
            own = decoder.part(data, register, first)
            if register.tag:
                self.taken.append(self.decoder.one(register, own, now))
            else:
                self._counted[register] = _number(register, own)

    def _ask_block(self, block: Block) -> Asking:
        register, sequence = block.register, block.register.sequence
        number = None if sequence is None else self._counted.get(sequence)
        lacking = sequence is not None and number is None
        if lacking or not self.health.may(register, self.clock.monotonic()):
            self._none_of(block)
        elif number is None or number != block.clock.last:
            yield from self._read(block, number)
        elif block.told:
            block.told = False
            self.health.works([register])

    def _read(self, block: Block, number: int | None) -> Asking:
        """Read a block until its number is the same before and after."""
        sequence = block.register.sequence
        for _ in range(TRIES):
            data = b""
            for request in pieces(block.register, self.health.limits.largest_read):
                answer = yield request
                if not answer.good:
                    self._failed(block, block.register, answer)
                    return
                data += answer.data
            arrived = self.clock.now_ns()
            if sequence is None:
                self._take_block(block, None, data, arrived)
                return
            answer = yield Group((sequence,)).request
            if not answer.good:
                self._failed(block, sequence, answer)
                return
            before, number = number, _number(sequence, answer.data)
            if before == number:
                self._take_block(block, number, data, arrived)
                return
            self.counts["torn block"] += 1

    def _take_block(self, block: Block, number: int | None, data: bytes, arrived: int) -> None:
        placed = block.clock.place(number, arrived)
        for reason, count in (("lost block", placed.lost), ("sequence restart", placed.restarted)):
            if count:
                self.counts[reason] += count
        own = decoder.part(data, block.register, block.register.address)
        self.health.works([block.register])
        self.taken.append(self.decoder.block(block.register, own, placed.times_ns, arrived))
        block.told = False

    def _failed(self, block: Block, register: Register, answer: Answer) -> None:
        self.health.failed([register], answer, self.clock.monotonic())
        self._none_of(block)

    def _none(self, registers: Sequence[Register]) -> None:
        now = self.clock.now_ns()
        self.taken.extend(decoder.none(each, now, now) for each in registers if each.tag)

    def _none_of(self, block: Block) -> None:
        now = self.clock.now_ns()
        if not block.told or block.register.sequence is None:
            self.taken.append(decoder.none(block.register, block.clock.after_ns(now), now))
        block.told = True


def _clock_of(register: Register) -> BlockClock:
    modulus = 1 << 8 * WIDTHS[register.sequence.type] if register.sequence else 0
    return BlockClock(register.count, register.rate_hz, modulus)


def _number(register: Register, data: bytes) -> int:
    return int(values.raw_values(data, register.type, register.order)[0])
