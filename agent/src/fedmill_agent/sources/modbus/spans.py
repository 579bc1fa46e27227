# SPDX-License-Identifier: Apache-2.0
"""Blocks that lie side by side, and the questions that bring them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm

from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.plan import MOST_BITS, MOST_REGISTERS, Request


@dataclass(frozen=True, slots=True)
class Span:
    """Blocks of one device and kind that are read in one go.

    Attributes:
        registers: the blocks, by address.
        first: the first address.
        end: the address after the last one.
    """

    registers: tuple[Register, ...]
    first: int
    end: int

    def requests(self, largest_read: int) -> Iterator[Request]:
        """Questions in order; one for a single block ends between two values."""
        register = self.registers[0]
        if register.is_bit:  # so that bytes of bits join
            at_once = min(16 * largest_read, MOST_BITS) // 8 * 8
        else:
            step = lcm(*(each.size // each.count for each in self.registers))
            at_once = min(largest_read, MOST_REGISTERS) // step * step
        for address in range(self.first, self.end, at_once):
            count = min(at_once, self.end - address)
            yield Request(register.device, register.kind, address, count)


def spans(registers: Sequence[Register], largest_gap: int) -> list[Span]:
    """``registers`` in as few spans as gaps of ``largest_gap`` registers allow."""
    found: list[Span] = []
    for each in sorted(registers, key=lambda one: (one.device, one.kind, one.address)):
        last = found[-1] if found else None
        gap = 16 * largest_gap if each.is_bit else largest_gap
        if last is not None and _same(last.registers[0], each) and each.address - last.end <= gap:
            found[-1] = Span((*last.registers, each), last.first, max(last.end, each.end))
        else:
            found.append(Span((each,), each.address, each.end))
    return found


def _same(one: Register, other: Register) -> bool:
    return (one.device, one.kind) == (other.device, other.kind)
