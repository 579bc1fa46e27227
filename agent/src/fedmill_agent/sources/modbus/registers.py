# SPDX-License-Identifier: Apache-2.0
"""All registers of a configuration, and the ranges that are searched for more."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fedmill_agent.sources.modbus.declaration import (
    ADDRESSES,
    KINDS,
    Declared,
    Defaults,
    Fields,
    Kind,
    Register,
)
from fedmill_agent.sources.modbus.notation import check_range, from_fields, from_text
from fedmill_agent.sources.modbus.values import TYPES

MOST_SCANNED = 2000
"""Addresses that are tried in one search."""

_RANGE = re.compile(r"(\w+) +(\d{1,5})(?:-(\d{1,5}))?(?: +device +(\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses from ``first`` to before ``end`` of one kind in one device."""

    device: int
    kind: Kind
    first: int
    end: int


def declared(
    registers: Declared, defaults: Defaults, rates: Mapping[str, float]
) -> dict[str, Register]:
    """Tag -> register; ``rates`` has samples per second of tags that do not say it themselves.

    Raises:
        ValueError: naming the register, its field and value.
    """
    for kind, empty in defaults.not_a_number.items():
        if kind not in TYPES:
            raise ValueError(f"`not_a_number` names the type {kind!r}: write {', '.join(TYPES)}")
        try:
            check_range(kind, tuple(empty))
        except ValueError as error:
            raise ValueError(f"`not_a_number` of {kind} {error}") from error
    found: dict[str, Register] = {}
    for tag, told in _entries(registers):
        if tag in found:
            raise ValueError(f"`registers` has {tag!r} twice: rename one of the two")
        try:
            found[tag] = _timed(_one(tag, told, defaults), rates.get(tag, 0.0))
        except ValueError as error:
            shown = f" is {told!r}, which" if isinstance(told, str) else ""
            raise ValueError(f"`registers.{tag}`{shown} {error}") from error
    return found


def ranges(scan: str, device: int) -> list[Range]:
    """What the option ``scan`` names, of ``device`` where it names none.

    Raises:
        ValueError: naming the part that is wrong.
    """
    parts = [part.strip() for part in scan.split(",")] if scan.strip() else []
    found = [_range(part, device) for part in parts]
    if (most := sum(each.end - each.first for each in found)) > MOST_SCANNED:
        raise ValueError(f"`scan` has {most} addresses: at most {MOST_SCANNED} are searched")
    return found


def _entries(registers: Declared) -> Iterable[tuple[str, str | Fields]]:
    if isinstance(registers, dict):
        return registers.items()
    return [(each.name, each) for each in registers]


def _one(tag: str, told: str | Fields, defaults: Defaults) -> Register:
    if isinstance(told, str):
        return from_text(tag, told, defaults)
    return from_fields(tag, told, defaults)


def _timed(register: Register, rate_hz: float) -> Register:
    if register.count == 1:
        return register
    if register.rate_hz and rate_hz and register.rate_hz != rate_hz:
        raise ValueError(f"has the rate_hz {register.rate_hz:g}, and `rates` says {rate_hz:g}")
    if not register.rate_hz and not rate_hz:
        raise ValueError(f"has the count {register.count} and no `rate_hz`: give its samples in Hz")
    return replace(register, rate_hz=register.rate_hz or rate_hz)


def _range(part: str, default: int) -> Range:
    match = _RANGE.fullmatch(part)
    kind = next((kind for kind in KINDS if match and kind == match[1]), None)
    if match is None or kind is None:
        raise ValueError(f"`scan` has {part!r}: write it like `holding 0-99` or `coil 7 device 3`")
    first, last = int(match[2]), int(match[3] or match[2])
    device = int(match[4]) if match[4] else default
    if not first <= last < ADDRESSES or device > 255:
        raise ValueError(f"`scan` has {part!r}: addresses go up to 65535, device ids to 255")
    return Range(device, kind, first, last + 1)
