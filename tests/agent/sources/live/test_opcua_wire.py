# SPDX-License-Identifier: Apache-2.0
"""OPC UA values as bytes: asyncua's encoder writes them, ours reads them, and nothing harms it."""

import math
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.opcua.responses import (
    publish_response,
    range_of,
    read_response,
    subscription_response,
    unit_of,
)
from fedmill_agent.sources.opcua.wire import (
    DataValue,
    Reader,
    Structure,
    WireError,
    data_value,
    node_id,
)

INTEGERS = {
    "SByte": (-(2**7), 2**7 - 1),
    "Byte": (0, 2**8 - 1),
    "Int16": (-(2**15), 2**15 - 1),
    "UInt16": (0, 2**16 - 1),
    "Int32": (-(2**31), 2**31 - 1),
    "UInt32": (0, 2**32 - 1),
    "Int64": (-(2**63), 2**63 - 1),
    "UInt64": (0, 2**64 - 1),
}
DOUBLES = st.floats(allow_nan=False)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2261, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  as it wants them


def read(data: bytes) -> DataValue:
    """The one value in ``data``, which must be read to its end."""
    reader = Reader(data)
    found = data_value(reader)
    with pytest.raises(WireError):
        reader.raw(1)
    return found


def wire(value: Any, kind: str, **fields: Any) -> bytes:
    """A DataValue as asyncua writes it."""
    variant = ua.Variant(value, ua.VariantType[kind])
    return bytes(struct_to_binary(ua.DataValue(variant, **fields)))


def numbers() -> st.SearchStrategy[tuple[str, float]]:
    """A numeric type and a value of it."""
    whole = [
        st.tuples(st.just(kind), st.integers(*ends).map(float))
        for kind, ends in INTEGERS.items()
        if kind not in ("Int64", "UInt64")
    ]
    long = st.tuples(st.sampled_from(["Int64", "UInt64"]), st.integers(0, 2**53).map(float))
    return st.one_of(*whole, long, st.tuples(st.just("Double"), DOUBLES))


def ns_of(moment: datetime) -> int:
    """Exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


class TestScalars:
    @given(numbers(), st.integers(0, 2**32 - 1), MOMENTS, MOMENTS)
    def test_number_status_and_times(
        self, number: tuple[str, float], status: int, source: datetime, server: datetime
    ) -> None:
        """All fields of a DataValue come back, times to the nanosecond."""
        kind, value = number
        content = value if kind == "Double" else int(value)
        data = wire(
            content,
            kind,
            StatusCode=ua.StatusCode(status),
            SourceTimestamp=source,
            ServerTimestamp=server,
        )
        found = read(data)
        assert (found.type, found.content, found.status) == (kind, value, status)
        assert (found.source_ns, found.server_ns) == (ns_of(source), ns_of(server))

    @given(st.floats(width=32))
    def test_float(self, value: float) -> None:
        """Single precision, infinities and NaN included."""
        found = read(wire(value, "Float")).content
        assert isinstance(found, float)
        assert found == value or (math.isnan(found) and math.isnan(value))

    @pytest.mark.parametrize(
        ("kind", "value", "content"),
        [
            ("Boolean", True, 1.0),
            ("Boolean", False, 0.0),
            ("Null", None, None),
            ("String", "Öl 7", "Öl 7"),
            ("String", None, ""),
            ("LocalizedText", ua.LocalizedText("warm", "en"), "warm"),
            ("LocalizedText", ua.LocalizedText(None, "en"), ""),
            ("QualifiedName", ua.QualifiedName("Line", 2), "Line"),
            ("Guid", UUID(int=7), "00000000-0000-0000-0000-000000000007"),
            ("DateTime", datetime(2026, 1, 5, 6, 12, 43, tzinfo=UTC), "2026-01-05T06:12:43+00:00"),
            ("ByteString", b"\x00\xff", None),
            ("NodeId", ua.NodeId("x", 3), "ns=3;s=x"),
            ("StatusCode", ua.StatusCode(0x80340000), None),
        ],
    )
    def test_other_types(self, kind: str, value: Any, content: object) -> None:
        """Texts are texts; what no sensor has is stepped over and known by its type."""
        found = read(wire(value, kind))
        assert (found.type, found.content) == (kind, content)

    def test_what_is_left_out_is_good_and_without_times(self) -> None:
        """An empty DataValue: null, Good."""
        found = read(b"\x00")
        assert (found.content, found.status, found.stamp_ns) == (None, 0, None)

    def test_picoseconds_stand_behind_their_time(self) -> None:
        """The order of OPC 10000-6, table 29: source, its picoseconds, server, its picoseconds."""
        ticks = 116_444_736_000_000_000 + 10_000_000
        data = struct.pack("<BBdqHqH", 0x3D, 11, 1.5, ticks, 7, ticks + 1, 9)
        found = read(data)
        assert (found.content, found.source_ns, found.server_ns) == (1.5, 10**9, 10**9 + 100)

    @pytest.mark.parametrize("ticks", [0, -1, 2**63 - 1])
    def test_times_that_mean_none(self, ticks: int) -> None:
        """The ends of the scale stand for "no time"."""
        assert read(struct.pack("<Bq", 0x04, ticks)).source_ns is None

    def test_types_that_are_not_there_yet(self) -> None:
        """Numbers 26 to 31 are read as ByteString, as the specification wants."""
        assert read(b"\x01\x1b\x02\x00\x00\x00ab").type == "ByteString"

    def test_structures_of_machines(self) -> None:
        """A type of the machine's maker is stepped over; its bytes are kept."""
        found = read(b"\x01\x16\x02\x03\x00\x59\x1b\x00\x00\x01\x03\x00\x00\x00xyz")
        assert (found.type, found.content) == ("ExtensionObject", Structure(0, b"xyz"))


class TestArrays:
    @given(st.lists(DOUBLES, max_size=50))
    def test_doubles(self, values: list[float]) -> None:
        """A block of samples."""
        found = read(wire(values, "Double"))
        assert found.array
        np.testing.assert_array_equal(found.content, values)

    @given(st.sampled_from(sorted(INTEGERS)), st.data())
    def test_integers(self, kind: str, data: st.DataObject) -> None:
        """Of every width, in float64."""
        values = data.draw(st.lists(st.integers(*INTEGERS[kind]), min_size=1, max_size=9))
        np.testing.assert_array_equal(read(wire(values, kind)).content, np.array(values, float))

    def test_booleans_and_texts(self) -> None:
        """Booleans are 0 and 1, texts a list."""
        np.testing.assert_array_equal(read(wire([True, False], "Boolean")).content, [1.0, 0.0])
        assert read(wire(["a", "b"], "String")).content == ["a", "b"]

    def test_several_dimensions(self) -> None:
        """A matrix is no block of samples."""
        found = read(wire([[1.0, 2.0], [3.0, 4.0]], "Double"))
        assert (found.array, found.content) == (True, None)

    def test_variants_within(self) -> None:
        """An array of anything is stepped over."""
        inner = [ua.Variant(1.0), ua.Variant("x"), ua.Variant([1, 2])]
        found = read(wire(inner, "Variant"))
        assert (found.type, found.array, found.content) == ("Variant", True, None)


class TestHarm:
    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes, it is a value or a WireError."""
        for decode in (data_value, node_id):
            with suppress(WireError):
                decode(Reader(data))

    @given(st.binary(max_size=200))
    def test_any_answer(self, data: bytes) -> None:
        """So are whole answers, also behind a header that is right."""
        header = b"\x00" * 16 + b"\x00" + b"\x00" * 4 + b"\x00\x00\x00"
        for number, decode in (
            (634, lambda raw: read_response(raw, 1)),
            (790, subscription_response),
            (829, publish_response),
        ):
            for raw in (data, struct.pack("<BBH", 1, 0, number) + header + data):
                with suppress(WireError):
                    decode(raw)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x01\x80\xff\xff\xff\x7f",  # 2^31 - 1 nulls, which take no bytes
            b"\x01\x8b\xff\xff\xff\x7f",  # as many doubles
            b"\x01\x8c\xff\xff\xff\x7f",  # texts
            b"\x01\x97\xff\xff\x00\x00",  # values that are not there
            b"\x01" + b"\x18" * 100,  # a variant in a variant in ...
            b"\x01\x19" + b"\x40" * 100,  # diagnostics in diagnostics
            b"\x01\x0c\xff\xff\xff\x7f",
        ],
    )
    def test_claims_are_not_believed(self, data: bytes) -> None:
        """Nothing is allocated for what is not there."""
        with pytest.raises(WireError):
            data_value(Reader(data))


def publication(*parts: Any, sequence: int = 1, more: bool = False) -> bytes:
    """An answer to Publish as asyncua writes it."""
    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = 77
    answer.Parameters.AvailableSequenceNumbers = [1, 2, 3]
    answer.Parameters.MoreNotifications = more
    answer.Parameters.NotificationMessage.SequenceNumber = sequence
    answer.Parameters.NotificationMessage.NotificationData = list(parts)
    return bytes(struct_to_binary(answer))


class TestAnswers:
    def test_read(self) -> None:
        """As many values as were asked for."""
        answer = ua.ReadResponse()
        answer.Results = [ua.DataValue(1.5), ua.DataValue("x")]
        data = bytes(struct_to_binary(answer))
        assert [each.content for each in read_response(data, 2)] == [1.5, "x"]
        with pytest.raises(WireError, match="2 values for 3 nodes"):
            read_response(data, 3)

    def test_of_another_kind(self) -> None:
        """An answer to something else is none."""
        with pytest.raises(WireError, match="i=829"):
            read_response(publication(), 1)

    def test_changes(self) -> None:
        """Values with the numbers that they were subscribed to under."""
        item = ua.MonitoredItemNotification(ClientHandle=5, Value=ua.DataValue(2.5))
        told = publish_response(
            publication(ua.DataChangeNotification(MonitoredItems=[item]), sequence=9, more=True)
        )
        assert (told.subscription, told.sequence, told.more) == (77, 9, True)
        assert [(handle, data.content) for handle, data in told.values] == [(5, 2.5)]
        assert told.ended is None

    def test_quiet(self) -> None:
        """A message that only says that the subscription lives."""
        assert publish_response(publication()).values == []

    def test_the_end(self) -> None:
        """The server gives the subscription up."""
        part = ua.StatusChangeNotification(Status=ua.StatusCode(ua.StatusCodes.BadTimeout))
        assert publish_response(publication(part)).ended == ua.StatusCodes.BadTimeout

    def test_subscribed(self) -> None:
        """How long a subscription may be quiet: its interval times the count."""
        answer = ua.CreateSubscriptionResponse()
        answer.Parameters.SubscriptionId = 3
        answer.Parameters.RevisedPublishingInterval = 250.0
        answer.Parameters.RevisedMaxKeepAliveCount = 8
        found = subscription_response(bytes(struct_to_binary(answer)))
        assert (found.number, found.quiet_seconds) == (3, 2.0)

    @pytest.mark.parametrize("interval", [math.nan, -1.0, 1e300])
    def test_subscribed_for_ever(self, interval: float) -> None:
        """Nobody waits for ever for a sign of life."""
        answer = ua.CreateSubscriptionResponse()
        answer.Parameters.RevisedPublishingInterval = interval
        answer.Parameters.RevisedMaxKeepAliveCount = 8
        with pytest.raises(WireError):
            subscription_response(bytes(struct_to_binary(answer)))


class TestProperties:
    def test_unit_and_range(self) -> None:
        """As servers attach them to analogue values."""
        sign = ua.EUInformation(UnitId=4408652, DisplayName=ua.LocalizedText("°C"))
        assert unit_of(read(wire(sign, "ExtensionObject"))) == "°C"
        span = ua.Range(Low=-20.0, High=300.0)
        assert range_of(read(wire(span, "ExtensionObject"))) == (-20.0, 300.0)

    @pytest.mark.parametrize("content", ["°C", 5.0, Structure(889, b""), Structure(1, b"")])
    def test_none(self, content: Any) -> None:
        """Anything else is no unit and no range, also where it claims to be."""
        data = DataValue("ExtensionObject", content)
        for decode in (unit_of, range_of):
            try:
                assert not decode(data)
            except WireError:
                assert content.body == b""
