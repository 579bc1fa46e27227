# SPDX-License-Identifier: Apache-2.0
"""Which devices and registers are well, and for how long the others are left alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from fedmill_agent.sources.modbus.answer import Answer
from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.patience import Patience

_REFERENCES = {"holding": 40_000, "input": 30_000, "discrete": 10_000}
_NEVER = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a configuration allows.

    Attributes:
        largest_gap: registers that are read along to save a question.
        largest_read: registers of one read.
        first_pause: longest pause (s) after one device of several was silent once.
        device_pause: longest pause (s) for a silent device.
        register_pause: longest pause (s) for a register that is refused.
    """

    largest_gap: int
    largest_read: int
    first_pause: float
    device_pause: float
    register_pause: float


@dataclass(slots=True)
class Health:
    """Owns the failures of a session.

    Attributes:
        counts: ``silent`` and ``refused`` questions, beside what others count.
        problems: tag -> why it does not come, and the remedy.
    """

    registers: Sequence[Register]
    limits: Limits
    random: Random
    counts: Counter[str]
    problems: dict[str, str] = field(default_factory=dict)
    _devices: dict[int, Patience] = field(init=False)
    _refused: dict[Register, Patience] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = {each.device for each in self.registers}
        ids |= {each.sequence.device for each in self.registers if each.sequence is not None}
        # one device alone holds up nobody, and a connection that died is noticed the sooner
        first = self.limits.first_pause if len(ids) > 1 else 0.0
        most = self.limits.device_pause
        self._devices = {each: Patience(first, most, self.random) for each in sorted(ids)}

    @property
    def devices(self) -> int:
        """How many there are."""
        return len(self._devices)

    def may(self, register: Register, now: float) -> bool:
        """Whether to ask for ``register`` at ``now`` (s)."""
        refused = self._refused.get(register)
        return self._devices[register.device].may(now) and (refused is None or refused.may(now))

    def failures(self, register: Register) -> int:
        """How often its device was silent in a row."""
        return self._devices[register.device].failures

    def works(self, registers: Iterable[Register]) -> list[Register]:
        """They came; those of them that had been refused.

        Where there are any the device has changed, and what else it refused is asked again too.
        """
        well = []
        for register in registers:
            self._devices[register.device].forget()
            self.problems.pop(register.tag, None)
            if self._refused.pop(register, None) is not None:
                well.append(register)
        devices = {each.device for each in well}
        for register, patience in self._refused.items():
            if register.device in devices:
                patience.hurry()
        return well

    def answers(self, device: int) -> None:
        """``device`` says something, if only that it refuses."""
        self._devices[device].forget()

    def woke(self, device: int) -> None:
        """An answer of ``device`` came after it had been given up."""
        if device in self._devices:
            self._devices[device].excuse()

    def failed(self, registers: Sequence[Register], answer: Answer, now: float) -> None:
        """``registers`` of one device did not come, as ``answer`` says; a refused one is alone."""
        device = registers[0].device
        if answer.silent:
            self.counts["silent"] += 1
            self._devices[device].failed(now)
        else:
            self.answers(device)
        if answer.refused:
            self.counts["refused"] += 1
            self._refused.setdefault(registers[0], self._slow(answer)).failed(now)
        for register in registers:
            mistaken = _as_reference(register) if answer.code == 2 else ""
            self._blame(register, f"device {device} {answer.reason}{mistaken}")

    def _slow(self, answer: Answer) -> Patience:
        most = self.limits.register_pause
        if answer.failed:
            return Patience(
                self.limits.first_pause, min(most, self.limits.device_pause), self.random
            )
        return Patience(most, most, self.random)

    def _blame(self, register: Register, told: str) -> None:
        if register.tag:
            self.problems[register.tag] = f"{register}: {told}"
            return
        for block in self.registers:
            if block.sequence == register:
                self.problems[block.tag] = f"its sequence {register}: {told}"


def _as_reference(register: Register) -> str:
    """A hint where a reference was taken for an address."""
    begin = _REFERENCES.get(register.kind, _NEVER)
    if not 0 < register.address - begin < 10_000:
        return ""
    return (
        f"; {register.address} without {register.kind!r} before it would mean "
        f"{register.kind} {register.address - begin - 1}"
    )
