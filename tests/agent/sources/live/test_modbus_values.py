# SPDX-License-Identifier: Apache-2.0
"""Registers to numbers: every type and order against struct, and doubts about orders."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.modbus.values import (
    ORDERS,
    TYPES,
    WIDTHS,
    bits,
    nonsense,
    numbers,
    order_of,
    suspects,
    usual,
)

CODES = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
KINDS_AND_ORDERS = [(kind, order) for kind in CODES for order in ORDERS[WIDTHS[kind]]]


def shuffled(straight: bytes, order: str) -> bytes:
    """Bytes A, B, ... of one value as a device sends them."""
    return bytes(straight[ord(letter) - ord("A")] for letter in order)


class TestNumbers:
    @pytest.mark.parametrize(("kind", "order"), KINDS_AND_ORDERS)
    @given(data=st.data())
    def test_any_bytes_are_what_struct_says(
        self, kind: str, order: str, data: st.DataObject
    ) -> None:
        """Blocks of all bit patterns, in every order."""
        width = WIDTHS[kind]
        values = data.draw(st.lists(st.binary(min_size=width, max_size=width), min_size=1))
        sent = b"".join(shuffled(each, order) for each in values)
        told = [float(struct.unpack(f">{CODES[kind]}", each)[0]) for each in values]
        assert np.array_equal(numbers(sent, kind, order), told, equal_nan=True)

    def test_orders_by_hand(self) -> None:
        """21.5 is 41AC0000, as manuals show it."""
        sent = {
            "ABCD": "41ac0000",
            "CDAB": "000041ac",
            "BADC": "ac410000",
            "DCBA": "0000ac41",
        }
        for order, digits in sent.items():
            assert numbers(bytes.fromhex(digits), "float32", order).tolist() == [21.5]

    def test_a_default_order_holds_for_larger_types_only(self) -> None:
        """Single registers come as the protocol says, whatever the device does with pairs."""
        assert [order_of("uint16", each) for each in ORDERS[4]] == ["AB"] * 4
        assert [order_of("int32", each) for each in ORDERS[4]] == list(ORDERS[4])
        assert [order_of("float64", each) for each in ORDERS[4]] == list(ORDERS[8])

    @given(st.integers(0, 0xFFFF), st.integers(0, 15))
    def test_a_bit_is_taken_out(self, word: int, bit: int) -> None:
        """0 is the least significant one."""
        told = numbers(word.to_bytes(2, "big"), "uint16", "AB", bit=bit)
        assert told.tolist() == [float(word >> bit & 1)]

    def test_a_register_as_bool_is_any_bit(self) -> None:
        """0 is false, and everything else is true."""
        assert numbers(bytes.fromhex("0000 0001 8000"), "bool", "AB").tolist() == [0.0, 1.0, 1.0]

    @pytest.mark.parametrize(
        ("kind", "sent", "empty"),
        [
            ("int16", "8000", 0x8000),
            ("int16", "8000", -0x8000),
            ("uint16", "ffff", 0xFFFF),
            ("int32", "80000000", 0x80000000),
            ("float32", "7fc00000", 0x7FC00000),
            ("float32", "7f7fffff", 0x7F7FFFFF),
            ("uint64", "ffffffffffffffff", -1),
        ],
    )
    def test_values_that_stand_for_none(self, kind: str, sent: str, empty: int) -> None:
        """By their bits, signed or not; the values beside them stay."""
        ones = "00" * (WIDTHS[kind] - 1) + "01"
        order = ORDERS[WIDTHS[kind]][0]
        data = bytes.fromhex(sent + ones)
        told = numbers(data, kind, order, not_a_number=(empty,))
        assert math.isnan(told[0])
        assert math.isfinite(told[1])

    def test_they_are_compared_after_the_order(self) -> None:
        """A swapped float is told from none by what it means."""
        data = bytes.fromhex("00007fc0")
        assert np.isnan(numbers(data, "float32", "CDAB", not_a_number=(0x7FC00000,)))[0]
        assert numbers(data, "uint32", "ABCD", not_a_number=(0x7FC00000,)).tolist() == [0x7FC0]

    @given(st.binary(min_size=1, max_size=250), st.data())
    def test_bits_are_what_shifting_says(self, data: bytes, drawn: st.DataObject) -> None:
        """The lowest bit of a byte comes first."""
        first = drawn.draw(st.integers(0, 8 * len(data) - 1))
        count = drawn.draw(st.integers(1, 8 * len(data) - first))
        whole = int.from_bytes(data, "little")
        told = [float(whole >> first + place & 1) for place in range(count)]
        assert bits(data, first, count).tolist() == told


class TestSuspects:
    def test_a_plausible_value_is_not_suspected(self) -> None:
        """Whatever other orders would make of it."""
        data = struct.pack(">f", 21.5)
        assert suspects(data, "float32", "ABCD", 0, 100) == []

    def test_the_right_order_is_found(self) -> None:
        """A swapped float names its order and the value."""
        data = struct.pack(">HH", *struct.unpack("<HH", struct.pack("<f", 21.5)))
        assert suspects(data, "float32", "ABCD", 10, 100) == [("CDAB", 21.5)]

    @given(
        st.sampled_from(KINDS_AND_ORDERS),
        st.binary(min_size=8, max_size=8),
        st.floats(-1e6, 1e6),
        st.floats(0, 1e6),
    )
    def test_all_of_them_by_brute_force(
        self, how: tuple[str, str], data: bytes, low: float, span: float
    ) -> None:
        """Orders other than the one in use that give a value within the range."""
        kind, order = how
        data = data[: WIDTHS[kind]]
        told = {each: float(numbers(data, kind, each)[0]) for each in ORDERS[WIDTHS[kind]]}
        within = {
            each: value
            for each, value in told.items()
            if low <= value <= low + span and usual(value)
        }
        found = suspects(data, kind, order, low, low + span)
        assert dict(found) == ({} if low <= told[order] <= low + span else within)

    def test_what_no_plant_measures_is_no_suspect(self) -> None:
        """400 swapped is 6.4e-41, which lies above 0: that does not make it plausible."""
        assert suspects(struct.pack(">f", 400.0), "float32", "ABCD", 0, 300) == []

    def test_bools_have_no_order(self) -> None:
        """There is nothing to suspect."""
        assert suspects(b"\x00\x05", "bool", "AB", 10, 20) == []


class TestNonsense:
    @pytest.mark.parametrize("value", [0.0, 21.5, -3e-9, 1e12, math.nan, -math.inf])
    def test_ordinary_floats_are_left_alone(self, value: float) -> None:
        """Small and large ones too, and those with which a device says that it has no value."""
        assert nonsense(struct.pack(">f", value), "float32", "ABCD") == ""

    @pytest.mark.parametrize("value", [21.5, -20.0, 1e3])
    def test_a_swapped_float_that_no_plant_measures(self, value: float) -> None:
        """2.4e-41 is 21.5 in another order; negative ones too."""
        words = struct.unpack(">HH", struct.pack(">f", value))
        assert nonsense(struct.pack(">HH", *words[::-1]), "float32", "ABCD") == "CDAB"

    def test_integers_tell_nothing(self) -> None:
        """Any of them may be meant."""
        assert nonsense(b"\x00\x00\x00\x01", "uint32", "ABCD") == ""
        assert set(TYPES) - set(CODES) == {"bool"}
