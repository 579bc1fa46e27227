# SPDX-License-Identifier: Apache-2.0
"""What a configuration says of a register, and what the register is then."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_agent.sources.modbus.values import WIDTHS

Kind = Literal["coil", "discrete", "input", "holding"]
KINDS: tuple[Kind, ...] = ("coil", "discrete", "input", "holding")
BIT_KINDS = ("coil", "discrete")
ADDRESSES = 1 << 16
LONGEST_BLOCK = 1 << 14
"""Values of the longest block."""


class Fields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register as a table of ``[sources.registers]``."""

    kind: Kind | None = None
    address: Annotated[int, Meta(ge=0, lt=ADDRESSES)] | None = None
    reference: str = ""
    type: str = ""
    order: str = ""
    device: Annotated[int, Meta(ge=0, le=255)] | None = None
    bit: Annotated[int, Meta(ge=0, le=63)] | None = None
    count: Annotated[int, Meta(ge=1, le=LONGEST_BLOCK)] = 1
    rate_hz: Annotated[float, Meta(ge=0.0, le=1e9)] = 0.0
    sequence: str = ""
    not_a_number: Annotated[list[int], Meta(max_length=64)] = []


class Named(Fields, frozen=True, kw_only=True):
    """A register as an entry of a list."""

    name: Annotated[str, Meta(min_length=1)]


Declared = dict[str, str | Fields] | list[Named]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for registers that do not say it themselves.

    Attributes:
        device: id of the device, 0 to 255.
        order: how four bytes come; other sizes alike.
        not_a_number: type -> values that stand for none.
    """

    device: int
    order: str
    not_a_number: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Register:
    """One value, or a block of them, in one device.

    Attributes:
        tag: its name.
        device: id of the device.
        kind: which of the four tables it is in.
        address: of its first register or bit, from 0, as on the wire.
        type: of its values.
        order: how the bytes of a value come.
        bit: which bit of each value; -1 for the whole.
        count: number of values, the oldest first.
        rate_hz: samples per second of a block.
        sequence: the register that counts blocks.
        not_a_number: values that stand for none, as integers.
    """

    tag: str
    device: int
    kind: Kind
    address: int
    type: str = "bool"
    order: str = "AB"
    bit: int = -1
    count: int = 1
    rate_hz: float = 0.0
    sequence: "Register | None" = None
    not_a_number: tuple[int, ...] = ()

    @property
    def is_bit(self) -> bool:
        """Whether it is a coil or a discrete input."""
        return self.kind in BIT_KINDS

    @property
    def size(self) -> int:
        """Registers or bits that it takes."""
        return self.count if self.is_bit else self.count * WIDTHS[self.type] // 2

    @property
    def end(self) -> int:
        """Address after its last one."""
        return self.address + self.size

    def __str__(self) -> str:
        """As a configuration has it, without the device."""
        place = f"{self.kind} {self.address}" + (f".{self.bit}" if self.bit >= 0 else "")
        return place if self.is_bit else f"{place} {self.type} {self.order}"
