# SPDX-License-Identifier: Apache-2.0
"""From what a configuration says of a register, in a line or a table, to the register."""

import re
from dataclasses import replace

from fedmill_agent.sources.modbus.declaration import (
    ADDRESSES,
    BIT_KINDS,
    KINDS,
    Defaults,
    Fields,
    Kind,
    Register,
)
from fedmill_agent.sources.modbus.values import ORDERS, TYPES, WIDTHS, order_of

EXAMPLE = '"holding 100 float32 ABCD"'

_TABLES: dict[str, Kind] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_REFERENCE = re.compile(r"([0134])(\d{4}|\d{5})")
_PLACE = re.compile(r"(\d{1,6})(?:\.(\d{1,2}))?")


def from_text(tag: str, text: str, defaults: Defaults) -> Register:
    """The register that ``text`` declares, as in ``holding 100 float32 ABCD device 3``.

    Kind and address, or a reference such as 40101, then type, order and device id where they are
    not the default. ``100.3`` is bit 3 of register 100.

    Raises:
        ValueError: what is wrong, naming the word.
    """
    words = text.split()
    if not words:
        raise ValueError(f"says nothing: write it like {EXAMPLE}")
    fields: dict[str, str] = {}
    if words[0][0].isdigit():
        fields["reference"] = words.pop(0)
    elif words[0] in KINDS and len(words) > 1:
        fields["kind"], fields["address"] = words.pop(0), words.pop(0)
    else:
        raise ValueError(
            f"begins with {words[0]!r}: write {', '.join(KINDS[:-1])} or {KINDS[-1]} and an "
            f"address, or a reference such as 40101, like {EXAMPLE}"
        )
    if words and words[0] in TYPES:
        fields["type"] = words.pop(0)
    if words and words[0] in {each for orders in ORDERS.values() for each in orders}:
        fields["order"] = words.pop(0)
    if len(words) == 2 and words[0] == "device" and re.fullmatch(r"\d{1,3}", words[1]):
        fields["device"] = words.pop()
        words.pop()
    if words:
        raise ValueError(
            f"has {words[0]!r} where a type ({', '.join(TYPES)}), then an order such as ABCD, "
            f"then `device 3` may stand, like {EXAMPLE}"
        )
    return from_fields(tag, _typed(fields), defaults)


def from_fields(tag: str, fields: Fields, defaults: Defaults) -> Register:
    """The register that a table declares.

    Raises:
        ValueError: what is wrong, naming the field.
    """
    kind, address = _place(fields)
    bit = -1 if fields.bit is None else fields.bit
    found = fields.type or ("bool" if kind in BIT_KINDS else "uint16")
    if found not in TYPES:
        raise ValueError(f"has the type {found!r}: expected {', '.join(TYPES)}")
    if kind in BIT_KINDS and (found != "bool" or fields.order or bit >= 0):
        raise ValueError(f"is a {kind}, one bit: `type`, `order` and `bit` do not apply")
    if bit >= 8 * WIDTHS[found]:
        raise ValueError(f"has the bit {bit}, and {found} has bits 0 to {8 * WIDTHS[found] - 1}")
    if bit >= 0 and found.startswith("float"):
        raise ValueError(f"has the bit {bit} and the type {found}: bits are taken of integers")
    orders = ORDERS[WIDTHS[found]]
    if fields.order and fields.order not in orders:
        raise ValueError(f"has the order {fields.order!r}: {found} has {', '.join(orders)}")
    device = defaults.device if fields.device is None else fields.device
    empty = (*fields.not_a_number, *defaults.not_a_number.get(found, ()))
    check_range(found, empty)
    register = Register(
        tag=tag,
        device=device,
        kind=kind,
        address=address,
        type=found,
        order=fields.order or order_of(found, defaults.order),
        bit=bit,
        count=fields.count,
        rate_hz=fields.rate_hz,
        not_a_number=empty,
    )
    if register.end > ADDRESSES:
        raise ValueError(f"goes up to address {register.end - 1}: the last one is {ADDRESSES - 1}")
    return replace(register, sequence=_sequence(fields, replace(defaults, device=device)))


def check_range(found: str, empty: tuple[int, ...]) -> None:
    """See that the values ``empty`` fit the type ``found``.

    Raises:
        ValueError: one has more bits.
    """
    most = 1 << (8 * WIDTHS[found])
    for each in empty:
        if not -most // 2 <= each < most:
            bits = 8 * WIDTHS[found]
            raise ValueError(f"has {each:#x} for no number, and {found} has {bits} bits")


def _typed(fields: dict[str, str]) -> Fields:
    address, bit = None, None
    place = fields.get("address") or fields["reference"]
    match = _PLACE.fullmatch(place)
    if match is None or ("address" in fields and int(match[1]) >= ADDRESSES):
        raise ValueError(f"has the address {place!r}: expected 0 to 65535, or 100.3 for a bit")
    if "address" in fields:
        address = int(match[1])
    if match[2]:
        bit = int(match[2])
    device = int(fields["device"]) if "device" in fields else None
    if device is not None and device > 255:
        raise ValueError(f"has the device {device}: expected 0 to 255")
    return Fields(
        kind=next((kind for kind in KINDS if kind == fields.get("kind")), None),
        address=address,
        reference=match[1] if "reference" in fields else "",
        type=fields.get("type", ""),
        order=fields.get("order", ""),
        device=device,
        bit=bit,
    )


def _place(fields: Fields) -> tuple[Kind, int]:
    """Kind and address, from either notation."""
    if not fields.reference:
        if not fields.kind or fields.address is None:
            lacking = "address" if fields.kind else "kind"
            raise ValueError(f"has no `{lacking}`: give `kind` and `address`, or `reference`")
        return fields.kind, fields.address
    if fields.kind or fields.address is not None:
        raise ValueError(
            f"has the reference {fields.reference!r} beside `kind` or `address`: give one of them"
        )
    match = _REFERENCE.fullmatch(fields.reference)
    number = int(match[2]) if match else 0
    if match is None or not 1 <= number <= ADDRESSES:
        raise ValueError(
            f"has the reference {fields.reference!r}: expected five or six digits that count from "
            "1 and begin with 0 (coil), 1 (discrete), 3 (input) or 4 (holding), such as 40101"
        )
    return _TABLES[match[1]], number - 1


def _sequence(fields: Fields, defaults: Defaults) -> Register | None:
    if fields.count == 1:
        if fields.sequence or fields.rate_hz:
            raise ValueError("has `sequence` or `rate_hz` and no `count`: they belong to blocks")
        return None
    if not fields.sequence:
        return None
    try:
        register = from_text("", fields.sequence, defaults)
    except ValueError as error:
        raise ValueError(f"has a `sequence` that {error}") from error
    if register.is_bit or register.bit >= 0 or not register.type.startswith("uint"):
        told = "uint16, uint32 or uint64"
        raise ValueError(f"has the `sequence` {fields.sequence!r}: what counts blocks is {told}")
    return register
