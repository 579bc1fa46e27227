# SPDX-License-Identifier: Apache-2.0
"""What is asked in a poll, and what is left alone: with devices as plain tables."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.sources.live.modbus_memory import PATIENT, Bench, register

from fedmill_agent.sources.modbus.answer import Answer
from fedmill_agent.sources.modbus.declaration import KINDS, Register
from fedmill_agent.sources.modbus.patience import Patience
from fedmill_agent.sources.modbus.plan import Plan, Request


def words(*addresses: int, kind: str = "holding", device: int = 1) -> list[Register]:
    """One register each, called by its address."""
    return [register(f"r{each}", f"{kind} {each} device {device}") for each in addresses]


registers_drawn = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 400),
        st.sampled_from(["uint16", "float32", "float64"]),
        st.integers(1, 2),
    ),
    min_size=1,
    max_size=40,
    unique=True,
).map(
    lambda drawn: [
        register(
            f"t{index}",
            f"{kind} {address} {'' if kind in ('coil', 'discrete') else form} device {device}",
        )
        for index, (kind, address, form, device) in enumerate(drawn)
    ]
)


class TestGroups:
    def test_near_registers_share_a_question(self) -> None:
        """Those in a gap are read along, up to the largest gap."""
        plan = Plan(words(0, 1, 5, 20), largest_gap=3)
        assert [group.request for group in plan.groups] == [
            Request(1, "holding", 0, 6),
            Request(1, "holding", 20, 1),
        ]

    def test_kinds_and_devices_do_not(self) -> None:
        """Each has questions of its own."""
        all_of_them = [*words(0), *words(1, kind="input"), *words(1, device=2)]
        assert len(Plan(all_of_them, largest_gap=100).groups) == 3

    @pytest.mark.parametrize(("kind", "most"), [("holding", 125), ("coil", 2000)])
    def test_the_protocol_limits_a_question(self, kind: str, most: int) -> None:
        """125 registers or 2000 bits; the next one begins another question."""
        plan = Plan(words(*range(most + 1), kind=kind), largest_gap=0)
        assert [group.request.count for group in plan.groups] == [most, 1]

    @given(registers_drawn, st.integers(0, 50), st.integers(4, 125))
    def test_all_registers_are_in_one_question_each(
        self, registers: list[Register], gap: int, most: int
    ) -> None:
        """Within its bounds, of its device and kind, and no question is longer than allowed."""
        plan = Plan(registers, gap, most)
        assert sorted(each.tag for group in plan.groups for each in group.registers) == sorted(
            each.tag for each in registers
        )
        for group in plan.groups:
            request = group.request
            assert request.count <= (most if request.kind in ("holding", "input") else 16 * most)
            for each in group.registers:
                assert (each.device, each.kind) == (request.device, request.kind)
                assert request.address <= each.address
                assert each.end <= request.address + request.count


class TestRefusals:
    def test_a_bad_register_is_found_and_the_others_are_joined_again(self) -> None:
        """The first poll brings all good ones; later ones ask for no more than they must."""
        bench = Bench(words(*range(32)))
        bench.memory.refused = {(1, "holding", 13)}
        for address in range(32):
            bench.memory.put("holding", address, 100 + address)
        told = {f"r{each}": 100.0 + each for each in range(32) if each != 13}
        for _ in range(3):
            assert bench.values() == told
        assert bench.memory.asked == [
            Request(1, "holding", 0, 13),
            Request(1, "holding", 14, 18),
        ]
        assert list(bench.problems) == ["r13"]
        assert "device 1 has no such address (exception 2" in bench.problems["r13"]

    def test_a_gap_that_is_not_there_is_no_longer_read(self) -> None:
        """Where both neighbours are good, what lies between them is what was refused."""
        bench = Bench(words(0, 1, 9, 10))
        bench.memory.refused = {(1, "holding", 5)}
        for _ in range(4):
            assert sorted(bench.values()) == ["r0", "r1", "r10", "r9"]
        assert [(each.address, each.count) for each in bench.memory.asked] == [(0, 2), (9, 2)]
        assert bench.problems == {}

    @settings(max_examples=60)
    @given(registers_drawn, st.sets(st.integers(0, 410), max_size=30))
    def test_whatever_is_refused_the_rest_comes(
        self, registers: list[Register], holes: set[int]
    ) -> None:
        """From the first poll on; after some polls no question is refused any more."""
        bench = Bench(registers, replace(PATIENT, register_pause=1e9))
        bench.memory.refused = {
            (device, kind, hole) for device in (1, 2) for kind in KINDS for hole in holes
        }
        good = {each.tag for each in registers if holes.isdisjoint(range(each.address, each.end))}
        for _ in range(4):
            assert set(bench.values()) == good
        bench.memory.asked.clear()
        refused = bench.counts["refused"]
        assert set(bench.values()) == good
        assert bench.counts["refused"] == refused
        for each in bench.memory.asked:
            assert holes.isdisjoint(range(each.address, each.address + each.count))
        assert set(bench.problems) == {each.tag for each in registers} - good

    def test_a_refused_register_is_asked_again_rarely(self) -> None:
        """After the pause of the options, and its problem ends when it comes."""
        bench = Bench(words(0, 1))
        bench.memory.refused = {(1, "holding", 1)}
        bench.poll()
        asked = 0
        for _ in range(149):  # jitter may halve the pause of 300 s
            bench.clock.advance(1.0)
            bench.poll()
            asked += sum(each.address == 1 for each in bench.memory.asked)
        assert asked == 0
        bench.memory.refused.clear()
        bench.clock.advance(151.0)
        assert sorted(bench.values()) == ["r0", "r1"]
        assert bench.problems == {}

    def test_a_register_that_does_not_come_is_bad_in_every_poll(self) -> None:
        """So that no older value is held for it."""
        bench = Bench(words(0, 1))
        bench.memory.refused = {(1, "holding", 1)}
        for _ in range(3):
            bad = bench.poll()["r1"]
            assert bad.quality.tolist() == [0]
            assert np.isnan(bad.values).all()

    def test_another_register_map_is_noticed(self) -> None:
        """Addresses that go and come, while the connection stays."""
        bench = Bench(words(0, 100), replace(PATIENT, register_pause=0.0))
        assert sorted(bench.values()) == ["r0", "r100"]
        bench.memory.refused = {(1, "holding", 0)}
        assert sorted(bench.values()) == ["r100"]
        bench.memory.refused = {(1, "holding", 100)}
        assert sorted(bench.values()) == ["r0"]
        assert list(bench.problems) == ["r100"]

    def test_when_one_comes_again_the_others_are_asked_too(self) -> None:
        """A device that had no program yet is whole again at once, and in one question."""
        bench = Bench([*words(*range(40)), *words(50, device=2)])
        bench.memory.refused = {(1, "holding", each) for each in range(40)}
        assert sorted(bench.values()) == ["r50"]
        assert len(bench.problems) == 40
        bench.memory.refused = set()
        good = 1
        while good == 1:  # jitter: between 150 and 300 s
            bench.clock.advance(1.0)
            good = len(bench.values())
        bench.poll()
        assert len(bench.values()) == 41
        assert len(bench.memory.asked) == 2
        assert bench.problems == {}

    def test_a_device_that_fails_for_a_while_is_not_taken_apart(self) -> None:
        """What was read at once before is asked at once again, after a pause."""
        bench = Bench(words(*range(40)))
        assert len(bench.values()) == 40
        bench.memory.codes = {1: 4}
        for _ in range(30):
            assert bench.values() == {}
            assert len(bench.memory.asked) <= 1
            bench.clock.advance(1.0)
        bench.memory.codes = {}
        bench.clock.advance(60.0)
        assert len(bench.values()) == 40
        assert len(bench.memory.asked) == 1

    def test_one_that_never_had_an_address_is(self) -> None:
        """Some devices say that they failed where others say that there is no such address."""
        bench = Bench(words(*range(8)))
        bench.memory.refused = {(1, "holding", 5)}
        bench.memory.refusal = 4
        for _ in range(3):
            assert len(bench.values()) == 7
        assert [(each.address, each.count) for each in bench.memory.asked] == [(0, 5), (6, 2)]

    @pytest.mark.parametrize(
        ("code", "words_of_it"),
        [(1, "illegal function"), (3, "illegal data value"), (4, "device failure")],
    )
    def test_other_refusals_say_what_they_are(self, code: int, words_of_it: str) -> None:
        """Each with its own remedy."""
        bench = Bench(words(0))
        bench.memory.codes = {1: code}
        bench.poll()
        assert words_of_it in bench.problems["r0"]

    def test_a_reference_taken_for_an_address_is_called_that(self) -> None:
        """`holding 40101` is hardly ever meant."""
        bench = Bench([register("t", "holding 40101"), register("u", "input 200")])
        bench.memory.refused = {(1, "holding", 40101), (1, "input", 200)}
        bench.poll()
        assert "40101 without 'holding' before it would mean holding 100" in bench.problems["t"]
        assert "without" not in bench.problems["u"]

    @pytest.mark.parametrize("code", [5, 6, 99])
    def test_busy_devices_are_asked_again_at_once(self, code: int) -> None:
        """Nothing is split or left alone for that."""
        bench = Bench([*words(0, 50), *words(7, device=2)])
        bench.memory.codes = {1: code}
        for _ in range(3):
            assert bench.values() == {"r7": 0.0}
            assert sum(each.device == 1 for each in bench.memory.asked) == 2
            assert sorted(bench.problems) == ["r0", "r50"]


class TestSilence:
    def test_one_dead_device_does_not_stall_the_others(self) -> None:
        """It is asked once, then ever more rarely; its tags are bad in every poll."""
        bench = Bench([*words(0, 500, device=2), *words(7)])
        bench.memory.silent = {2}
        asked = []
        for second in range(400):
            told = bench.poll()
            asked += [second for each in bench.memory.asked if each.device == 2]
            assert told["r7"].quality.tolist() == [192]
            assert told["r0"].quality.tolist() == told["r500"].quality.tolist() == [0]
            bench.clock.advance(1.0)
        pauses = np.diff(asked)
        assert 8 <= len(asked) <= 16
        assert (pauses <= 60).all()
        assert pauses[:2].max() < pauses[-2:].min()
        assert bench.counts["silent"] == len(asked)
        assert "device 2 does not answer in time" in bench.problems["r0"]

    def test_it_comes_back_with_all_its_tags(self) -> None:
        """In the first poll in which it is asked again."""
        bench = Bench([*words(0, 500, device=2), *words(7)])
        bench.memory.silent = {2}
        bench.poll()
        bench.memory.silent = set()
        bench.clock.advance(5.0)
        assert sorted(bench.values()) == ["r0", "r500", "r7"]
        assert bench.problems == {}

    def test_silent_devices_are_asked_last(self) -> None:
        """So what waits for them comes after what works."""
        bench = Bench([*words(0), *words(1, device=2)])
        bench.memory.silent = {1}
        bench.poll()
        bench.clock.advance(5.0)
        bench.poll()
        assert [each.device for each in bench.memory.asked] == [2, 1]

    @pytest.mark.parametrize("code", [0x0A, 0x0B])
    def test_a_gateway_may_say_it(self, code: int) -> None:
        """The exceptions of a gateway are silences of the device."""
        bench = Bench([*words(0), *words(1, device=2)])
        bench.memory.codes = {2: code}
        bench.poll()
        bench.poll()
        assert [each.device for each in bench.memory.asked] == [1]
        assert "gateway" in bench.problems["r1"]

    def test_a_device_alone_is_asked_in_every_poll(self) -> None:
        """It holds up nobody."""
        bench = Bench(words(0, 500))
        bench.memory.silent = {1}
        for _ in range(3):
            bench.poll()
            assert len(bench.memory.asked) >= 1

    def test_a_late_answer_is_a_sign_of_life(self) -> None:
        """It ends the pause; but not for ever, for then the device would hold up all."""
        bench = Bench([*words(0), *words(1, device=2)])
        bench.memory.silent = {2}
        asked = 0
        for _ in range(10):
            bench.poll()
            asked += sum(each.device == 2 for each in bench.memory.asked)
            bench.poller.health.woke(2)
        assert asked == 3


class TestPatience:
    @given(st.floats(0.001, 100), st.floats(0.001, 1000), st.integers(0, 2**32))
    def test_pauses_double_up_to_the_longest(self, first: float, most: float, seed: int) -> None:
        """Each is half to all of what the doubling gives."""
        patience = Patience(first, most, Random(seed))
        for failures in range(40):
            patience.failed(100.0)
            longest = min(most, first * 2**failures)
            assert not patience.may(100.0 + 0.499 * longest)
            assert patience.may(100.0 + 1.001 * longest)
        patience.forget()
        assert patience.may(0.0)


class TestDoubts:
    def test_a_swapped_float_is_a_problem_with_its_remedy(self) -> None:
        """After three values in a row; the values come all the same."""
        bench = Bench([register("t", "holding 0 float32")])
        bench.memory.put("holding", 0, 0x0000, 0x41AC)
        for _ in range(2):
            bench.poll()
            assert bench.problems == {}
        assert bench.poll()["t"].quality.tolist() == [192]
        assert "makes no sense; as CDAB it would be 21.5" in bench.problems["t"]
        bench.memory.put("holding", 0, 0x41AC, 0x0000)
        assert bench.values() == {"t": 21.5}
        assert bench.problems == {}

    def test_values_that_stand_for_none_are_no_doubt(self) -> None:
        """They are bad, and that is all."""
        empty = replace(register("t", "holding 0 float32"), not_a_number=(0x7F7FFFFF,))
        bench = Bench([empty])
        bench.memory.put("holding", 0, 0x7F7F, 0xFFFF)
        for _ in range(4):
            assert bench.poll()["t"].quality.tolist() == [0]
        assert bench.problems == {}

    def test_orders_are_suggested_for_a_plausible_range(self) -> None:
        """Of the newest value of a tag; of bits, blocks and unknown tags what can be said."""
        bench = Bench(
            [
                register("t", "holding 0 int32"),
                register("bit", "holding 0.3"),
                register("coil", "coil 0"),
            ]
        )
        bench.memory.put("holding", 0, 1450, 0)
        suspects = bench.poller.decoder.suspects
        assert suspects("t", 0, 3000) == []
        bench.poll()
        assert suspects("t", 1000, 3000) == [("CDAB", 1450.0)]
        assert suspects("t", 0, 1e12) == []
        assert suspects("bit", 5, 6) == suspects("coil", 5, 6) == suspects("nothing", 5, 6) == []


class TestValues:
    def test_all_kinds_and_types_at_once(self) -> None:
        """Each from its own place."""
        bench = Bench(
            [
                register("float", "holding 0 float32 CDAB"),
                register("bit", "holding 2.15"),
                register("number", "input 3 int16"),
                register("long", "input 4 uint64"),
                register("coil", "coil 10"),
                register("other coil", "coil 3"),
                register("switch", "discrete 2000"),
            ]
        )
        bench.memory.put("holding", 0, 0x0000, 0x41AC, 0x8000)
        bench.memory.put("input", 3, 0xFFFE, 0, 1, 0, 5)
        bench.memory.put("coil", 10, 1)
        bench.memory.put("discrete", 2000, 1)
        assert bench.values() == {
            "float": 21.5,
            "bit": 1.0,
            "number": -2.0,
            "long": float(2**32 + 5),
            "coil": 1.0,
            "other coil": 0.0,
            "switch": 1.0,
        }

    def test_nan_is_bad(self) -> None:
        """Infinity too."""
        bench = Bench([register("t", "holding 0 float32"), register("u", "holding 2 float32")])
        bench.memory.put("holding", 0, 0x7FC0, 0, 0xFF80, 0)
        told = bench.poll()
        assert told["t"].quality.tolist() == told["u"].quality.tolist() == [0]

    def test_times_are_those_of_arrival(self) -> None:
        """Of the answer, not of the poll's beginning."""
        bench = Bench(words(0))
        asking = bench.poller.poll()
        assert next(asking) == Request(1, "holding", 0, 1)
        bench.clock.advance(0.25)
        with pytest.raises(StopIteration):
            asking.send(Answer(b"\0\1"))
        (came,) = bench.poller.taken
        assert came.times_ns.tolist() == [bench.clock.now_ns()]
        assert came.arrived_ns == bench.clock.now_ns()
