# SPDX-License-Identifier: Apache-2.0
"""Sparkplug payloads against Google's implementation, the specification's examples, and noise."""

import math
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.sources.live.stands.sparkplug_schema import read, written

from fedmill_agent.sources.sparkplug import payload, wire
from fedmill_agent.sources.sparkplug.datatypes import DataType, Mistyped, name_of, pack, unpack
from fedmill_agent.sources.sparkplug.payload import Metric, Payload, decode, encode, metric
from fedmill_agent.sources.sparkplug.wire import Malformed

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
FIELDS = {
    "int_value": U32,
    "long_value": U64,
    "float_value": st.floats(width=32),
    "double_value": st.floats(),
    "boolean_value": st.booleans(),
    "string_value": st.text(max_size=20),
    "bytes_value": st.binary(max_size=20),
}
METRICS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(min_size=1, max_size=20),
        "alias": U64,
        "timestamp": U64,
        "datatype": st.integers(1, 34),
        "is_historical": st.booleans(),
        "is_transient": st.booleans(),
        "is_null": st.booleans(),
    },
)
VALUES = st.sampled_from(list(FIELDS)).flatmap(
    lambda name: FIELDS[name].map(lambda value: {name: value})
)
INTEGERS = {
    DataType.Int8: 8, DataType.Int16: 16, DataType.Int32: 32, DataType.Int64: 64,
    DataType.UInt8: -8, DataType.UInt16: -16, DataType.UInt32: -32, DataType.UInt64: -64,
}  # fmt: skip


def same(one: object, other: object) -> bool:
    """Equal, NaN included."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


class TestAgainstGoogle:
    @given(
        st.lists(st.tuples(METRICS, VALUES | st.just({})), max_size=5),
        st.none() | U64,
        st.none() | U64,
    )
    def test_what_it_writes_is_read(
        self,
        metrics: list[tuple[dict[str, Any], dict[str, Any]]],
        timestamp: int | None,
        seq: int | None,
    ) -> None:
        """Field by field, whatever is left out."""
        tables = [table | value for table, value in metrics]
        found = decode(written(tables, timestamp=timestamp, seq=seq))
        assert (found.time_ms, found.seq, len(found.metrics)) == (timestamp, seq, len(tables))
        for told, table in zip(found.metrics, tables, strict=True):
            assert told.name == table.get("name", "")
            assert told.alias == table.get("alias")
            assert told.time_ms == table.get("timestamp")
            assert told.datatype == table.get("datatype", 0)
            flags = (told.historical, told.transient, told.null)
            assert flags == tuple(
                table.get(name, False) for name in ("is_historical", "is_transient", "is_null")
            )
            value = next((value for name, value in table.items() if name in FIELDS), None)
            assert same(told.raw, value)

    @given(st.lists(st.tuples(METRICS, VALUES | st.just({})), max_size=5), st.none() | U64)
    def test_what_we_write_it_reads(
        self, metrics: list[tuple[dict[str, Any], dict[str, Any]]], timestamp: int | None
    ) -> None:
        """And writes back as the same bytes."""
        data = written([table | value for table, value in metrics], timestamp=timestamp)
        again = read(encode(decode(data)))
        first = read(data)
        for known in first.metrics:  # a flag that is off is as good as none
            for name in ("is_historical", "is_transient", "is_null"):
                if not getattr(known, name):
                    known.ClearField(name)
        assert again.SerializeToString() == first.SerializeToString()

    @given(
        st.dictionaries(
            st.text(max_size=10),
            st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=10),
            max_size=6,
        )
    )
    def test_properties(self, properties: dict[str, Any]) -> None:
        """Numbers, truths and texts, there and back, and as the library sees them."""
        sent = metric("a", DataType.Int32, 1, properties=properties)
        (got,) = decode(encode(Payload([sent]))).metrics
        found = got.properties()
        assert found.keys() == properties.keys()
        assert all(same(found[name], value) for name, value in properties.items())
        seen = read(encode(Payload([sent]))).metrics[0].properties
        assert list(seen.keys) == list(properties)

    def test_what_is_skipped(self) -> None:
        """Data sets, templates, metadata and nested sets are passed over; the rest comes."""
        message = read(written([{"name": "a", "datatype": 16}, {"name": "b", "int_value": 7}]))
        first = message.metrics[0]
        first.dataset_value.columns.append("x")
        first.metadata.description = "long"
        first.properties.keys.extend(["set", "Quality"])
        nested = first.properties.values.add(type=20)
        nested.propertyset_value.keys.append("deep")
        first.properties.values.add(type=3, int_value=500)
        third = message.metrics.add(name="c", datatype=19)
        third.template_value.template_ref = "motor"
        message.body = b"anything"
        message.uuid = "schema"
        one, two, three = decode(message.SerializeToString()).metrics
        assert one.properties() == {"Quality": 500}
        assert two.value(DataType.UInt8) == 7
        for each in (one, three):
            with pytest.raises(Mistyped):
                each.value()

    @given(st.sampled_from(list(INTEGERS)), st.data())
    def test_integers_of_all_types(self, kind: DataType, data: Any) -> None:
        """Two's complement of 32 or 64 bits, as others read it."""
        bits = INTEGERS[kind]
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if bits > 0 else (0, 2**-bits)
        value = data.draw(st.integers(low, high - 1))
        (seen,) = read(encode(Payload([metric("a", kind, value)]))).metrics
        wide = abs(bits) == 64
        assert (seen.long_value if wide else seen.int_value) == value % (2**64 if wide else 2**32)
        (got,) = decode(encode(Payload([metric("a", kind, value)]))).metrics
        assert got.value() == value


class TestWireFormat:
    @pytest.mark.parametrize(
        ("data", "field"),
        [
            # protobuf.dev, "Encoding": 08 96 01 is 150 in field 1; 12 07 "testing" is a text
            (b"\x08\x96\x01", (1, 0, 150)),
            (b"\x12\x07testing", (2, 2, b"testing")),
            (b"\x4d\x00\x00\x80\x3f", (9, 5, 0x3F800000)),
            (b"\x08" + b"\xff" * 9 + b"\x01", (1, 0, 2**64 - 1)),
        ],
    )
    def test_examples(self, data: bytes, field: tuple[int, int, Any]) -> None:
        """Of the description."""
        assert list(wire.fields(data)) == [field]

    @pytest.mark.parametrize(
        "data",
        [b"\x08", b"\x08\x80", b"\x12\x05abc", b"\x0d\x00", b"\x09\x00", b"\x0b", b"\x0c", b"\x0f",
         b"\x00\x01", b"\x08" + b"\xff" * 11, b"\x12" + b"\xff" * 9 + b"\x01",
         b"\x80" * 20],
    )  # fmt: skip
    def test_what_is_none(self, data: bytes) -> None:
        """Cut short, too long, or of a type that there is not."""
        with pytest.raises(Malformed):
            list(wire.fields(data))

    @given(st.binary(max_size=200))
    def test_noise(self, data: bytes) -> None:
        """A payload or Malformed; its metrics, too, give a value, properties or their own word."""
        try:
            found = decode(data)
        except Malformed:
            return
        for each in found.metrics:
            with suppress(Mistyped):
                each.value(DataType.Int32)
            with suppress(Malformed):
                each.properties()

    @given(st.data())
    def test_damage(self, data: Any) -> None:
        """One byte changed or the end cut off in a real one."""
        whole = payload.node_birth(
            [metric("a", DataType.FloatArray, [1.0, 2.0], properties={"Quality": 192})],
            time_ms=1_700_000_000_000,
            seq=0,
            bd_seq=3,
        )
        at = data.draw(st.integers(0, len(whole) - 1))
        byte = bytes([data.draw(st.integers(0, 255))])
        for damaged in (whole[:at], whole[:at] + byte + whole[at + 1 :]):
            with suppress(Malformed, Mistyped):
                for each in decode(damaged).metrics:
                    each.properties()
                    each.value()

    def test_too_many_metrics(self) -> None:
        """Two bytes each would be a hundred times as much in memory."""
        with pytest.raises(Malformed, match="50000"):
            decode(b"\x12\x00" * 50_001)


class TestTypes:
    @pytest.mark.parametrize(
        ("kind", "values", "packed"),
        [
            # Sparkplug 3.0, 6.4.16, "Array Types"; there, EF is said to be -23
            ("Int8Array", [-17, 123], "EF 7B"),
            ("Int16Array", [-30000, 30000], "D0 8A 30 75"),
            ("Int32Array", [-1, 315338746], "FF FF FF FF FA AF CB 12"),
            ("Int64Array", [-4270929666821191986, -3601064768563266876],
             "CE 06 72 AC 18 9C BA C4 C4 BA 9C 18 AC 72 06 CE"),
            ("UInt8Array", [23, 250], "17 FA"),
            ("UInt16Array", [30, 52360], "1E 00 88 CC"),
            ("UInt32Array", [52, 3293969225], "34 00 00 00 49 FB 55 C4"),
            ("UInt64Array", [52, 16444743074749521625],
             "34 00 00 00 00 00 00 00 D9 9E 02 D1 B2 76 37 E4"),
            ("BooleanArray", [0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1], "0C 00 00 00 34 D0"),
        ],
    )  # fmt: skip
    def test_arrays_of_the_specification(self, kind: str, values: list[int], packed: str) -> None:
        """Its own examples; those of floats contradict its text, and Tahu goes by the text."""
        data = bytes.fromhex(packed)
        found = unpack(DataType[kind], 16, data)
        assert np.array_equal(found, np.array(values, np.float64))
        exact = np.array(values, np.uint64 if kind == "UInt64Array" else np.int64)
        assert pack(DataType[kind], exact) == (16, data)

    @given(st.lists(st.floats(width=32), max_size=20))
    def test_float_arrays_are_little_endian(self, values: list[float]) -> None:
        """As the text of the specification says of all arrays."""
        data = struct.pack(f"<{len(values)}f", *values)
        assert pack(DataType.FloatArray, np.array(values))[1] == data or any(
            map(math.isnan, values)
        )
        assert np.array_equal(unpack(DataType.FloatArray, 16, data), values, equal_nan=True)

    @given(st.lists(st.booleans(), max_size=40))
    def test_truths(self, values: list[bool]) -> None:
        """Eight in a byte."""
        field, raw = pack(DataType.BooleanArray, np.array(values, bool))
        assert unpack(DataType.BooleanArray, field, raw).tolist() == [float(v) for v in values]

    @pytest.mark.parametrize(
        ("kind", "field", "raw", "value"),
        [
            ("Int8", 10, 0xFFFFFFE9, -23),
            ("Int8", 10, 0xE9, -23),
            ("Int8", 11, 2**64 - 23, -23),
            ("Int16", 10, 0x8AD0, -30000),
            ("Int32", 10, 2**32 - 1, -1),
            ("Int64", 11, 2**64 - 1, -1),
            ("Int64", 10, 5, 5),
            ("UInt32", 11, 2**32 - 1, 2**32 - 1),
            ("UInt64", 11, 2**64 - 1, 2**64 - 1),
            ("DateTime", 11, 1_700_000_000_000, 1_700_000_000_000),
            ("Boolean", 14, True, True),
            ("Boolean", 10, 1, 1),
            ("UInt8", 14, True, True),
            ("Float", 13, 2.5, 2.5),
            ("Double", 12, 2.5, 2.5),
            ("String", 15, "run", "run"),
            ("Float", 15, "run", "run"),
        ],
    )
    def test_values(self, kind: str, field: int, raw: Any, value: Any) -> None:
        """As the specification has them, and as some senders do."""
        assert unpack(DataType[kind], field, raw) == value

    @pytest.mark.parametrize(
        ("kind", "field", "raw"),
        [("Int8", 10, 300), ("UInt8", 10, 256), ("Boolean", 10, 2), ("Float", 10, 1),
         ("Int32", 12, 1.5), ("String", 10, 0), ("Unknown", 10, 0), ("DataSet", 17, b""),
         ("Template", 18, b""), ("Bytes", 16, b"12"), ("StringArray", 16, b"a\0"),
         ("FloatArray", 16, b"123"), ("BooleanArray", 16, b"\xff\xff\xff\xff\x01"),
         ("BooleanArray", 16, b"\x01"),
         ("BooleanArray", 16, b"\x01\x00\x10\x00" + bytes(1 << 18)), ("Int32", 0, None),
         ("Double", 16, b"")],
    )  # fmt: skip
    def test_what_is_none(self, kind: str, field: int, raw: Any) -> None:
        """No number is made of it."""
        with pytest.raises(Mistyped):
            unpack(DataType[kind], field, raw)

    @given(st.integers(0, 40), st.integers(0, 20), st.integers() | st.floats() | st.text()
           | st.binary(max_size=20) | st.booleans() | st.none())  # fmt: skip
    def test_anything(self, datatype: int, field: int, raw: Any) -> None:
        """A value, or Mistyped."""
        if isinstance(raw, int) and not 0 <= raw < 2**64:
            return  # no wire carries it
        try:
            unpack(datatype, field, raw)
        except Mistyped:
            return

    @pytest.mark.parametrize(
        ("kind", "value"),
        [("Int8", 128), ("UInt8", -1), ("Int32", 1.5), ("Int16", math.nan), ("String", 5),
         ("Float", "x"), ("Int8Array", [200]), ("Int8Array", [1.5]), ("FloatArray", [[1.0]]),
         ("FloatArray", ["x"]), ("Unknown", 1), ("Template", 1), ("UInt64", 2**64),
         ("Int64Array", [math.nan])],
    )  # fmt: skip
    def test_what_cannot_be_sent(self, kind: str, value: Any) -> None:
        """Refused before it is on the wire."""
        with pytest.raises(ValueError, match=r"is no|outside|int too large|convert"):
            metric("a", DataType[kind], value)

    def test_floats_that_are_too_large(self) -> None:
        """Become infinite, as everywhere."""
        (got,) = decode(encode(Payload([metric("a", DataType.Float, 1e300)]))).metrics
        assert got.value() == math.inf
        assert np.isinf(unpack(DataType.FloatArray, *pack(DataType.FloatArray, [1e300, 1.0]))[0])

    def test_names(self) -> None:
        """Those of the specification."""
        assert (name_of(30), name_of(8), name_of(99)) == ("FloatArray", "UInt64", "type 99")


class TestCertificates:
    def test_birth_of_a_node(self) -> None:
        """With bdSeq and the rebirth command, everything named, typed and timed (6.4.19)."""
        data = payload.node_birth(
            [metric("speed", DataType.Double, 1.5, alias=7)], time_ms=99, seq=0, bd_seq=3
        )
        seen = read(data)
        assert [each.name for each in seen.metrics] == ["bdSeq", "Node Control/Rebirth", "speed"]
        assert seen.metrics[0].long_value == 3
        assert seen.metrics[0].datatype == 4
        assert seen.metrics[1].boolean_value is False
        assert seen.metrics[1].HasField("boolean_value")
        assert all(each.HasField("timestamp") for each in seen.metrics)
        assert (seen.seq, seen.timestamp) == (0, 99)

    def test_own_commands_are_not_doubled(self) -> None:
        """Who gives them himself gets them once."""
        own = metric(payload.REBIRTH, DataType.Boolean, value=False)
        seen = read(payload.node_birth([own], time_ms=1, seq=0, bd_seq=0))
        assert [each.name for each in seen.metrics] == ["bdSeq", "Node Control/Rebirth"]

    def test_data(self) -> None:
        """An alias stands for name and type (6.4.20); null has no value."""
        seen = read(
            payload.data(
                [
                    metric("a", DataType.Int32, 5, alias=1, time_ms=4),
                    metric("b", DataType.Int32, None),
                ],
                time_ms=9,
                seq=255,
            )
        )
        first, second = seen.metrics
        assert (first.name, first.alias, first.datatype, first.timestamp) == ("", 1, 0, 4)
        assert (second.name, second.is_null, second.timestamp) == ("b", True, 9)
        assert second.WhichOneof("value") is None
        assert seen.seq == 255

    def test_deaths_and_commands(self) -> None:
        """A node's has its bdSeq and no number; a command has none either (6.4.23 to 6.4.26)."""
        death = read(payload.node_death(3))
        assert death.metrics[0].name == "bdSeq"
        assert not death.HasField("seq")
        wish = read(payload.rebirth_request(5))
        assert (wish.metrics[0].name, wish.metrics[0].boolean_value) == (payload.REBIRTH, True)
        assert not wish.HasField("seq")

    @pytest.mark.parametrize(
        "metrics",
        [
            [Metric("a")],
            [Metric(datatype=3)],
            [metric("a", 3, 1), metric("a", 3, 1)],
            [metric("a", 3, 1, alias=1), metric("b", 3, 1, alias=1)],
        ],
    )
    def test_births_that_cannot_be(self, metrics: list[Metric]) -> None:
        """Without name or type, or with one name or alias twice."""
        with pytest.raises(ValueError, match=r"without|two metrics"):
            payload.device_birth(metrics, time_ms=1, seq=0)

    @pytest.mark.parametrize("seq", [-1, 256])
    def test_numbers_of_messages(self, seq: int) -> None:
        """From 0 to 255."""
        with pytest.raises(ValueError, match="0 to 255"):
            payload.data([], time_ms=1, seq=seq)
        with pytest.raises(ValueError, match="neither"):
            payload.data([Metric()], time_ms=1, seq=0)
