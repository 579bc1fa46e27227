# SPDX-License-Identifier: Apache-2.0
"""What a host makes of births, data and deaths, message by message."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.sources.live.stands.sparkplug_schema import written

from fedmill_agent.sources.live import BAD, GOOD, STALE, Readings
from fedmill_agent.sources.sparkplug import nodes, payload
from fedmill_agent.sources.sparkplug.datatypes import DataType
from fedmill_agent.sources.sparkplug.discovery import Survey
from fedmill_agent.sources.sparkplug.mirror import Mirror
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_agent.sources.sparkplug.payload import Metric, metric
from fedmill_agent.sources.sparkplug.topics import KEPT, address_of, place_of, tag_of
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.base import Message

NODE = ("g", "n")
TEMPERATURE, SPEED = "g/n:Oven/Temp", "g/n/drive:Speed"
MS = 10**6
T0 = 1_700_000_000_000
FLOAT, DOUBLE = DataType.Float, DataType.Double


class Plant:
    """A mirror and the node that it watches, without a broker."""

    def __init__(self, *tags: str, **options: Any) -> None:
        places = [place_of(tag) for tag in tags or (TEMPERATURE, SPEED)]
        self.mirror = Mirror(SparkplugOptions(name="line", **options), places)
        self.seq = 0
        self.now = T0 * MS

    @property
    def counts(self) -> dict[str, int]:
        """What was left out."""
        return {name: count for name, count in self.mirror.counts.items() if count}

    def hear(
        self, kind: str, body: bytes, device: str = "", prefix: str = "", *, retained: bool = False
    ) -> list[Readings]:
        """One message."""
        self.now += MS
        topic = f"{prefix}spBv1.0/g/{kind}/n" + (f"/{device}" if device else "")
        return self.mirror.take(Message(topic, body, retained=retained), self.now)

    def birth(self, *metrics: Metric, bd_seq: int = 0, **more: Any) -> list[Readings]:
        """Of the node."""
        self.seq = 0
        body = payload.node_birth(metrics, time_ms=self.time(), seq=self.next(), bd_seq=bd_seq)
        return self.hear("NBIRTH", body, **more)

    def device(self, *metrics: Metric, **more: Any) -> list[Readings]:
        """Birth of the drive."""
        body = payload.device_birth(metrics, time_ms=self.time(), seq=self.next())
        return self.hear("DBIRTH", body, "drive", **more)

    def data(self, *metrics: Metric, device: str = "") -> list[Readings]:
        """Of the node or a device."""
        body = payload.data(metrics, time_ms=self.time(), seq=self.next())
        return self.hear("DDATA" if device else "NDATA", body, device)

    def time(self) -> int:
        """Now, ms."""
        return self.now // MS + 1

    def next(self) -> int:
        """The next message's number."""
        number = self.seq % 256
        self.seq += 1
        return number

    def alive(self) -> "Plant":
        """Born, with both metrics."""
        self.birth(metric("Oven/Temp", DOUBLE, 20.0, alias=1))
        self.device(metric("Speed", DOUBLE, 1000.0, alias=2))
        return self


def by_alias(alias: int, value: float, **more: Any) -> Metric:
    """A double in data."""
    return metric("", DOUBLE, value, alias=alias, **more)


def only(readings: list[Readings]) -> tuple[str, float, int, int]:
    """Tag, value, time (ms after the beginning) and quality of the one value."""
    (one,) = readings
    (value,), (time_ns,), (quality,) = one.values, one.times_ns, one.quality
    return one.tag, float(value), int(time_ns) // MS - T0, int(quality)


class TestLife:
    def test_birth_and_data(self) -> None:
        """Names come with births; data come by alias, and only what is wanted is told."""
        plant = Plant()
        born = plant.birth(
            metric("Oven/Temp", DOUBLE, 20.0, alias=1), metric("Other", DOUBLE, 5.0, alias=9)
        )
        assert only(born) == (TEMPERATURE, 20.0, 1, GOOD)
        assert only(plant.device(metric("Speed", DOUBLE, 1000.0, alias=2))) == (
            SPEED, 1000.0, 2, GOOD,
        )  # fmt: skip
        assert only(plant.data(by_alias(1, 21.0), by_alias(9, 6.0)))[:2] == (TEMPERATURE, 21.0)
        assert only(plant.data(by_alias(2, 1001.0), device="drive"))[:2] == (SPEED, 1001.0)
        assert only(plant.data(metric("Oven/Temp", DOUBLE, 22.0)))[:2] == (TEMPERATURE, 22.0)
        assert plant.counts == {}
        assert plant.mirror.problems == {}
        assert plant.mirror.wishes == set()

    def test_numbers_go_round(self) -> None:
        """After 255 comes 0."""
        plant = Plant().alive()
        for i in range(600):
            plant.data(by_alias(1, float(i)))
        assert plant.counts == {}

    def test_data_before_a_birth(self) -> None:
        """Mean nothing: counted, and the birth is wished for."""
        plant = Plant()
        plant.mirror.wishes.clear()
        assert plant.data(by_alias(1, 21.0)) == []
        assert plant.counts == {"unborn": 1}
        assert plant.mirror.wishes == {NODE}
        assert "no birth certificate of g/n" in plant.mirror.problems[TEMPERATURE]
        plant.birth(metric("Oven/Temp", DOUBLE, 20.0, alias=1))
        assert plant.mirror.wishes == set()
        assert plant.data(by_alias(2, 1.0), device="drive") == []
        assert plant.mirror.wishes == {NODE}

    def test_lost_messages(self) -> None:
        """Are noticed by their numbers; what comes is used, and the birth is wished for."""
        plant = Plant().alive()
        plant.seq += 3
        assert only(plant.data(by_alias(1, 5.0)))[1] == 5.0
        assert plant.counts == {"gap": 1}
        assert plant.mirror.wishes == {NODE}
        plant.data(by_alias(1, 6.0))
        assert plant.counts == {"gap": 1}

    def test_aliases_change(self) -> None:
        """With a birth; the old ones mean nothing any more."""
        plant = Plant().alive()
        plant.birth(
            metric("Other", DOUBLE, 0.0, alias=1), metric("Oven/Temp", DOUBLE, 1.0, alias=7)
        )
        plant.device(metric("Speed", DOUBLE, 2.0, alias=3))
        assert plant.data(by_alias(1, 99.0)) == []
        assert only(plant.data(by_alias(7, 30.0)))[:2] == (TEMPERATURE, 30.0)
        assert plant.data(by_alias(2, 99.0), device="drive") == []
        assert plant.counts == {"unknown": 1}
        assert plant.mirror.wishes == {NODE}

    def test_a_metric_that_is_gone(self) -> None:
        """Told with the name of the device; the others come."""
        plant = Plant().alive()
        plant.birth(metric("Oven/Temperature", DOUBLE, 20.0, alias=1))
        told = plant.mirror.problems[TEMPERATURE]
        assert told == (
            "g/n was born without a metric 'Oven/Temp', "
            "only with bdSeq, Node Control/Rebirth, Oven/Temperature"
        )
        plant.data(metric("Oven/Temp", DOUBLE, 5.0))
        assert plant.counts == {"unknown": 1}


class TestDeath:
    def test_of_a_node_makes_all_stale(self) -> None:
        """Its own metrics and those of its devices, after their last value."""
        plant = Plant().alive()
        gone = plant.hear("NDEATH", payload.node_death(0))
        assert {each.tag: int(each.quality[0]) for each in gone} == dict.fromkeys(
            (TEMPERATURE, SPEED), STALE
        )
        assert all(np.isnan(each.values).all() for each in gone)
        assert all(each.times_ns[0] > (T0 + 1) * MS for each in gone)
        assert plant.mirror.problems[SPEED] == "g/n is dead"
        assert plant.data(by_alias(1, 5.0)) == []
        assert plant.counts == {"unborn": 1}

    def test_of_a_life_before(self) -> None:
        """A will that comes late ends nothing."""
        plant = Plant()
        plant.birth(metric("Oven/Temp", DOUBLE, 20.0, alias=1), bd_seq=8)
        assert plant.hear("NDEATH", payload.node_death(7)) == []
        assert plant.counts == {"old death": 1}
        assert only(plant.data(by_alias(1, 21.0)))[1] == 21.0
        assert len(plant.hear("NDEATH", payload.node_death(8))) == 2

    def test_without_a_number(self) -> None:
        """It is taken at its word."""
        plant = Plant().alive()
        assert len(plant.hear("NDEATH", b"")) == 2

    def test_of_a_device(self) -> None:
        """Only its own metrics."""
        plant = Plant().alive()
        body = payload.encode(payload.Payload((), plant.time(), plant.next()))
        (gone,) = plant.hear("DDEATH", body, "drive")
        assert (gone.tag, gone.quality[0]) == (SPEED, STALE)
        assert only(plant.data(by_alias(1, 5.0)))[1] == 5.0
        assert plant.data(by_alias(2, 5.0), device="drive") == []
        assert plant.counts == {"unborn": 1}

    def test_by_a_clock_that_is_behind(self) -> None:
        """A death is told in the node's own time, so that no value outlives it."""
        plant = Plant().alive()
        late = T0 - 3_600_000
        plant.data(by_alias(1, 21.0, time_ms=late))
        gone = {each.tag: each for each in plant.hear("NDEATH", payload.node_death(0))}
        assert 0 < int(gone[TEMPERATURE].times_ns[0]) // MS - late < 10

    def test_and_a_new_life(self) -> None:
        """Values that have not changed for long count from the birth on."""
        plant = Plant().alive()
        (_, _) = plant.hear("NDEATH", payload.node_death(0))
        dead = plant.now
        old = metric("Oven/Temp", DOUBLE, 20.0, alias=1, time_ms=T0 - 10_000_000)
        (born,) = plant.birth(old, bd_seq=1)
        assert born.times_ns[0] > dead


class TestKept:
    def test_births_teach_without_counting(self) -> None:
        """What an aware broker has kept tells names, in any order, and no present values."""
        plant = Plant()
        kept = {"prefix": KEPT, "retained": True}
        assert plant.device(metric("Speed", DOUBLE, 5.0, alias=2), **kept) == []
        assert plant.birth(metric("Oven/Temp", DOUBLE, 5.0, alias=1), bd_seq=3, **kept) == []
        plant.seq = 77
        assert only(plant.data(by_alias(1, 21.0)))[1] == 21.0
        assert only(plant.data(by_alias(2, 7.0), device="drive"))[1] == 7.0
        assert plant.counts == {}
        assert plant.mirror.wishes == {NODE}
        assert len(plant.hear("NDEATH", payload.node_death(9))) == 2

    def test_what_lives_is_known_better(self) -> None:
        """A kept birth that comes after a real one changes nothing."""
        plant = Plant().alive()
        plant.birth(metric("Other", DOUBLE, 5.0, alias=1), prefix=KEPT)
        assert only(plant.data(by_alias(1, 21.0)))[:2] == (TEMPERATURE, 21.0)

    def test_data_and_deaths_are_never_kept(self) -> None:
        """Nobody knows when they were said."""
        plant = Plant().alive()
        body = payload.data([by_alias(1, 9.0)], time_ms=plant.time(), seq=plant.next())
        assert plant.hear("NDATA", body, retained=True) == []
        assert plant.hear("NDEATH", payload.node_death(0), retained=True) == []
        assert plant.counts == {"retained": 2}


def kept(alias: int, value: float, seconds: float, **more: Any) -> Metric:
    """A double that the node kept ``seconds`` ago."""
    time_ms = T0 - round(1000 * seconds)
    return Metric(**{"alias": alias, "time_ms": time_ms, "field": 13, "raw": value, **more,
                     "historical": True})  # fmt: skip


class TestBounds:
    """Of what a node may make us remember."""

    def test_devices_without_end(self) -> None:
        """Those of which nothing is wanted are forgotten, and nobody asks for their births."""
        plant = Plant().alive()
        for n in range(1000):
            body = payload.device_birth([], time_ms=plant.time(), seq=plant.next())
            plant.hear("DBIRTH", body, f"device {n}")
            body = payload.data([by_alias(7, 1.0)], time_ms=plant.time(), seq=plant.next())
            assert plant.hear("DDATA", body, f"stranger {n}") == []
        (node,) = plant.mirror._nodes.values()
        assert node.devices == {"drive"}
        assert plant.counts == {}
        assert plant.mirror.wishes == set()
        assert only(plant.data(by_alias(2, 5.0), device="drive"))[1] == 5.0

    def test_aliases_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wanted ones are known however many there are; one of too many is no lost birth."""
        monkeypatch.setattr(nodes, "MOST_ALIASES", 100)
        plant = Plant(TEMPERATURE)
        others = [metric(f"m{n}", DOUBLE, 1.0, alias=n) for n in range(10, 300)]
        plant.birth(*others, metric("Oven/Temp", DOUBLE, 20.0, alias=1))
        (node,) = plant.mirror._nodes.values()
        assert len(node._others) == 100
        found = plant.data(by_alias(299, 1.0), by_alias(1, 21.0), by_alias(10, 1.0))
        assert only(found)[1] == 21.0
        assert plant.counts == {}
        assert plant.mirror.wishes == set()

    def test_an_alias_that_goes_to_another(self) -> None:
        """With each birth the aliases mean what it says, of wanted ones and of others."""
        plant = Plant(SPEED).alive()
        plant.device(metric("Speed", DOUBLE, 1.0, alias=3), metric("Other", DOUBLE, 2.0, alias=2))
        assert plant.data(by_alias(2, 9.0), device="drive") == []
        assert only(plant.data(by_alias(3, 9.0), device="drive"))[1] == 9.0
        plant.device(metric("Speed", DOUBLE, 1.0, alias=2), metric("Other", DOUBLE, 2.0, alias=3))
        assert only(plant.data(by_alias(2, 8.0), device="drive"))[1] == 8.0
        assert plant.data(by_alias(3, 8.0), device="drive") == []
        assert plant.counts == {}


class TestHistory:
    """What a node kept while its broker was away (6.4.6): no current value."""

    def test_apart_from_the_present(self) -> None:
        """In one message with it, each keeps its time, and each knows what it is."""
        plant = Plant().alive()
        found = plant.data(
            kept(1, 1.0, 60), by_alias(1, 2.0, time_ms=T0 + 5), kept(1, 3.0, 59),
        )  # fmt: skip
        told = {each.historical: each for each in found}
        assert len(found) == len(told) == 2
        assert told[False].values.tolist() == [2.0]
        assert told[True].values.tolist() == [1.0, 3.0]
        assert (told[True].times_ns // MS - T0).tolist() == [-60_000, -59_000]
        assert plant.counts == {}

    def test_numbers_of_messages_go_on(self) -> None:
        """A message of the past is one of the row: a lost one is noticed, and none else."""
        plant = Plant().alive()
        plant.data(kept(1, 1.0, 60))
        plant.data(by_alias(1, 2.0))
        assert plant.counts == {}
        plant.seq += 1
        plant.data(kept(1, 1.0, 58))
        assert plant.counts == {"gap": 1}
        assert plant.mirror.wishes == {NODE}

    def test_before_a_birth_it_means_nothing(self) -> None:
        """As all data."""
        plant = Plant()
        assert plant.data(kept(1, 1.0, 60)) == []
        assert plant.counts == {"unborn": 1}

    def test_without_a_time_of_its_own(self) -> None:
        """Nobody knows when it was: that of the message is when it was sent."""
        plant = Plant().alive()
        assert plant.hear("NDATA", payload.encode(payload.Payload(
            [kept(1, 1.0, 0, time_ms=None), kept(1, 1.0, 0, time_ms=1 << 63)], T0, plant.next(),
        ))) == []  # fmt: skip
        assert plant.counts == {"time": 2}

    def test_what_was_is_no_problem_of_what_is(self) -> None:
        """Nor does it end one: text, type, quality and block are counted, and not told."""
        plant = Plant(TEMPERATURE).alive()
        plant.data(metric("", DataType.String, "off", alias=1))
        trouble = dict(plant.mirror.problems)
        assert trouble
        plant.data(kept(1, 1.0, 60))
        assert plant.mirror.problems == trouble
        plant.data(by_alias(1, 20.0))
        assert plant.mirror.problems == {}
        found = plant.data(
            kept(1, 0, 60, field=15, raw="on"),
            kept(1, 0, 59, datatype=DataType.Template, field=18, raw=b""),
            kept(1, 5.0, 58, property_set=b"\x0a\xff"),
            kept(1, 0, 57, datatype=DataType.FloatArray, field=16, raw=bytes(8)),
            kept(1, 0, 56, null=True, field=0, raw=None),
        )
        assert plant.mirror.problems == {}
        assert {int(q) for each in found for q in each.quality} == {BAD}
        assert {each.historical for each in found} == {True}
        assert plant.counts == {"type": 4, "quality": 1}

    def test_deaths_come_after_the_present(self) -> None:
        """The mark of a death follows the last live value, whatever was told of the past."""
        plant = Plant(TEMPERATURE).alive()
        plant.data(by_alias(1, 20.0, time_ms=T0 + 10_000))
        plant.data(kept(1, 1.0, 3600))
        (dead,) = plant.hear("NDEATH", payload.node_death(0))
        assert int(dead.times_ns[0]) // MS > T0 + 10_000
        assert not dead.historical

    def test_a_birth_with_a_value_of_the_past(self) -> None:
        """It must have the current one; name, type and alias are good all the same."""
        plant = Plant(TEMPERATURE)
        told = kept(1, 1.0, 60, name="Oven/Temp", datatype=DOUBLE)
        (one,) = plant.birth(told)
        assert one.historical
        assert int(one.times_ns[0]) // MS == T0 - 60_000
        assert plant.mirror.problems == {TEMPERATURE: "it was born with a value of the past"}
        assert only(plant.data(by_alias(1, 2.0)))[1] == 2.0
        assert plant.mirror.problems == {}

    def test_blocks_of_the_past_and_of_the_present(self) -> None:
        """Each have a time line of their own: live blocks follow one another as if alone."""
        kind = DataType.FloatArray
        alone, both = (Plant(TEMPERATURE, rates={TEMPERATURE: 100.0}) for _ in range(2))
        times: dict[Plant, list[int]] = {alone: [], both: []}
        for plant in (alone, both):
            plant.birth(metric("Oven/Temp", kind, np.zeros(10, np.float32), alias=1))
            for n in range(5):
                block = metric("", kind, np.ones(10, np.float32), alias=1, time_ms=T0 + 103 * n)
                past = kept(1, 0, 3600 - n / 10, datatype=kind, field=16, raw=bytes(40))
                found = plant.data(block) if plant is alone else plant.data(past, block, past)
                live = [each for each in found if not each.historical]
                times[plant] += live[0].times_ns.tolist()
                for each in found:
                    if each.historical:
                        assert abs(int(each.times_ns[-1]) // MS - (T0 - 3_600_000)) <= 500
        assert times[alone] == times[both]


class TestValues:
    @pytest.mark.parametrize(
        ("kind", "value", "number"),
        [("Int8", -5, -5), ("UInt64", 2**53, 2**53), ("Float", 1.5, 1.5), ("Boolean", True, 1),
         ("Boolean", False, 0), ("String", "4.5", 4.5), ("DateTime", 77, 77)],
    )  # fmt: skip
    def test_numbers(self, kind: str, value: Any, number: float) -> None:
        """All types that are one, and texts that write one; the type stands in the birth only."""
        plant = Plant()
        plant.birth(metric("Oven/Temp", DataType[kind], value, alias=1))
        found = plant.data(metric("Oven/Temp", DataType[kind], value, alias=1))
        assert only(found)[1] == number

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
    def test_no_number_is_bad(self, value: float | None) -> None:
        """NaN, infinite, null."""
        plant = Plant().alive()
        (one,) = plant.data(metric("", DOUBLE, value, alias=1))
        assert one.quality[0] == BAD

    def test_qualities(self) -> None:
        """By the property of that name; without it a value is good."""
        plant = Plant().alive()
        found = [
            only(plant.data(by_alias(1, 1.0, properties={"Quality": quality})))[3]
            for quality in (192, 0, 500, 128)
        ]
        assert found == [GOOD, BAD, STALE, BAD]
        assert only(plant.data(by_alias(1, 1.0, properties={"x": 0})))[3] == GOOD
        assert plant.counts == {"quality": 1}

    def test_properties_that_cannot_be_read(self) -> None:
        """Who knows what they say of the value."""
        plant = Plant().alive()
        plant.data(Metric(alias=1, field=13, raw=1.0, property_set=b"\x0a\xff"))
        assert plant.counts == {"quality": 1}

    def test_several_of_one_metric(self) -> None:
        """In one message, each with its time."""
        plant = Plant().alive()
        (one,) = plant.data(by_alias(1, 2.0, time_ms=T0 + 5), by_alias(1, 3.0, time_ms=T0 + 6))
        assert one.values.tolist() == [2.0, 3.0]
        assert (one.times_ns // MS - T0).tolist() == [5, 6]

    def test_transient_ones_count(self) -> None:
        """Not to be archived, but true."""
        plant = Plant().alive()
        assert only(plant.data(Metric(alias=1, field=13, raw=1.0, transient=True)))[1] == 1.0

    def test_texts(self) -> None:
        """Are bad and said, except where they name the part."""
        plant = Plant(TEMPERATURE, SPEED, run_tag=SPEED).alive()
        (one,) = plant.data(metric("", DataType.String, "off", alias=1))
        assert (one.text, one.quality[0]) == ("off", BAD)
        (name,) = plant.data(metric("", DataType.String, "A-17", alias=2), device="drive")
        assert name.text == "A-17"
        assert plant.counts == {"type": 1}
        assert plant.mirror.problems == {TEMPERATURE: "'off' is no number"}

    def test_types_that_change(self) -> None:
        """At run time or with a birth: nothing passes as a number that is none."""
        plant = Plant(TEMPERATURE, rates={TEMPERATURE: 10.0}).alive()
        plant.data(metric("", DataType.Int32, 7, alias=1))
        assert "a Double came" in plant.mirror.problems[TEMPERATURE]
        for kind, value in ((DataType.Int32, 7), (DataType.FloatArray, [1.0, 2.0])):
            (one,) = plant.birth(metric("Oven/Temp", kind, value, alias=1))
            assert one.quality[0] == GOOD
        plant.birth(Metric("Oven/Temp", 1, plant.time(), DataType.Template, field=18, raw=b""))
        assert "a Template came" in plant.mirror.problems[TEMPERATURE]
        plant.birth(metric("Oven/Temp", DOUBLE, 7.0, alias=1))
        assert plant.mirror.problems == {}
        assert plant.counts == {"type": 2}

    def test_times_that_are_none(self) -> None:
        """The message's own, else that of the arrival."""
        plant = Plant().alive()
        known = {"seq": plant.next(), "timestamp": T0 + 99}
        body = written([{"alias": 1, "double_value": 1.0}], **known)
        assert only(plant.hear("NDATA", body))[2] == 99
        for timestamp in (None, 2**63):
            body = written([{"alias": 1, "double_value": 1.0, "timestamp": timestamp}],
                           seq=plant.next())  # fmt: skip
            (one,) = plant.hear("NDATA", body)
            assert one.times_ns[0] == one.arrived_ns
        assert plant.counts == {"time": 2}


class TestBlocks:
    def test_arrays_end_at_their_time(self) -> None:
        """Spaced by `rates`; they follow each other without gaps, whole milliseconds or not."""
        plant = Plant("g/n:vib", tags={"v": "g/n:vib"}, rates={"v": 12_800.0})
        plant.birth(metric("vib", DataType.FloatArray, [], alias=1))
        times = []
        for i in range(20):
            at = T0 + round(1000 * i * 1000 / 12_800)
            (block,) = plant.data(
                metric("", DataType.FloatArray, np.zeros(1000), alias=1, time_ms=at)
            )
            times.append(block.times_ns)
        gaps = np.diff(np.concatenate(times))
        assert set(gaps.tolist()) <= {78_125}
        assert abs(int(times[-1][-1]) - at * MS) <= MS

    def test_rate_of_a_property(self) -> None:
        """In the birth, or with the data."""
        plant = Plant("g/n:vib", rate_property="fs")
        properties = {"fs": 100.0}
        plant.birth(metric("vib", DataType.Int16Array, [1, 2], alias=1, properties=properties))
        (block,) = plant.data(metric("", DataType.Int16Array, [1, 2, 3], alias=1))
        assert np.diff(block.times_ns).tolist() == [10_000_000] * 2
        faster = {"fs": 200, "Quality": 500}
        (block,) = plant.data(
            metric("", DataType.Int16Array, [1, 2, 3], alias=1, properties=faster)
        )
        assert np.diff(block.times_ns).tolist() == [5_000_000] * 2
        assert set(block.quality.tolist()) == {STALE}

    def test_births_tell_the_last_block_again(self) -> None:
        """It counts once, and never at the time of the birth."""
        plant = Plant("g/n:vib", rates={"g/n:vib": 10.0})
        last = metric("vib", DataType.FloatArray, [1.0, float("nan")], alias=1, time_ms=T0 - 500)
        (block,) = plant.birth(last)
        assert block.times_ns[-1] == (T0 - 500) * MS
        assert block.quality.tolist() == [GOOD, BAD]
        assert plant.birth(last) == []

    def test_without_a_rate(self) -> None:
        """Nobody guesses it."""
        plant = Plant("g/n:vib")
        assert plant.birth(metric("vib", DataType.FloatArray, [1.0, 2.0])) == []
        assert "`rates`" in plant.mirror.problems["g/n:vib"]
        assert plant.counts == {"type": 1}

    def test_arrays_of_texts(self) -> None:
        """Are no numbers."""
        plant = Plant("g/n:vib", rates={"g/n:vib": 10.0})
        (one,) = plant.birth(Metric("vib", 1, T0, DataType.StringArray, field=16, raw=b"a\0"))
        assert one.quality[0] == BAD


class TestNoise:
    @given(
        st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"]),
        st.binary(max_size=60),
        st.booleans(),
    )
    def test_whatever_comes(self, kind: str, body: bytes, retained: bool) -> None:  # noqa: FBT001  drawn
        """A session survives it, and what lives still does or is wished for."""
        plant = Plant().alive()
        device = "drive" if kind.startswith("D") else ""
        for reading in plant.hear(kind, body, device, retained=retained):
            assert len(reading.values) == len(reading.times_ns) == len(reading.quality)

    @given(st.data())
    def test_whole_lives_in_any_order(self, data: Any) -> None:
        """Births, data and deaths as they come: good values are those that were said."""
        plant = Plant()
        kinds = st.sampled_from(["birth", "device", "data", "ddata", "death", "ddeath", "skip"])
        for step, what in enumerate(data.draw(st.lists(kinds, max_size=30))):
            value = float(step)
            if what == "birth":
                heard = plant.birth(metric("Oven/Temp", DOUBLE, value, alias=1))
            elif what == "device":
                heard = plant.device(metric("Speed", DOUBLE, value, alias=2))
            elif what == "data":
                heard = plant.data(by_alias(1, value))
            elif what == "ddata":
                heard = plant.data(by_alias(2, value), device="drive")
            elif what == "death":
                heard = plant.hear("NDEATH", payload.node_death(0))
            elif what == "ddeath":
                body = payload.encode(payload.Payload((), plant.time(), plant.next()))
                heard = plant.hear("DDEATH", body, "drive")
            else:
                plant.seq += 1
                heard = []
            wanted = TEMPERATURE if what in ("birth", "data") else SPEED
            for each in heard:
                dead = what in ("death", "ddeath")
                assert int(each.quality[0]) == (STALE if dead else GOOD)
                assert dead or (each.tag, each.values.tolist()) == (wanted, [value])

    def test_garbage(self) -> None:
        """Counted; nothing else happens."""
        plant = Plant().alive()
        assert plant.hear("NDATA", b"\x12\xff") == []
        assert plant.counts == {"garbage": 1}
        assert plant.mirror.take(Message("spBv1.0/g/NDATA/other", b"\x12\xff"), 0) == []
        assert plant.mirror.take(Message("else/where", b""), 0) == []
        assert plant.counts == {"garbage": 1}


class TestTags:
    @pytest.mark.parametrize(
        ("tag", "node", "device", "name"),
        [
            ("g/n:a/b", ("g", "n"), "", "a/b"),
            ("g/n/d:a:b", ("g", "n"), "d", "a:b"),
            ("my group/n::1/d:x", ("my group", "n:1"), "d", "x"),
        ],
    )
    def test_names(self, tag: str, node: tuple[str, str], device: str, name: str) -> None:
        """There and back."""
        place = place_of(tag)
        assert (place.node, place.device, place.metric) == (node, device, name)
        assert tag_of(node, device, name) == tag

    @pytest.mark.parametrize("tag", ["", "g", "g/n", "g:x", "g/n/d/e:x", "g//d:x", "+/n:x", "g/n:"])
    def test_that_name_nothing(self, tag: str) -> None:
        """Refused before anything is connected."""
        with pytest.raises(ConfigError):
            place_of(tag)

    @pytest.mark.parametrize(
        "topic",
        ["spBv1.0/g/NCMD/n", "spBv1.0/STATE/host", "spBv1.0/g/NDATA/n/d", "spBv1.0/g/DDATA/n",
         "spAv1.0/g/NDATA/n", "spBv1.0/g/NDATA", "x", "spBv1.0/g/DDATA/n/d/e"],
    )  # fmt: skip
    def test_topics_of_others(self, topic: str) -> None:
        """Commands, states and what is not Sparkplug."""
        assert address_of(topic) is None


class TestSurvey:
    def test_births_list_metrics(self) -> None:
        """With type, value, unit, and what may be written; data of others call for a birth."""
        survey = Survey()
        body = payload.node_birth(
            [
                metric("T", DOUBLE, 21.5, properties={"engUnit": "degC", "readOnly": False}),
                metric("v", DataType.FloatArray, [1.0, 2.0]),
                metric("s", DataType.String, "run"),
                metric("b", DataType.Boolean, value=True),
                metric("z", DataType.Int8, None),
            ],
            time_ms=1,
            seq=0,
            bd_seq=0,
        )
        survey.hear(Message("spBv1.0/g/NDATA/n", b""))
        survey.hear(Message("spBv1.0/g/NDATA/m", b""))
        assert survey.unknown == {("g", "n"), ("g", "m")}
        survey.hear(Message("spBv1.0/g/NBIRTH/n", body))
        survey.hear(Message("spBv1.0/g/NBIRTH/n", b"\xff"))
        assert survey.unknown == {("g", "m")}
        found = {each.tag: each for each in survey.found()}
        assert (found["g/n:T"].type, found["g/n:T"].value) == ("Double", "21.5")
        assert (found["g/n:T"].unit, found["g/n:T"].writable) == ("degC", True)
        assert found["g/n:v"].value == "2 values"
        assert [found[f"g/n:{name}"].value for name in "sbz"] == ["run", "true", ""]
        assert found["g/n:Node Control/Rebirth"].writable
        assert "g/n:bdSeq" not in found

    def test_is_bounded(self) -> None:
        """Whoever fills the broker with births."""
        survey = Survey()
        for n in range(2000):
            survey.hear(Message(f"spBv1.0/g/NDATA/n{n}", b""))
        assert len(survey.unknown) == 1000
        few = payload.device_birth([metric("v", DOUBLE, 0.0)], time_ms=1, seq=0)
        for n in range(20_100):
            survey.hear(Message(f"spBv1.0/g/DBIRTH/n/{n}", few))
        assert len(list(survey.found())) == 20_000
        survey = Survey()
        many = payload.device_birth(
            [metric(str(i), DOUBLE, 0.0) for i in range(30_000)], time_ms=1, seq=0
        )
        for device in "abc":
            survey.hear(Message(f"spBv1.0/g/DBIRTH/n/{device}", many))
        assert len(list(survey.found())) == 50_000
