# SPDX-License-Identifier: Apache-2.0
"""Which registers are read together, and what is left of that when a device refuses.

A device refuses a whole read for one address that it does not have. The read is then split until
the bad register is alone. What is left is joined again once, as the splitting left good registers
apart; a read that is refused after that stays split.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from fedmill_agent.sources.modbus.declaration import Kind, Register

MOST_REGISTERS = 125
MOST_BITS = 2000
"""Of one read, as the protocol allows (Application Protocol Specification V1.1b3, 6.1 to 6.4)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A question to a device: read ``count`` registers or bits of ``kind`` from ``address`` on."""

    device: int
    kind: Kind
    address: int
    count: int


@dataclass(slots=True, eq=False)
class Group:
    """Registers that are read at once, by address; those between them are read along.

    Attributes:
        registers: at least one, of one device and kind.
        joined: put together again after it had been split.
        proven: it was read at once before, so a failure lies elsewhere.
    """

    registers: tuple[Register, ...]
    joined: bool = False
    proven: bool = False

    @property
    def request(self) -> Request:
        """The question that brings them."""
        first = self.registers[0]
        end = max(each.end for each in self.registers)
        return Request(first.device, first.kind, first.address, end - first.address)


@dataclass(slots=True)
class Plan:
    """Owns the groups of one session.

    Attributes:
        groups: what to ask; registers that were found to be bad are alone in theirs.
    """

    registers: Sequence[Register]
    largest_gap: int
    largest_read: int = MOST_REGISTERS
    groups: list[Group] = field(default_factory=list)
    _bad: set[Register] = field(default_factory=set)
    _split: bool = False

    def __post_init__(self) -> None:
        self.groups = self._grouped(self.registers)

    def split(self, group: Group) -> list[Group]:
        """What to read instead of a ``group`` of several that was refused, in two parts."""
        halves = _halves(group.registers)
        parts = [Group(half, joined=group.joined) for half in halves]
        place = self.groups.index(group)
        self.groups[place : place + 1] = parts
        self._split = self._split or not group.joined
        return parts

    def isolate(self, register: Register) -> None:
        """Remember that ``register`` is refused even alone."""
        self._bad.add(register)

    def release(self, registers: Iterable[Register]) -> None:
        """``registers`` that were refused are good again, and may be joined to others."""
        self._bad.difference_update(registers)
        self._split = True

    def settle(self) -> None:
        """Join again what was split and turned out to be good; call it after a whole poll."""
        if not self._split:
            return
        self._split = False
        alone = [Group((each,)) for each in self.registers if each in self._bad]
        good = [each for each in self.registers if each not in self._bad]
        before = {frozenset(group.registers): group for group in self.groups}
        joined = self._grouped(good, self._bad)
        self.groups = alone
        for group in joined:
            known = before.get(frozenset(group.registers))
            self.groups.append(known or Group(group.registers, joined=True))

    def _grouped(
        self, registers: Iterable[Register], bad: Collection[Register] = ()
    ) -> list[Group]:
        groups: list[list[Register]] = []
        end = 0
        for each in sorted(registers, key=_place):
            last = groups[-1] if groups else []
            if last and self._fits(last[0], end, each) and not _across(last[0], end, each, bad):
                last.append(each)
                end = max(end, each.end)
            else:
                groups.append([each])
                end = each.end
        return [Group(tuple(group)) for group in groups]

    def _fits(self, first: Register, end: int, register: Register) -> bool:
        """Whether a read from ``first`` to before ``end`` may go on to ``register``."""
        if (first.device, first.kind) != (register.device, register.kind):
            return False
        gap, most = self.largest_gap, self.largest_read
        if register.is_bit:
            gap, most = 16 * gap, min(16 * most, MOST_BITS)
        return register.address - end <= gap and max(end, register.end) - first.address <= most


def _place(register: Register) -> tuple[int, str, int, int]:
    return register.device, register.kind, register.address, register.end


def _across(first: Register, end: int, register: Register, bad: Collection[Register]) -> bool:
    """Whether a read from ``first`` to ``register`` would touch a register that is refused."""
    end = max(end, register.end)
    return any(
        (each.device, each.kind) == (register.device, register.kind)
        and each.address < end
        and each.end > first.address
        for each in bad
    )


def _halves(registers: tuple[Register, ...]) -> tuple[tuple[Register, ...], tuple[Register, ...]]:
    """Cut at the widest gap, which the device may not have; of equal ones the most central."""
    middle = len(registers) / 2
    ends = list(accumulate((each.end for each in registers), max))

    def worth(cut: int) -> tuple[int, float]:
        return max(0, registers[cut].address - ends[cut - 1]), -abs(cut - middle)

    cut = max(range(1, len(registers)), key=worth)
    return registers[:cut], registers[cut:]
