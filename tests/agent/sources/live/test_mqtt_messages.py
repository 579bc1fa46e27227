# SPDX-License-Identifier: Apache-2.0
"""What MQTT messages mean: values by path, times, qualities, blocks, and what is none of it."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.broker import join_tag, split_tag
from fedmill_agent.sources.live import BAD, GOOD, STALE, Readings
from fedmill_agent.sources.mqtt.discovery import values_in
from fedmill_agent.sources.mqtt.messages import Messages
from fedmill_agent.sources.mqtt.moments import moment
from fedmill_agent.sources.mqtt.options import MqttOptions
from fedmill_agent.sources.mqtt.tags import place_of
from fedmill_agent.sources.quality import quality_of
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.base import Message

NOW = 1_700_000_000_000_000_000
SECOND = 10**9


class Line:
    """Messages of a line, without a broker."""

    def __init__(self, *tags: str, **options: Any) -> None:
        self.messages = Messages(
            MqttOptions(name="line", **options), [place_of(tag) for tag in tags]
        )

    def hear(
        self, topic: str, payload: object, *, at: int = NOW, retained: bool = False
    ) -> list[Readings]:
        """What a message gives; anything but bytes is written as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.messages.take(Message(topic, body, retained=retained), at)

    def one(self, topic: str, payload: object, **more: Any) -> tuple[float, int, int]:
        """Value, time and quality of the one value in a message."""
        (readings,) = self.hear(topic, payload, **more)
        (value,), (time_ns,), (quality,) = readings.values, readings.times_ns, readings.quality
        return float(value), int(time_ns), int(quality)


class TestBareValues:
    @pytest.mark.parametrize(
        ("payload", "value"),
        [(b"21.5", 21.5), (b" 7\n", 7.0), (b"007", 7.0), (b"+3", 3.0), (b"true", 1.0),
         (b"false", 0.0), (b'"4.5"', 4.5), (b"1e3", 1000.0), (b".5", 0.5)],
    )  # fmt: skip
    def test_numbers(self, payload: bytes, value: float) -> None:
        """As JSON or as devices write them, at the time of their arrival."""
        assert Line("a/b").one("a/b", payload) == (value, NOW, GOOD)

    @pytest.mark.parametrize("payload", [b"NaN", b"Infinity", b"-inf", b"null", b"1e999"])
    def test_no_finite_number_is_bad(self, payload: bytes) -> None:
        """Whatever its publisher thinks of it."""
        assert Line("a").one("a", payload)[2] == BAD

    def test_text_is_bad_and_said(self) -> None:
        """A status word is no number; as a batch's name it is what is wanted."""
        line = Line("a", "b", run_tag="b")
        (reading,) = line.hear("a", b"offline")
        assert (reading.text, int(reading.quality[0])) == ("offline", BAD)
        assert "'offline' is no number" in line.messages.problems["a"]
        (reading,) = line.hear("b", b"batch 7/A")
        assert reading.text == "batch 7/A"
        assert line.messages.counts["type"] == 1
        assert "b" not in line.messages.problems

    def test_garbage_is_counted_once(self) -> None:
        """Neither JSON nor text; a part of a message; nothing at all."""
        line = Line("a", "a:x", "a:y")
        assert line.hear("a", b"\xff\xfe\x00") == []
        assert line.hear("a", b"") == []
        assert line.messages.counts["garbage"] == 2
        (reading,) = line.hear("a", b'{"x": 1, ')
        assert reading.tag == "a"
        assert line.messages.counts["garbage"] == 3
        assert "no JSON" in line.messages.problems["a:x"]

    @given(st.binary(max_size=80))
    def test_arbitrary_bytes(self, payload: bytes) -> None:
        """Nothing that is published ends a session."""
        tags = ["a", "a:x.y", "a:x[*].v", "a:$topic[0]", "a:x[?@.k==1].v"]
        line = Line(*tags, time_path="t", quality_path="q", rate_path="r")
        for reading in line.hear("a", payload):
            assert len(reading.values) == len(reading.times_ns) == len(reading.quality)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from("xyvktqr"), inner, max_size=4)
            ),
            max_leaves=12,
        )
    )
    def test_arbitrary_documents(self, document: object) -> None:
        """Readings are whole, and what is good is finite."""
        tags = ["a", "a:x.y", "a:x[*].v", "a:x", "a:x[?@.k==1].v"]
        line = Line(*tags, time_path="t", quality_path="q", rate_path="r")
        for _ in range(2):
            for reading in line.hear("a", document):
                assert len(reading.values) == len(reading.times_ns) == len(reading.quality) > 0
                assert np.isfinite(reading.values[reading.quality == GOOD]).all()


class TestPaths:
    def test_values_by_path(self) -> None:
        """One message, several tags; other topics are not looked at."""
        line = Line("m:motor.speed", "m:temps[1]", "m:list[?@.n=='b'].v", "other:x")
        heard = line.hear(
            "m",
            {
                "motor": {"speed": 1500},
                "temps": [20, 21],
                "list": [{"n": "a", "v": 1}, {"n": "b", "v": 2}],
            },
        )
        assert [(r.tag, *r.values) for r in heard] == [
            ("m:motor.speed", 1500.0),
            ("m:temps[1]", 21.0),
            ("m:list[?@.n=='b'].v", 2.0),
        ]
        assert set(line.messages.problems) == {"other:x"}

    def test_objects_with_tag_value_and_time(self) -> None:
        """Each has its own time and quality; several of one tag are several values."""
        line = Line(
            "gw:values[?@.id=='t1'].v", "gw:[?@.id=='t1'].v", time_path="t", quality_path="q"
        )
        objects = [
            {"id": "t1", "v": 1.5, "t": 1_700_000_000_000, "q": True},
            {"id": "t2", "v": 9.0, "t": 1_700_000_000_000},
            {"id": "t1", "v": 2.5, "t": 1_700_000_001_000, "q": False},
        ]
        (reading,) = line.hear("gw", {"t": 5, "values": objects})
        assert reading.values.tolist() == [1.5, 2.5]
        assert reading.times_ns.tolist() == [NOW, NOW + SECOND]
        assert reading.quality.tolist() == [GOOD, BAD]
        (reading,) = line.hear("gw", objects)
        assert reading.tag == "gw:[?@.id=='t1'].v"

    def test_every_element(self) -> None:
        """Points of a series; the time stands further out where an element has none."""
        line = Line("s:points[*].y", time_path="t")
        points = [{"y": 1, "t": 1_700_000_000}, {"y": 2}, {"y": 3, "t": 1_700_000_002}]
        (reading,) = line.hear("s", {"t": 1_700_000_001, "points": points})
        assert reading.values.tolist() == [1, 2, 3]
        assert (reading.times_ns - NOW).tolist() == [0, SECOND, 2 * SECOND]

    def test_what_is_not_there_is_told_in_words(self) -> None:
        """And taken back when it comes."""
        line = Line("m:motor.torque", "m:list[*].v")
        assert "nothing has come on m yet" in line.messages.problems["m:motor.torque"]
        assert line.hear("m", {"motor": {"speed": 1}, "list": []}) == []
        assert "motor has no 'torque', only speed" in line.messages.problems["m:motor.torque"]
        assert "empty" in line.messages.problems["m:list[*].v"]
        assert line.messages.counts["missing"] == 2
        line.hear("m", {"motor": {"torque": 1}, "list": [{"v": 1}]})
        assert line.messages.problems == {}

    def test_types_that_change(self) -> None:
        """Number, text, list, object, number: only numbers pass as such."""
        line = Line("m:v")
        heard = [line.hear("m", {"v": v}) for v in (1, "off", [1, 2], {"x": 1}, None, 2)]
        good = [r.values.tolist() for each in heard for r in each if r.quality[0] == GOOD]
        assert good == [[1.0], [2.0]]
        assert line.messages.counts["type"] == 3
        assert line.messages.problems == {}

    def test_topics_without_end(self) -> None:
        """Neither many nor long ones are remembered for good; their values count all the same."""
        line = Line("line/+:$topic[1]", run_tag="line/+:$topic[1]")
        for n in range(3):
            assert line.hear("line/" + str(n) * 60_000, 1.0)
        assert not line.messages._by_topic
        assert line.hear("line/7", 1.0)
        assert list(line.messages._by_topic) == ["line/7"]

    def test_a_colon_in_a_topic(self) -> None:
        """It is written twice."""
        assert Line("ns=2;s::a:v").one("ns=2;s:a", {"v": 1})[0] == 1.0

    @given(st.text(min_size=1, max_size=10), st.text(max_size=10).filter(lambda t: t[:1] != ":"))
    def test_tags_are_put_together_and_taken_apart(self, first: str, second: str) -> None:
        """Whatever stands in them."""
        assert split_tag(join_tag(first, second)) == (first, second)

    @pytest.mark.parametrize("tag", ["", ":x", "a/#", "a+b:x", "a:x[", "a:x..y", "#", "a:[*"])
    def test_tags_that_name_nothing(self, tag: str) -> None:
        """Refused before anything is connected."""
        with pytest.raises(ConfigError):
            place_of(tag)


class TestWildcards:
    def test_a_part_that_changes(self) -> None:
        """A batch number in the topic; the tag follows it, and its name is a value, too."""
        line = Line("batch/+/temp", "batch/+/temp:$topic[1]", run_tag="batch/+/temp:$topic[1]")
        for number in ("B1", "B2"):
            name, temperature = line.hear(f"batch/{number}/temp", b"20")
            assert (temperature.values[0], name.text) == (20.0, number)
        assert line.messages.problems == {}

    def test_two_machines_are_not_one(self) -> None:
        """Topics that take turns: nothing is mixed into one signal."""
        line = Line("+/temp")
        assert line.one("a/temp", b"1")[0] == 1.0
        assert line.one("b/temp", b"2")[0] == 2.0
        assert line.hear("a/temp", b"3") == []
        assert line.hear("b/temp", b"4") == []
        assert "take turns" in line.messages.problems["+/temp"]
        assert line.messages.counts["mixed"] == 2

    def test_part_that_is_not_there(self) -> None:
        """Told."""
        line = Line("a:$topic[3]")
        assert line.hear("a", b"1") == []
        assert "1 parts" in line.messages.problems["a:$topic[3]"]

    def test_many_topics_are_forgotten(self) -> None:
        """Memory is bounded, whatever goes over the broker."""
        line = Line("+/x")
        for number in range(10_050):
            line.hear(f"other/{number}", b"1")
        assert len(line.messages._by_topic) <= 10_000


class TestTimes:
    @pytest.mark.parametrize(
        ("told", "unit", "expected"),
        [
            (1_700_000_000, "auto", NOW),
            (1_700_000_000.25, "auto", NOW + SECOND // 4),
            (1_700_000_000_000, "auto", NOW),
            (1_700_000_000_000_000, "auto", NOW),
            (NOW + 7, "auto", NOW + 7),
            ("1700000000", "auto", NOW),
            ("2023-11-14T22:13:20Z", "auto", NOW),
            ("2023-11-14T23:13:20+01:00", "auto", NOW),
            ("2023-11-14 22:13:20.123456789", "auto", NOW + 123_456_000),
            (7, "s", 7 * SECOND),
            (7, "ms", 7_000_000),
            ("7", "us", 7_000),
            (7, "ns", 7),
        ],
    )
    def test_are_read(self, told: object, unit: Any, expected: int) -> None:
        """ISO 8601, and what counts from 1970 in any unit."""
        assert moment(told, unit) == expected

    @pytest.mark.parametrize(
        "told",
        [None, True, "", "yesterday", "12_000", float("nan"), float("inf"), 10**40, "1e400",
         [1], {}, "9" * 50, "9999-99-99", "0001-01-01T00:00:00", "2200-01-01", "²"],
    )  # fmt: skip
    def test_are_none(self, told: object) -> None:
        """And not the time of something else."""
        assert moment(told) is None

    @given(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
        st.sampled_from(["auto", "s", "ms", "us", "ns"]),
    )
    def test_anything(self, told: object, unit: Any) -> None:
        """None or int64, no error."""
        found = moment(told, unit)
        assert found is None or abs(found) <= 2**62

    @given(st.integers(0, 4 * 10**18))
    def test_no_nanosecond_is_lost(self, nanoseconds: int) -> None:
        """Of a whole number."""
        assert moment(nanoseconds, "ns") == nanoseconds

    def test_a_missing_time_is_that_of_the_arrival(self) -> None:
        """And counted."""
        line = Line("a:v", time_path="time")
        assert line.one("a", {"v": 1})[1] == NOW
        assert line.one("a", {"v": 2, "time": "soon"})[1] == NOW
        assert line.messages.counts["time"] == 2


class TestQuality:
    @pytest.mark.parametrize(
        ("told", "quality"),
        [(None, GOOD), (192, GOOD), (0, BAD), (500, STALE), ("Good", GOOD), ("BAD", BAD),
         ("Uncertain_LastUsableValue", STALE), ("Bad_NoCommunication", BAD), (True, GOOD),
         (False, BAD), ("192", GOOD), ("0", BAD), (64, STALE), (219, GOOD), (24, BAD), (128, None),
         ("fine", None), (7000, None), (-1, None), ([], None), (1.5, None), ("", None)],
    )  # fmt: skip
    def test_words_and_numbers(self, told: object, quality: int | None) -> None:
        """Those of Sparkplug, of OPC and of gateways; None is what nobody knows."""
        assert quality_of(told) == quality

    def test_words_of_a_plant(self) -> None:
        """The operator's table comes first."""
        line = Line("a:v", quality_path="s", qualities={"1": "good", "2": "stale", "Good": "bad"})
        told = [line.one("a", {"v": 1, "s": s})[2] for s in (1, 2, "Good", 0, "1")]
        assert told == [GOOD, STALE, BAD, BAD, GOOD]

    def test_unknown_words_are_bad_and_told(self) -> None:
        """With the option to name them under."""
        line = Line("a:v", quality_path="s")
        assert line.one("a", {"v": 1, "s": "wobbly"})[2] == BAD
        assert "'wobbly'" in line.messages.problems["a:v"]
        assert "`qualities`" in line.messages.problems["a:v"]
        assert line.messages.counts["quality"] == 1

    def test_one_for_all_stands_further_out(self) -> None:
        """A message's quality is that of its values, unless one has its own."""
        line = Line("a:x.v", "a:y.v", quality_path="q")
        heard = line.hear("a", {"q": "Bad", "x": {"v": 1}, "y": {"v": 2, "q": "Good"}})
        assert [int(r.quality[0]) for r in heard] == [BAD, GOOD]


class TestRetained:
    @pytest.mark.parametrize(
        ("option", "quality"), [("stale", [STALE]), ("use", [GOOD]), ("ignore", [])]
    )
    def test_without_a_time(self, option: str, quality: list[int]) -> None:
        """Nobody knows how old it is: the operator says what it counts for."""
        line = Line("a", retained=option)
        heard = line.hear("a", b"1", retained=True)
        assert [int(each.quality[0]) for each in heard] == quality

    def test_with_a_time_of_its_own(self) -> None:
        """It is as old as it says."""
        line = Line("a:v", time_path="t")
        told = line.one("a", {"v": 1, "t": 1_699_999_000}, retained=True)
        assert told == (1.0, NOW - 1000 * SECOND, GOOD)


class TestDuplicates:
    def test_of_one_time(self) -> None:
        """A message that was sent again counts once, even after some others."""
        line = Line("a:v", time_path="t")
        messages = [{"v": i, "t": 1_700_000_000 + i} for i in range(20)]
        heard = [line.hear("a", each) for each in messages + messages]
        assert sum(len(each) for each in heard) == 20
        assert line.messages.counts["duplicate"] == 20

    def test_are_none_where_something_differs(self) -> None:
        """Value, quality or time; and values without a time are all new."""
        line = Line("a:v", "b", time_path="t", quality_path="q")
        for body in (
            {"v": 1, "t": 5},
            {"v": 2, "t": 5},
            {"v": 2, "t": 6},
            {"v": 2, "t": 6, "q": 0},
        ):
            assert len(line.hear("a", body)) == 1
        assert len(line.hear("b", b"1")) == len(line.hear("b", b"1")) == 1

    def test_of_blocks(self) -> None:
        """A block sent again, too."""
        line = Line("a:v", time_path="t", rates={"a:v": 10.0})
        body = {"v": [1, 2, 3], "t": 1_700_000_000}
        assert len(line.hear("a", body)) == 1
        assert line.hear("a", body) == []


class TestBlocks:
    def test_end_at_their_time(self) -> None:
        """Samples are spaced by the rate; null and NaN among them are bad."""
        line = Line("a:v", time_path="t", tags={"vibration": "a:v"}, rates={"vibration": 1000.0})
        (block,) = line.hear("a", {"v": [1, None, 3, float("nan")], "t": 1_700_000_000})
        assert (block.times_ns - NOW).tolist() == [-3_000_000, -2_000_000, -1_000_000, 0]
        assert block.quality.tolist() == [GOOD, BAD, GOOD, BAD]

    def test_rate_in_the_message(self) -> None:
        """It comes first, and may change."""
        line = Line("a:v", rate_path="fs", rates={"a:v": 1.0})
        for rate in (2.0, 4.0, 2.0):
            (block,) = line.hear("a", {"v": [1, 2], "fs": rate})
            assert np.diff(block.times_ns).tolist() == [SECOND / rate]

    def test_times_of_their_own(self) -> None:
        """As many as values."""
        line = Line("a:v", time_path="t")
        (block,) = line.hear("a", {"v": [1, 2], "t": [1_700_000_000, 1_700_000_005]})
        assert (block.times_ns - NOW).tolist() == [0, 5 * SECOND]
        assert line.hear("a", {"v": [1, 2], "t": [1_700_000_000]}) == []
        assert line.hear("a", {"v": [1, 2], "t": [1_700_000_000, "x"]}) == []

    def test_follow_each_other_without_gaps(self) -> None:
        """Times of arrival tremble; samples do not."""
        line = Line("a", rates={"a": 12_000.0})
        rng = np.random.default_rng(5)
        times = []
        for number in range(50):
            late = int(rng.integers(0, 20_000_000))
            (block,) = line.hear("a", [0.0] * 1200, at=NOW + number * SECOND // 10 + late)
            times.append(block.times_ns)
        gaps = np.diff(np.concatenate(times))
        assert gaps.min() >= SECOND // 12_000
        assert gaps.max() <= SECOND // 12_000 + 1

    def test_a_lost_block_is_a_gap(self) -> None:
        """The next one is where its time says."""
        line = Line("a", rates={"a": 10.0})
        line.hear("a", [0] * 10, at=NOW)
        (block,) = line.hear("a", [0] * 10, at=NOW + 3 * SECOND)
        assert block.times_ns[-1] == NOW + 3 * SECOND

    @pytest.mark.parametrize("value", [[1, "2"], [[1, 2], [3, 4]], [{"x": 1}], [1, [2]], [10**400]])
    def test_lists_of_other_things(self, value: list[object]) -> None:
        """Counted and told, and no numbers."""
        line = Line("a:v", rates={"a:v": 10.0})
        assert line.hear("a", {"v": value}) == []
        assert line.messages.counts["type"] == 1
        assert "not all numbers" in line.messages.problems["a:v"]

    @pytest.mark.parametrize("rate", [None, 0, -5, "fast", 1e12, 1e-9, float("nan")])
    def test_without_a_rate(self, rate: object) -> None:
        """Nobody guesses it."""
        line = Line("a:v", rate_path="fs")
        assert line.hear("a", {"v": [1, 2], "fs": rate}) == []
        assert "`rates`" in line.messages.problems["a:v"]

    def test_an_empty_one_is_nothing(self) -> None:
        """Neither a value nor an error of the program."""
        assert Line("a:v", rates={"a:v": 10.0}).hear("a", {"v": []}) == []


class TestOptions:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"topics": ["a/#/b"]},
            {"topics": [""]},
            {"topics": ["a+"]},
            {"time_path": "a..b"},
            {"quality_path": "["},
            {"password_file": "x"},
            {"key_file": "x"},
            {"user": "u", "password_file": "x", "host": "broker.plant"},
        ],
    )
    def test_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        """Refused where the file is read."""
        with pytest.raises(ValueError, match=r"topic filter|path|needs the|readable"):
            MqttOptions(name="line", **wrong)


class TestListing:
    def test_paths_values_types_and_units(self) -> None:
        """What is listed can be written under `tags` as it stands."""
        document = {
            "temp": {"value": 21.5, "unit": "degC"},
            "on": True,
            "state": "run",
            "wave": [1.0] * 500,
            "list": [{"name": "a", "v": 1}, {"name": "b", "v": 2}],
            "none": None,
        }
        body = json.dumps(document).encode()
        found = {each.tag: each for each in values_in(Message("m:1/x", body), 10**6)}
        assert found["m::1/x:temp.value"].unit == "degC"
        assert found["m::1/x:temp.value"].value == "21.5"
        assert found["m::1/x:on"].type == "truth"
        assert found["m::1/x:wave"].type == "list of 500 numbers"
        assert found["m::1/x:list[?@.name=='b'].v"].value == "2"
        line = Line(*found)
        line.hear("m:1/x", document)
        assert line.messages.counts["missing"] == 0

    @pytest.mark.parametrize(
        ("payload", "type_"), [(b"5", "number"), (b"5,5", "text"), (b"\xff\xff", "2 bytes")]
    )
    def test_bare_values(self, payload: bytes, type_: str) -> None:
        """No path is needed."""
        (found,) = values_in(Message("a", payload), 100)
        assert (found.tag, found.type) == ("a", type_)

    def test_is_bounded(self) -> None:
        """Of one message, however large and deep."""
        wide = json.dumps({str(i): i for i in range(5000)}).encode()
        deep = b"[" * 300 + b"1" + b"]" * 300
        assert len(list(values_in(Message("a", wide), 10**6))) == 500
        assert len(list(values_in(Message("a", deep), 10**6))) <= 1


def test_nan_in_one_value_spoils_no_other() -> None:
    """Python's own writer puts NaN into JSON."""
    line = Line("a:x", "a:y")
    first, second = line.hear("a", b'{"x": NaN, "y": 2}')
    assert math.isnan(first.values[0])
    assert second.values[0] == 2.0
