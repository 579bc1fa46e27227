# SPDX-License-Identifier: Apache-2.0
"""Waveform blocks: their times come from the device's count, and torn or lost ones are noticed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.sources.live.modbus_memory import PATIENT, Bench, register

from fedmill_agent.sources.modbus.blocks import SLACK, BlockClock
from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.plan import Request
from fedmill_agent.sources.modbus.spans import spans

SECOND = 10**9
START = 1_700_000_000 * SECOND


def block(count: int = 300, *, address: int = 200, counted: bool = True) -> Register:
    """A block of int16 at 100 Hz, counted at holding 199."""
    return replace(
        register("v", f"holding {address} int16"),
        count=count,
        rate_hz=100.0,
        sequence=register("", "holding 199") if counted else None,
    )


def write(bench: Bench, number: int, value: int, count: int = 300) -> None:
    """A whole block of one value, and its number."""
    bench.memory.put("holding", 199, number % 65536, *([value] * count))


class TestBlockClock:
    @given(
        st.integers(0, 65535),
        st.lists(st.tuples(st.integers(1, SLACK), st.integers(0, 10 * SECOND)), max_size=30),
    )
    def test_numbers_alone_space_the_samples(
        self, first: int, steps: list[tuple[int, int]]
    ) -> None:
        """Whenever the blocks come, in whatever pace, and over the end of the count."""
        clock = BlockClock(count=50, rate_hz=100.0, modulus=65536)
        begin = clock.place(first, START).times_ns
        assert begin[-1] == START
        assert set(np.diff(begin)) == {SECOND // 100}
        number, arrived, lost = first, START, 0
        for step, later in steps:
            number, arrived = number + step, arrived + later
            placed = clock.place(number % 65536, arrived)
            lost += placed.lost
            assert not placed.restarted
            assert np.array_equal(placed.times_ns, begin + (number - first) * SECOND // 2)
        assert lost == number - first - len(steps)

    def test_odd_rates_do_not_drift(self) -> None:
        """After a million blocks the time is that of the millionth, to the nanosecond."""
        clock = BlockClock(count=1000, rate_hz=12800.3, modulus=1 << 32)
        clock.place(0, START)
        for number in range(1, 2001):
            placed = clock.place(number * SLACK, START)
        exact = 2000 * SLACK * 1000 * SECOND / 12800.3
        assert abs(int(placed.times_ns[-1]) - START - exact) < 2000

    @pytest.mark.parametrize("speed", [0.1, 10.0])
    def test_a_device_has_its_own_time(self, speed: float) -> None:
        """One that is faster or slower than real time is believed, block by block."""
        clock = BlockClock(count=50, rate_hz=100.0, modulus=65536)
        for number in range(200):
            placed = clock.place(number, START + int(number * SECOND / 2 / speed))
            assert not placed.restarted
        assert placed.times_ns[-1] == START + 199 * SECOND // 2

    @pytest.mark.parametrize("number", [0, 999, 40_000])
    def test_a_count_that_begins_anew_does_not_jump(self, number: int) -> None:
        """Backwards, or further on than the time allows: it is the arrival that counts again."""
        clock = BlockClock(count=50, rate_hz=100.0, modulus=65536)
        clock.place(1000, START)
        clock.place(1001, START + SECOND // 2)
        placed = clock.place(number, START + 5 * SECOND)
        assert (placed.restarted, placed.lost) == (True, 0)
        assert placed.times_ns[-1] == START + 5 * SECOND
        after = clock.place(number + 1, START + 6 * SECOND)
        assert after.times_ns[0] == placed.times_ns[-1] + SECOND // 100

    def test_nor_does_time_go_back_then(self) -> None:
        """A device that ran ahead keeps what it had."""
        clock = BlockClock(count=50, rate_hz=100.0, modulus=65536)
        clock.place(1000, START)
        ahead = clock.place(1010, START)
        placed = clock.place(5, START)
        assert placed.restarted
        assert placed.times_ns[0] == ahead.times_ns[-1] + SECOND // 100

    def test_long_absences_are_lost_blocks(self) -> None:
        """As many as the time allows."""
        clock = BlockClock(count=50, rate_hz=100.0, modulus=65536)
        clock.place(0, START)
        placed = clock.place(7200, START + 3600 * SECOND)
        assert (placed.restarted, placed.lost) == (False, 7199)

    def test_what_comes_between_blocks_lies_between_them(self) -> None:
        """At its own time, although blocks come late; as near to it as the next block allows."""
        clock = BlockClock(count=50, rate_hz=100.0, modulus=65536)
        half, tenth = SECOND // 2, SECOND // 10
        for number, late in enumerate([2, 0, 3, 1]):
            clock.place(number, START + number * half + late * tenth)
        made = START + 3 * half  # by our clock
        end = made + 2 * tenth  # the first block was late by so much
        assert clock.at(made + tenth) == end + tenth
        assert clock.at(made - 4 * tenth) == end
        assert clock.at(made + 9 * SECOND) == end + half

    def test_without_a_count_a_block_ends_when_it_came(self) -> None:
        """Every time."""
        clock = BlockClock(count=4, rate_hz=2.0)
        for arrived in (START, START + 123):
            told = [arrived - back * SECOND // 2 for back in (3, 2, 1, 0)]
            assert clock.place(None, arrived).times_ns.tolist() == told


class TestSpans:
    @given(
        st.sampled_from(["int16", "float32", "float64"]),
        st.integers(2, 2000),
        st.integers(4, 125),
    )
    def test_questions_join_to_the_block_and_tear_no_value(
        self, form: str, count: int, most: int
    ) -> None:
        """Each within the limit."""
        whole = replace(register("v", f"input 7 {form}"), count=count)
        place, width = whole.address, whole.size // count
        (span,) = spans([whole], 16)
        for request in span.requests(most):
            assert request == Request(1, "input", place, request.count)
            assert 0 < request.count <= most
            assert request.count % width == 0
            place += request.count
        assert place == whole.end

    def test_bits_join_by_bytes(self) -> None:
        """Questions are whole bytes, but for the last."""
        (span,) = spans([replace(register("v", "coil 3"), count=5000)], 16)
        assert [request.count for request in span.requests(125)] == [2000, 2000, 1000]
        assert {request.count % 8 for request in span.requests(4)} == {0}

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["input", "holding"]),
                st.integers(0, 2000),
                st.sampled_from(["int16", "float64"]),
                st.integers(2, 100),
                st.integers(1, 2),
            ),
            min_size=1,
            max_size=10,
        ),
        st.integers(0, 124),
    )
    def test_neighbours_share_a_span(
        self, drawn: list[tuple[str, int, str, int, int]], gap: int
    ) -> None:
        """Each block is in one span, whole; between two spans of a table lies more than the gap."""
        blocks = [
            replace(register(f"t{index}", f"{kind} {address} {form} device {device}"), count=count)
            for index, (kind, address, form, count, device) in enumerate(drawn)
        ]
        found = spans(blocks, gap)
        assert sorted(each.tag for span in found for each in span.registers) == sorted(
            each.tag for each in blocks
        )
        for span in found:
            assert span.first == min(each.address for each in span.registers)
            assert span.end == max(each.end for each in span.registers)
            assert len({(each.device, each.kind) for each in span.registers}) == 1
        for one in found:
            for other in found:
                first, second = one.registers[0], other.registers[0]
                same = (first.device, first.kind) == (second.device, second.kind)
                if one is not other and same:
                    assert other.first - one.end > gap or one.first - other.end > gap


class TestPolls:
    def test_a_block_is_read_when_its_number_changes(self) -> None:
        """And no sooner."""
        bench = Bench([block(), register("t", "holding 0")])
        write(bench, 7, 11)
        told = bench.poll()["v"]
        assert told.values.tolist() == [11.0] * 300
        assert told.quality.tolist() == [192] * 300
        assert told.times_ns[-1] == bench.clock.now_ns()
        assert sum(each.address >= 200 for each in bench.memory.asked) == 3
        bench.clock.advance(1.0)
        assert list(bench.poll()) == ["t"]
        assert max(each.address for each in bench.memory.asked) <= 199
        write(bench, 8, 12)
        bench.clock.advance(99.0)
        after = bench.poll()["v"]
        assert after.values.tolist() == [12.0] * 300
        assert after.times_ns[0] == told.times_ns[-1] + SECOND // 100
        assert bench.counts == {}

    def test_lost_blocks_are_counted_and_leave_their_time(self) -> None:
        """The next block lies where it belongs."""
        bench = Bench([block()])
        write(bench, 65534, 1)
        told = bench.poll()["v"]
        write(bench, 65534 + 4, 2)
        after = bench.poll()["v"]
        assert bench.counts == {"lost block": 3}
        assert after.times_ns[-1] - told.times_ns[-1] == 4 * 3 * SECOND

    def test_a_torn_block_is_read_anew(self) -> None:
        """The device writes the next one while the first is read: no mixture comes."""
        bench = Bench([block()])
        write(bench, 1, 100)
        bench.poll()
        write(bench, 2, 200)

        def overtake(request: Request) -> None:
            if request.address == 325:  # the second piece
                write(bench, 3, 300)

        bench.memory.on_question = overtake
        told = bench.poll()["v"]
        assert told.values.tolist() == [300.0] * 300
        assert bench.counts == {"torn block": 1, "lost block": 1}

    def test_a_device_that_is_too_fast_gives_nothing(self) -> None:
        """After three tries the poll goes on; the tags beside the block come."""
        bench = Bench([block(), register("t", "holding 0")])
        write(bench, 1, 1)
        bench.memory.on_question = lambda request: write(bench, len(bench.memory.asked), 5)
        assert list(bench.poll()) == ["t"]
        assert bench.counts == {"torn block": 3}

    def test_a_part_is_told_in_the_time_of_the_blocks(self) -> None:
        """However late a poll is, a change lies between the blocks it came between."""
        bench = Bench([block(), register("part", "holding 0")], run_tag="part")
        write(bench, 7, 11)
        bench.memory.put("holding", 0, 1)
        first = bench.poll()
        assert first["part"].times_ns[0] == bench.clock.now_ns()
        end = int(first["v"].times_ns[-1])
        for seconds, later in ((1.0, 1.0), (1.5, 2.5), (90.0, 3.0)):
            bench.clock.advance(seconds)
            told = bench.poll()["part"]
            assert told.times_ns[0] == end + later * SECOND
            assert told.arrived_ns == bench.clock.now_ns()
        write(bench, 8, 12)
        bench.memory.put("holding", 0, 2)
        both = bench.poll()
        assert end < both["part"].times_ns[0] <= both["v"].times_ns[-1]
        assert 0 <= bench.poll()["part"].times_ns[0] - both["v"].times_ns[-1] <= 3 * SECOND

    def test_other_tags_have_the_time_at_which_they_came(self) -> None:
        """So has a part of a device that counts nothing."""
        registers = [block(), register("t", "holding 0"), register("part", "holding 0 device 2")]
        bench = Bench(registers, run_tag="part")
        write(bench, 7, 11)
        bench.poll()
        bench.clock.advance(50.0)
        told = bench.poll()
        assert {int(told[tag].times_ns[0]) for tag in ("t", "part")} == {bench.clock.now_ns()}

    def test_blocks_without_a_number_are_read_in_every_poll(self) -> None:
        """They end when they came."""
        bench = Bench([block(counted=False)])
        for _ in range(2):
            told = bench.poll()["v"]
            assert told.times_ns[-1] == bench.clock.now_ns()
            bench.clock.advance(1.0)

    def test_empty_values_in_a_block_are_bad_alone(self) -> None:
        """Their neighbours stay good."""
        bench = Bench([replace(block(4), not_a_number=(0x8000,))])
        bench.memory.put("holding", 199, 1, 5, 0x8000, 6, 7)
        told = bench.poll()["v"]
        assert told.quality.tolist() == [192, 0, 192, 192]
        assert np.array_equal(told.values, [5, np.nan, 6, 7], equal_nan=True)

    def test_a_block_of_bits(self) -> None:
        """Coils, some of them in the second piece."""
        bits = replace(register("v", "coil 3"), count=2100, rate_hz=1.0)
        bench = Bench([bits])
        bench.memory.put("coil", 3, 1, 0, 1)
        bench.memory.put("coil", 2100, 1)
        told = bench.poll()["v"].values
        assert np.flatnonzero(told).tolist() == [0, 2, 2097]

    def test_a_block_that_is_refused_is_a_problem(self) -> None:
        """It is bad once, after its last good sample and before any that may come."""
        bench = Bench([block(), register("t", "holding 0")], replace(PATIENT, register_pause=0.0))
        write(bench, 1, 1)
        good = bench.poll()["v"]
        bench.memory.refused = {(1, "holding", 400)}
        write(bench, 2, 2)
        bad = bench.poll()["v"]
        assert bad.quality.tolist() == [0]
        assert good.times_ns[-1] < bad.times_ns[0] < good.times_ns[-1] + SECOND // 100
        assert "exception 2" in bench.problems["v"]
        assert list(bench.poll()) == ["t"]
        bench.memory.refused = set()
        assert bench.poll()["v"].values.tolist() == [2.0] * 300
        assert bench.problems == {}

    def test_so_is_one_whose_number_is_refused(self) -> None:
        """The problem names the register that counts."""
        bench = Bench([block(), register("t", "holding 0")], replace(PATIENT, register_pause=0.0))
        bench.memory.refused = {(1, "holding", 199)}
        told = bench.poll()
        assert told["v"].quality.tolist() == [0]
        assert told["t"].quality.tolist() == [192]
        assert "its sequence holding 199 uint16 AB: device 1 has no such" in bench.problems["v"]
        bench.memory.refused = set()
        assert bench.poll()["v"].quality.tolist() == [192] * 300
        assert bench.problems == {}

    def test_a_silent_device_in_the_middle_of_a_block(self) -> None:
        """What came of it is thrown away."""
        bench = Bench([block(), register("t", "holding 0 device 2")])
        write(bench, 1, 1)

        def fall_silent(request: Request) -> None:
            if request.address == 325:
                bench.memory.silent = {1}

        bench.memory.on_question = fall_silent
        assert bench.poll()["v"].quality.tolist() == [0]
        assert "does not answer in time" in bench.problems["v"]

    def test_the_same_block_after_a_failure_is_no_news(self) -> None:
        """The problem ends with the number that is read again."""
        bench = Bench([block()], replace(PATIENT, register_pause=0.0))
        write(bench, 1, 1)
        bench.poll()
        bench.memory.refused = {(1, "holding", 199)}
        assert bench.poll()["v"].quality.tolist() == [0]
        bench.memory.refused = set()
        assert bench.poll() == {}
        assert bench.problems == {}


class TestTogether:
    """Blocks that the same register counts are of the same time, or they are torn."""

    def bench(self, *addresses: int, pause: float = 300.0) -> Bench:
        """Blocks of forty samples, counted at holding 199."""
        blocks = [replace(block(40, address=each), tag=f"v{each}") for each in addresses]
        return Bench(blocks, replace(PATIENT, register_pause=pause))

    def test_neighbours_come_with_one_question(self) -> None:
        """With one for the number before, and one after."""
        bench = self.bench(200, 240, 280)
        write(bench, 1, 5, count=120)
        told = bench.poll()
        assert sorted(told) == ["v200", "v240", "v280"]
        assert [(each.address, each.count) for each in bench.memory.asked] == [
            (199, 1),
            (200, 120),
            (199, 1),
        ]
        assert len({tuple(each.times_ns) for each in told.values()}) == 1

    def test_none_is_of_another_time(self) -> None:
        """The device goes on between two that lie far apart: both are read anew."""
        bench = self.bench(200, 600)

        def write_both(number: int) -> None:
            write(bench, number, number, count=40)
            bench.memory.put("holding", 600, *([number] * 40))

        def overtake(request: Request) -> None:
            if request.address == 600 and bench.memory.words[1, "holding", 199] == 1:
                write_both(2)

        write_both(1)
        bench.memory.on_question = overtake
        told = bench.poll()
        assert told["v200"].values.tolist() == told["v600"].values.tolist() == [2.0] * 40
        assert bench.counts == {"torn block": 2}

    def test_one_that_is_refused_holds_up_none_of_the_others(self) -> None:
        """They are then asked for each on its own."""
        bench = self.bench(200, 240, 280)
        bench.memory.refused = {(1, "holding", 250)}
        for number in range(1, 4):
            write(bench, number, number, count=120)
            told = bench.poll()
            assert told["v200"].values.tolist() == [float(number)] * 40
            assert told["v280"].values.tolist() == [float(number)] * 40
        assert list(bench.problems) == ["v240"]

    def test_a_silent_device_is_asked_once(self) -> None:
        """Not once for each span, where other devices wait."""
        blocks = self.bench(200, 600, 1000).poller.registers
        bench = Bench([*blocks, register("w", "holding 0 device 2")])
        bench.memory.put("holding", 199, 1)

        def fall_silent(request: Request) -> None:
            if request.address == 200:
                bench.memory.silent = {1}

        bench.memory.on_question = fall_silent
        told = bench.poll()
        assert sorted(each.address for each in bench.memory.asked) == [0, 199, 200]
        assert {tag for tag, each in told.items() if not each.quality[-1]} == {
            "v200",
            "v600",
            "v1000",
        }

    def test_two_counts_are_two_times(self) -> None:
        """Each block goes by its own."""
        one = replace(block(4), tag="one")
        two = replace(block(4, address=300), tag="two", sequence=register("", "holding 299"))
        bench = Bench([one, two])
        bench.memory.put("holding", 199, 1, 1, 1, 1, 1)
        bench.memory.put("holding", 299, 9, 9, 9, 9, 9)
        assert sorted(bench.poll()) == ["one", "two"]
        bench.memory.put("holding", 299, 10)
        assert list(bench.poll()) == ["two"]
