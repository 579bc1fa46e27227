# SPDX-License-Identifier: Apache-2.0
"""What OPC UA values become: tags, qualities, times, texts, waveforms, and what stands."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.live import BAD, GOOD, STALE, Readings, Shelf
from fedmill_agent.sources.opcua.address import NodeName, Path, parse
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.opcua.stamps import Stamps
from fedmill_agent.sources.opcua.values import Values, number_of, quality_of
from fedmill_agent.sources.opcua.wire import DataValue
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError

SECOND = 10**9
WEEK = 7 * 86_400 * SECOND
BAD_NODE = 0x80340000
UNCERTAIN = 0x40900000


def options(**changes: Any) -> OpcuaOptions:
    """As from a file."""
    return msgspec.convert({"kind": "opcua", "name": "line", **changes}, OpcuaOptions)


class TestTags:
    @pytest.mark.parametrize(
        ("tag", "written"),
        [
            ("ns=2;s=Line1.Temperature", "ns=2;s=Line1.Temperature"),
            ("i=2258", "i=2258"),
            ("ns=3;i=4294967295", "ns=3;i=4294967295"),
            ('ns=3;s="DB1"."Temp;x"=7', 'ns=3;s="DB1"."Temp;x"=7'),
            ("nsu=urn:b;s=x", "ns=2;s=x"),
            ("nsu=http://opcfoundation.org/UA/;i=85", "i=85"),
            (
                "ns=1;g=09087E75-8E5E-499B-954F-F2A9603DB28A",
                "ns=1;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            ),
            ("ns=1;b=M/RbKBsRVkePCePcx24oRA==", "ns=1;b=M/RbKBsRVkePCePcx24oRA=="),
        ],
    )
    def test_node_ids(self, tag: str, written: str) -> None:
        """Of all four kinds, with the namespace by number or by URI."""
        found = parse(tag)
        assert isinstance(found, NodeName)
        assert found.written(["http://opcfoundation.org/UA/", "urn:a", "urn:b"]) == written

    @pytest.mark.parametrize(
        ("tag", "steps"),
        [
            ("Objects/Line1/Temperature", ((None, "Line1"), (None, "Temperature"))),
            ("/Root/Objects/2:Line1/3:T", ((2, "Line1"), (3, "T"))),
            ("0:Objects/Line1", ((None, "Line1"),)),
            ("Line1", ((None, "Line1"),)),
            ("Line1/a&/b&&c/d&:e", ((None, "Line1"), (None, "a/b&c"), (None, "d:e"))),
        ],
    )
    def test_paths(self, tag: str, steps: tuple[tuple[int | None, str], ...]) -> None:
        """Names from Objects on; the namespace may be left out, an ampersand escapes."""
        assert parse(tag) == Path(steps)

    @pytest.mark.parametrize(
        "tag",
        [
            "",
            "/",
            "Objects",
            "a//b",
            "i=x",
            "i=4294967296",
            "ns=65536;s=a",
            "s=",
            "g=1",
            "b=%%%",
            "/".join(["x"] * 33),
        ],
    )
    def test_what_names_nothing(self, tag: str) -> None:
        """Is refused, with an example."""
        with pytest.raises(ConfigError, match="write "):
            parse(tag)

    def test_unknown_namespace(self) -> None:
        """The message says which ones the server has."""
        found = parse("nsu=urn:c;s=x")
        assert isinstance(found, NodeName)
        with pytest.raises(ConfigError, match=r"no namespace 'urn:c'.*urn:a"):
            found.written(["http://opcfoundation.org/UA/", "urn:a"])

    @given(st.text(max_size=60))
    def test_any_text(self, tag: str) -> None:
        """Is a node id, a path or refused."""
        with suppress(ConfigError):
            assert isinstance(parse(tag), NodeName | Path)


class TestOptions:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"url": "http://plc:4840"}, "opc.tcp://press-7:4840"),
            ({"url": "opc.tcp://"}, "opc.tcp://press-7:4840"),
            ({"url": "opc.tcp://plc:99999"}, "opc.tcp://press-7:4840"),
            ({"url": "opc.tcp://joe:secret@plc:4840"}, "names a user"),
            ({"security": "Basic256Sha256"}, "certificate_file"),
            ({"sign_only": True}, "sign_only"),
            ({"user": "joe"}, "password_file"),
            ({"password_file": "p.txt"}, "go together"),
            ({"interval_seconds": 0.0}, "interval_seconds"),
            ({"interval_seconds": 60.0}, "`silence_seconds` 60 is not more"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], said: str) -> None:
        """What can never work is said when the file is read."""
        with pytest.raises(msgspec.ValidationError, match=said) as caught:
            options(**changes)
        assert "secret" not in str(caught.value)

    def test_good_values_hold_for_an_hour(self) -> None:
        """A server that tells changes only says nothing of a value that stays."""
        assert options().hold_seconds == 3600.0

    def test_rates_are_those_of_tags(self) -> None:
        """Signals that are not mapped are their own tags."""
        told = options(tags={"a": "ns=2;s=A"}, rates={"a": 100.0, "b": 200.0}).tag_rates
        assert told == {"ns=2;s=A": 100.0, "b": 200.0}

    def test_place(self) -> None:
        """4840 is the port where none is given."""
        assert options(url="opc.tcp://plc").place == "plc:4840"


class TestQuality:
    @pytest.mark.parametrize(
        ("status", "quality"),
        [
            (0, GOOD),
            (0x00A60000, GOOD),
            (0x00000480, GOOD),
            (UNCERTAIN, STALE),
            (0x40000000, STALE),
            (0x80000000, BAD),
            (BAD_NODE, BAD),
            (0xC0000000, BAD),
        ],
    )
    def test_of_a_status(self, status: int, quality: int) -> None:
        """Good, Uncertain, Bad, and what is reserved counts as bad."""
        assert quality_of(status) == quality

    @pytest.mark.parametrize(
        ("content", "number"), [(2.5, 2.5), ("2.5", 2.5), (" 7 ", 7.0), ("0x1", None), (None, None)]
    )
    def test_numbers(self, content: object, number: float | None) -> None:
        """A text of a number is one."""
        found = number_of(content)
        assert found == number if number is not None else np.isnan(found)


class TestStamps:
    def test_a_change_has_its_own_time(self) -> None:
        """Whatever the clock that it was measured by."""
        assert Stamps().change("a", 5 * SECOND, 9 * SECOND) == 5 * SECOND

    def test_what_stands_counts_now_by_the_servers_clock(self) -> None:
        """A set point of last week holds at present."""
        stamps = Stamps(ahead_ns=3 * SECOND)
        assert stamps.standing("a", WEEK, 2 * WEEK) == 2 * WEEK + 3 * SECOND

    def test_a_source_that_is_ahead_stays_ahead(self) -> None:
        """Its own time is later than now: it is believed."""
        assert Stamps().standing("a", WEEK + SECOND, WEEK) == WEEK + SECOND

    def test_clocks_are_learnt_from_changes(self) -> None:
        """What stands is stamped with the clock of the tag's own changes, a little before now."""
        stamps = Stamps(ahead_ns=3 * SECOND, margin_ns=SECOND)
        stamps.change("a", WEEK - 3600 * SECOND, WEEK)
        later = WEEK + 60 * SECOND
        assert stamps.standing("a", None, later) == later - 3601 * SECOND
        assert stamps.standing("b", None, later) == later + 3 * SECOND

    def test_a_change_after_a_guess_comes_after_it(self) -> None:
        """A clock half a second behind: the new value is not hidden behind the old one."""
        stamps = Stamps()
        first = stamps.standing("a", None, WEEK)
        second = stamps.change("a", WEEK - SECOND // 2, WEEK + SECOND)
        third = stamps.change("a", WEEK - SECOND // 4, WEEK + SECOND)
        assert first < second < third < WEEK + SECOND
        assert stamps.change("a", WEEK + SECOND, WEEK + 2 * SECOND) == WEEK + SECOND

    def test_another_clock_is_believed(self) -> None:
        """Hours behind, it is no late change but a clock of its own."""
        stamps = Stamps()
        stamps.standing("a", None, WEEK)
        assert stamps.change("a", WEEK - 3600 * SECOND, WEEK) == WEEK - 3600 * SECOND

    @given(
        st.lists(st.tuples(st.booleans(), st.integers(1, 10**10)), min_size=1, max_size=30),
        st.integers(-30 * SECOND, 30 * SECOND),
    )
    def test_one_tags_values_stay_in_order(
        self, steps: Iterable[tuple[bool, int]], skew: int
    ) -> None:
        """Changes and confirmations in any order, with a source's clock that is a little off."""
        stamps, now, made = Stamps(margin_ns=SECOND), WEEK, []
        for changed, passed in steps:
            now += passed
            made.append(
                stamps.change("a", now + skew, now) if changed else stamps.standing("a", None, now)
            )
        assert made == sorted(made)


class TestValues:
    @pytest.fixture
    def clock(self) -> ManualClock:
        """Stands still."""
        return ManualClock(WEEK)

    @pytest.fixture
    def values(self, clock: ManualClock) -> Values:
        """Of a signal ``a``, a block ``wave`` of 100 Hz and the number of the part ``part``."""
        counts: Counter[str] = Counter()
        shelf = Shelf(counts=counts)
        tags = ["a", "wave", "part"]
        return Values(tags, {"wave": 100.0}, "part", clock, shelf, Stamps(), counts)

    def taken(self, values: Values) -> list[Readings]:
        """What is on the shelf."""
        return [each for each in values.shelf.take(0) if isinstance(each, Readings)]

    def test_a_number(self, values: Values) -> None:
        """The first one stands now; a change has its own time, or the server's."""
        values.take("a", DataValue("Double", 1.0, source_ns=1, server_ns=2))
        values.take("a", DataValue("Double", 2.0, source_ns=WEEK + 3, server_ns=WEEK + 9))
        values.take("a", DataValue("Double", 3.0, server_ns=WEEK + 7))
        values.take("a", DataValue("Double", 4.0))
        told = [(int(each.times_ns[0]), float(each.values[0])) for each in self.taken(values)]
        assert told == [(WEEK, 1.0), (WEEK + 3, 2.0), (WEEK + 7, 3.0), (WEEK + 8, 4.0)]

    @pytest.mark.parametrize(
        ("data", "quality"),
        [
            (DataValue("Double", 1.0), GOOD),
            (DataValue("Double", 1.0, status=UNCERTAIN), STALE),
            (DataValue("Double", 1.0, status=0x80050000), BAD),
            (DataValue("Null", None, status=0x80050000), BAD),
            (DataValue("Double", float("nan")), BAD),
            (DataValue("Double", float("-inf")), BAD),
            (DataValue("Null", None), BAD),
            (DataValue("String", "12.5"), GOOD),
            (DataValue("String", "running"), BAD),
            (DataValue("String", "running", status=UNCERTAIN), BAD),
            (DataValue("Double", np.ones(3), array=True), BAD),
            (DataValue("Double", np.ones(1), array=True), BAD),
            (DataValue("ByteString", None), BAD),
        ],
    )
    def test_quality(self, values: Values, data: DataValue, quality: int) -> None:
        """Only good numbers are good."""
        values.take("a", data)
        (told,) = self.taken(values)
        assert told.quality.tolist() == [quality]

    def test_a_type_that_is_no_number_is_a_problem_until_it_is_one(self, values: Values) -> None:
        """Text, array, number: counted, told, forgotten."""
        values.take("a", DataValue("String", "running"))
        assert "text 'running'" in values.problems["a"]
        values.take("a", DataValue("Double", np.ones(512), array=True))
        assert "holds 512 values" in values.problems["a"]
        assert "`rates`" in values.problems["a"]
        values.take("a", DataValue("ExtensionObject", None))
        assert "ExtensionObject" in values.problems["a"]
        assert values.counts["type"] == 3
        values.take("a", DataValue("Double", 1.0))
        assert values.problems == {}
        assert [each.text for each in self.taken(values)] == ["running", "", "", ""]

    def test_the_part_may_be_a_text(self, values: Values) -> None:
        """The run tag names something: its text is no problem; a bad one has none."""
        values.take("part", DataValue("String", "A-17"))
        values.take("part", DataValue("String", "A-17", status=0x80050000))
        assert (values.problems, values.counts["type"]) == ({}, 0)
        assert [each.text for each in self.taken(values)] == ["A-17", ""]

    def test_a_node_that_is_gone(self, values: Values) -> None:
        """While asking, a missing node is a value of bad status: it is told in words."""
        values.take("a", DataValue(status=BAD_NODE))
        assert "no such node" in values.problems["a"]

    def test_the_servers_queue_ran_over(self, values: Values) -> None:
        """The overflow bit of a data value."""
        values.take("a", DataValue("Double", 1.0, status=0x480))
        assert values.counts["overflow"] == 1

    def test_a_block_ends_at_its_time(self, values: Values) -> None:
        """Samples a hundredth of a second apart; NaN is bad; a status counts for all of them."""
        block = np.array([1.0, np.nan, 3.0])
        values.take("wave", DataValue("Double", block, array=True, source_ns=WEEK))
        values.take("wave", DataValue("Double", block, True, UNCERTAIN, 3 * WEEK))
        first, second = self.taken(values)
        assert (WEEK - first.times_ns).tolist() == [SECOND // 50, SECOND // 100, 0]
        assert first.quality.tolist() == [GOOD, BAD, GOOD]
        assert second.quality.tolist() == [STALE] * 3

    def test_one_block_comes_once(self, values: Values) -> None:
        """Asked for again with the same time, it is the same block."""
        for _ in range(3):
            values.take("wave", DataValue("Double", np.ones(4), array=True, source_ns=WEEK))
        assert len(self.taken(values)) == 1

    def test_an_empty_block(self, values: Values) -> None:
        """Is nothing."""
        values.take("wave", DataValue("Double", np.empty(0), array=True, source_ns=WEEK))
        assert self.taken(values) == []

    def test_good_values_are_confirmed(self, values: Values, clock: ManualClock) -> None:
        """What was not heard of for long stands; bad, stale and text do not."""
        values.take("a", DataValue("Double", 5.0, source_ns=WEEK))
        values.take("part", DataValue("String", "A-17"))
        values.confirm(10 * SECOND)
        assert len(self.taken(values)) == 2
        clock.advance(10.0)
        values.confirm(10 * SECOND)
        values.confirm(10 * SECOND)
        (again,) = self.taken(values)
        assert (again.tag, again.values.tolist()) == ("a", [5.0])
        assert again.times_ns.tolist() == [WEEK + 10 * SECOND]
        values.take("a", DataValue("Double", 5.0, status=UNCERTAIN))
        clock.advance(10.0)
        values.confirm(0)
        assert len(self.taken(values)) == 1

    def test_what_is_not_known_any_more_is_bad(self, values: Values) -> None:
        """After an answer that nobody understood."""
        values.take("a", DataValue("Double", 5.0, source_ns=WEEK))
        values.lost("a")
        values.confirm(0)
        assert [each.quality.tolist() for each in self.taken(values)] == [[GOOD], [BAD]]
