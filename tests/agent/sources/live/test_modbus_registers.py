# SPDX-License-Identifier: Apache-2.0
"""What a configuration says of registers: both notations, and errors that name field and value."""

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.config import load
from fedmill_agent.sources.modbus.declaration import Defaults, Register
from fedmill_agent.sources.modbus.notation import from_text
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_agent.sources.modbus.registers import Range, ranges
from fedmill_agent.sources.modbus.values import ORDERS, TYPES, WIDTHS
from fedmill_shared.errors import ConfigError

WORDS = ["holding", "coil", "40101", "100", "1.3", "float32", "CDAB", "device", "3", "x"]
DEFAULTS = Defaults(device=1, order="ABCD", not_a_number={})


def options(**fields: object) -> ModbusOptions:
    """Decoded like a configuration file."""
    return msgspec.convert({"kind": "modbus", "name": "line", **fields}, ModbusOptions)


def declared(told: object, **fields: object) -> Register:
    """The register that ``told`` declares."""
    return options(registers={"t": told}, **fields).declared["t"]


class TestNotation:
    @pytest.mark.parametrize(
        ("text", "register"),
        [
            ("holding 100", Register("t", 1, "holding", 100, "uint16", "AB")),
            ("input 7 int16", Register("t", 1, "input", 7, "int16", "AB")),
            ("holding 100 float32", Register("t", 1, "holding", 100, "float32", "ABCD")),
            ("holding 100 float32 CDAB", Register("t", 1, "holding", 100, "float32", "CDAB")),
            ("holding 0 uint16 BA", Register("t", 1, "holding", 0, "uint16", "BA")),
            (
                "holding 4 float64 GHEFCDAB device 9",
                Register("t", 9, "holding", 4, "float64", "GHEFCDAB"),
            ),
            ("holding 100.3", Register("t", 1, "holding", 100, "uint16", "AB", bit=3)),
            ("coil 12", Register("t", 1, "coil", 12)),
            ("discrete 12 device 0", Register("t", 0, "discrete", 12)),
            ("40101 float32 CDAB", Register("t", 1, "holding", 100, "float32", "CDAB")),
            ("30001", Register("t", 1, "input", 0, "uint16", "AB")),
            ("10008", Register("t", 1, "discrete", 7)),
            ("00001", Register("t", 1, "coil", 0)),
            ("465536", Register("t", 1, "holding", 65535, "uint16", "AB")),
            ("40101.3", Register("t", 1, "holding", 100, "uint16", "AB", bit=3)),
        ],
    )
    def test_lines(self, text: str, register: Register) -> None:
        """Addresses count from 0, references from 1."""
        assert declared(text) == register

    @given(
        st.sampled_from(["holding", "input"]),
        st.integers(0, 65532),
        st.sampled_from([each for each in TYPES if each != "bool"]),
        st.data(),
    )
    def test_what_a_register_shows_declares_it(
        self, kind: str, address: int, form: str, data: st.DataObject
    ) -> None:
        """Messages show registers in the notation of the file."""
        order = data.draw(st.sampled_from(ORDERS[WIDTHS[form]]))
        register = from_text("t", f"{kind} {address} {form} {order}", DEFAULTS)
        assert from_text("t", str(register), DEFAULTS) == register

    def test_tables_say_the_same(self) -> None:
        """A register as a table, and in a list, which is the line's."""
        table = {"kind": "holding", "address": 100, "type": "float32", "order": "CDAB"}
        line = declared("40101 float32 CDAB device 3")
        assert declared(table | {"device": 3}) == line
        rest = {"type": "float32", "order": "CDAB", "device": 3}
        assert declared({"reference": "40101", **rest}) == line
        listed = options(registers=[{"name": "t", **table, "device": 3}])
        assert listed.declared == {"t": line}

    def test_defaults_of_the_source(self) -> None:
        """Device, order and values that stand for none."""
        empty = {"int16": [0x8000], "float32": [0x7FC00000]}
        common = {"device": 5, "order": "CDAB", "not_a_number": empty}
        assert declared("holding 1 float32", **common) == Register(
            "t", 5, "holding", 1, "float32", "CDAB", not_a_number=(0x7FC00000,)
        )
        assert declared("holding 1 int16", **common).not_a_number == (0x8000,)
        assert declared("holding 1 float32 ABCD device 2", **common).order == "ABCD"
        own = {"kind": "holding", "address": 1, "type": "int16", "not_a_number": [-1]}
        assert declared(own, **common).not_a_number == (-1, 0x8000)

    def test_a_block_with_what_counts_it(self) -> None:
        """The register that counts is of the same device, unless it says another."""
        block = {
            "kind": "holding",
            "address": 200,
            "type": "int16",
            "count": 1000,
            "rate_hz": 12800.0,
            "sequence": "holding 199",
            "device": 7,
        }
        register = declared(block)
        assert (register.size, register.end, register.rate_hz) == (1000, 1200, 12800.0)
        assert register.sequence == Register("", 7, "holding", 199, "uint16", "AB")

    def test_the_rate_of_a_block_may_stand_in_rates(self) -> None:
        """By its signal, which is mapped to the tag or called like it."""
        block = {"kind": "holding", "address": 0, "count": 10}
        assert declared(block, rates={"t": 50.0}).rate_hz == 50.0
        assert declared(block, rates={"v": 50.0}, tags={"v": "t"}).rate_hz == 50.0


class TestErrors:
    @pytest.mark.parametrize(
        ("told", "message"),
        [
            ("", "`registers.t` is '', which says nothing"),
            ("holding", "begins with 'holding'"),
            ("relay 7", "begins with 'relay': write coil, discrete, input or holding"),
            ("holding 100 flaot32", "has 'flaot32' where a type"),
            ("holding 100 ABCD", "has the order 'ABCD': uint16 has AB, BA"),
            ("holding 100 ABCD float32", "has 'float32' where a type"),
            ("holding 100 float32 ABDC", "has 'ABDC' where"),
            ("holding 100 float64 CDAB", "has the order 'CDAB': float64 has ABCDEFGH"),
            ("holding 70000", "has the address '70000'"),
            ("holding x", "has the address 'x'"),
            ("holding 65535 float32", "goes up to address 65536"),
            ("holding 100 device 256", "has the device 256"),
            ("holding 100 device x", "has 'device' where"),
            ("holding 100.16", "has the bit 16, and uint16 has bits 0 to 15"),
            ("holding 100.3 float32", "has the bit 3 and the type float32"),
            ("coil 7 uint16", "is a coil, one bit"),
            ("101", "has the reference '101'"),
            ("40000", "has the reference '40000'"),
            ("465537", "has the reference '465537'"),
            ("20001", "has the reference '20001'"),
            ({"kind": "holding"}, "has no `address`"),
            ({"address": 3}, "has no `kind`"),
            ({"kind": "holding", "address": 1, "reference": "40001"}, "give one of them"),
            ({"reference": "40001", "type": "float"}, "has the type 'float'"),
            ({"reference": "40001", "count": 10}, "has the count 10 and no `rate_hz`"),
            ({"reference": "40001", "rate_hz": 10.0}, "and no `count`"),
            ({"reference": "40001", "not_a_number": [0x18000]}, "has 0x18000 for no number"),
            (
                {"reference": "40001", "count": 5, "rate_hz": 1.0, "sequence": "coil 3"},
                "has the `sequence` 'coil 3'",
            ),
            (
                {"reference": "40001", "count": 5, "rate_hz": 1.0, "sequence": "holding"},
                "has a `sequence` that begins with 'holding'",
            ),
        ],
    )
    def test_each_names_register_field_and_value(self, told: object, message: str) -> None:
        """While the file is read, not when the device is asked."""
        with pytest.raises(msgspec.ValidationError) as caught:
            declared(told)
        assert "`registers.t`" in str(caught.value)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"not_a_number": {"int8": [1]}}, "`not_a_number` names the type 'int8'"),
            ({"not_a_number": {"int16": [99999]}}, "`not_a_number` of int16 has 0x1869f"),
            ({"scan": "holding"}, "`scan` has 'holding'"),
            ({"scan": "holding 9-3"}, "`scan` has 'holding 9-3'"),
            ({"scan": "relay 3"}, "`scan` has 'relay 3'"),
            ({"scan": "holding 0-1500, input 0-1500"}, "`scan` has 3002 addresses"),
            (
                {"registers": [{"name": "t", "reference": "40001"}] * 2},
                "`registers` has 't' twice",
            ),
            (
                {
                    "registers": {"t": {"reference": "40001", "count": 5, "rate_hz": 1.0}},
                    "rates": {"t": 2.0},
                },
                "has the rate_hz 1, and `rates` says 2",
            ),
        ],
    )
    def test_of_the_source(self, fields: dict[str, object], message: str) -> None:
        """Options that hold for all registers."""
        with pytest.raises(msgspec.ValidationError) as caught:
            options(**fields)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            (
                '[sources.registers]\nt = "holding 1 flaot32"',
                "`registers.t` is 'holding 1 flaot32'",
            ),
            ("[sources.registers]\nt = 5", "sources[0].registers.t is 5: expected text or a table"),
            (
                '[sources.registers.t]\nkind = "holdin"\naddress = 3',
                'sources[0].registers.t.kind is "holdin"',
            ),
            (
                '[sources.registers.t]\nkind = "holding"\nadress = 3',
                "sources[0].registers.t.adress is unknown",
            ),
            (
                '[sources.registers.t]\nkind = "holding"\naddress = 65536',
                "sources[0].registers.t.address is 65536",
            ),
            ('registers = [{ reference = "40001" }]', "[[sources.registers]] has no name"),
        ],
    )
    def test_in_a_file_with_their_line(self, tmp_path: Path, lines: str, message: str) -> None:
        """As the agent's start and `check` show them."""
        path = tmp_path / "agent.toml"
        head = '[agent]\nid = "a"\n[[sources]]\nkind = "modbus"\nname = "line"\n'
        path.write_text(head + lines + "\n")
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}:")
        assert message in str(caught.value)

    @given(st.text(max_size=40))
    def test_no_text_is_more_than_refused(self, text: str) -> None:
        """Any text is a register or a ValueError."""
        with suppress(ValueError):
            register = from_text("t", text, DEFAULTS)
            assert 0 <= register.address < register.end <= 65536

    @given(st.lists(st.sampled_from(WORDS)))
    def test_nor_are_known_words_in_any_sequence(self, words: list[str]) -> None:
        """The same with words that mean something."""
        with suppress(ValueError):
            register = from_text("t", " ".join(words), DEFAULTS)
            assert from_text("t", f"{register} device {register.device}", DEFAULTS) == register


class TestRanges:
    def test_several_of_several_devices(self) -> None:
        """Bounds are inclusive, as people write them."""
        assert ranges("holding 0-99, coil 7 device 3", 1) == [
            Range(1, "holding", 0, 100),
            Range(3, "coil", 7, 8),
        ]
        assert ranges("  ", 1) == []
