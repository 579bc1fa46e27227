# SPDX-License-Identifier: Apache-2.0
"""Readings of what came and of what did not, and doubts about the order of bytes."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.live import BAD, GOOD, Readings, reading
from fedmill_agent.sources.modbus import values
from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.values import WIDTHS

_SURE = 3
"""Values in a row that make no sense, after which another order is suggested."""


def part(data: bytes, register: Register, address: int) -> bytes:
    """What of ``data``, read from ``address`` on, is of ``register``; bits as one byte each."""
    skipped = register.address - address
    if register.is_bit:
        return values.bits(data, skipped, register.size).astype(np.uint8).tobytes()
    return data[2 * skipped : 2 * (skipped + register.size)]


def numbers(register: Register, data: bytes) -> NDArray[np.float64]:
    """float64 (count,) of a register's own ``data``."""
    if register.is_bit:
        return np.frombuffer(data, np.uint8).astype(np.float64)
    return values.numbers(
        data,
        register.type,
        register.order,
        bit=register.bit,
        not_a_number=register.not_a_number,
    )


@dataclass(slots=True)
class Decoder:
    """Owns the newest registers of every tag.

    Attributes:
        problems: where to say that the values of a tag make no sense, and in which order they
            would; who takes a value in clears them first.
    """

    problems: dict[str, str]
    _newest: dict[str, tuple[Register, bytes]] = field(default_factory=dict)
    _odd: Counter[str] = field(default_factory=Counter)

    def one(self, register: Register, data: bytes, time_ns: int, now_ns: int) -> Readings:
        """The reading of a single value of ``time_ns`` that came at ``now_ns``."""
        value = float(numbers(register, data)[0])
        self._remember(register, data, value)
        return reading(register.tag, value, time_ns=time_ns, arrived_ns=now_ns)

    def block(
        self, register: Register, data: bytes, times_ns: NDArray[np.int64], now_ns: int
    ) -> Readings:
        """The readings of a block with ``times_ns`` (count,)."""
        found = numbers(register, data)
        self._remember(register, data, float(found[0]))
        quality = np.where(np.isfinite(found), GOOD, BAD).astype(np.uint16)
        return Readings(register.tag, times_ns, found, quality, now_ns)

    def suspects(self, tag: str, low: float, high: float) -> list[tuple[str, float]]:
        """Orders that would make ``tag`` plausible, and the values; see ``values.suspects``."""
        register, data = self._newest.get(tag, (None, b""))
        if register is None or register.is_bit or register.bit >= 0:
            return []
        first = data[: WIDTHS[register.type]]
        return values.suspects(first, register.type, register.order, low, high)

    def _remember(self, register: Register, data: bytes, value: float) -> None:
        tag = register.tag
        self._newest[tag] = register, data
        better = _better(register, data, value)
        self._odd[tag] = self._odd[tag] + 1 if better else 0
        if self._odd[tag] >= _SURE:
            first = data[: WIDTHS[register.type]]
            is_now, would = (
                float(values.numbers(first, register.type, order)[0])
                for order in (register.order, better)
            )
            self.problems[tag] = (
                f"{register} of device {register.device} is {is_now:.3g}, which makes no sense; "
                f"as {better} it would be {would:.6g}: correct its order"
            )


def none(register: Register, time_ns: int, now_ns: int) -> Readings:
    """The bad reading of a register that does not come."""
    return reading(register.tag, np.nan, time_ns=time_ns, arrived_ns=now_ns, quality=BAD)


def _better(register: Register, data: bytes, value: float) -> str:
    """An order that makes more sense of a ``value`` of its own; empty where there is none."""
    if not register.type.startswith("float") or values.usual(value):
        return ""
    return values.nonsense(data[: WIDTHS[register.type]], register.type, register.order)
