# SPDX-License-Identifier: Apache-2.0
"""One poll: what is asked, and what is made of the answers.

It is a generator that yields questions and is sent answers, so it knows neither sockets nor time
limits; whoever drives it does.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.modbus import decoder
from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.decoder import Decoder
from fedmill_agent.sources.modbus.health import Health
from fedmill_agent.sources.modbus.plan import Group, Plan
from fedmill_agent.sources.modbus.waveforms import Asking, Waveforms, number_of
from fedmill_shared.clock import Clock


@dataclass(slots=True)
class Poller:
    """Owns the plan of questions.

    Attributes:
        health: of the devices and registers.
        counts: what was left out, of all who have a part in the session.
        decoder: what came last.
        taken: readings that came; whoever reads them empties it.
        run_tag: the tag that says whose the samples are: where its device counts blocks it has
            their time, not that of its arrival.
    """

    registers: Sequence[Register]
    health: Health
    clock: Clock
    counts: Counter[str]
    decoder: Decoder = field(init=False)
    taken: list[Readings] = field(default_factory=list)
    run_tag: str = ""
    _plan: Plan = field(init=False)
    _waveforms: list[Waveforms] = field(init=False)
    _numbers: dict[Register, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.decoder = Decoder(self.health.problems)
        self._waveforms = [self._together(each) for each in _by_sequence(self.registers)]
        singles = [each for each in self.registers if each.count == 1]
        counted = [each.sequence for each in self._waveforms if each.sequence is not None]
        limits = self.health.limits
        self._plan = Plan([*singles, *counted], limits.largest_gap, limits.largest_read)

    def poll(self) -> Asking:
        """Ask for everything that is due; devices that were silent come last."""
        self._numbers.clear()
        for group in sorted(self._plan.groups, key=lambda g: self.health.failures(g.registers[0])):
            yield from self._ask(group)
        self._plan.settle()
        for each in sorted(self._waveforms, key=lambda w: self.health.failures(w.registers[0])):
            number = None if each.sequence is None else self._numbers.get(each.sequence)
            yield from each.ask(number)

    def _together(self, registers: Sequence[Register]) -> Waveforms:
        return Waveforms(registers, self.health, self.decoder, self.clock, self.taken, self.counts)

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
                self.taken.append(self.decoder.one(register, own, self._time(register, now), now))
            else:
                self._numbers[register] = number_of(register, own)

    def _time(self, register: Register, now: int) -> int:
        """When what comes ``now`` is of."""
        if register.tag == self.run_tag:
            for each in self._waveforms:
                if each.registers[0].device == register.device:
                    return each.at(now)
        return now

    def _none(self, registers: Sequence[Register]) -> None:
        now = self.clock.now_ns()
        self.taken.extend(decoder.none(each, now, now) for each in registers if each.tag)


def _by_sequence(registers: Sequence[Register]) -> list[list[Register]]:
    """Blocks that belong together, because the same register counts them."""
    found: dict[Register, list[Register]] = {}
    for each in registers:
        if each.count > 1:
            found.setdefault(each.sequence or each, []).append(each)
    return list(found.values())
