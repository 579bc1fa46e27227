# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmill_agent.simulate.device import Shape
from fedmill_agent.simulate.playing import Line, Tempo, blocks, play, shapes
from fedmill_agent.sources.base import Samples
from fedmill_agent.sources.rig import RigOptions, read
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError, DataError
from fedmill_shared.log import get_logger

LOG = get_logger()
TEMPO = Tempo(12_000.0, 1200)
SECOND = 10**9


def recording(number: int, seconds: float = 0.25) -> RigOptions:
    """A short one, different from the others."""
    return RigOptions(name=f"r{number}", seconds=seconds, seed=number)


def line(*recordings: RigOptions, repeat: bool = False) -> Line:
    """A machine."""
    return Line("press", recordings, ["vibration"], repeat)


class Recorder:
    """A device that remembers."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, int, int]] = []
        self.blocks: list[tuple[str, NDArray[np.float64], int]] = []

    def open(self, shapes: Sequence[Shape]) -> None:
        """Begin."""

    def part(self, line: str, number: int, time_ns: int) -> None:
        """Remember."""
        self.parts.append((line, number, time_ns))

    def block(self, line: str, values: NDArray[np.float64], end_ns: int) -> None:
        """Remember."""
        self.blocks.append((line, values, end_ns))

    def close(self) -> None:
        """End."""


class TestBlocks:
    def test_every_recording_is_a_numbered_part_with_idleness_between(self) -> None:
        """0.25 s are three blocks of 0.1 s; then one of zeros."""
        found = list(islice(blocks(line(recording(1), recording(2)), TEMPO, LOG), 12))
        assert [number for number, _, _ in found] == [1, 1, 1, 0, 2, 2, 2, 0, 0, 0, 0, 0]
        assert [left for _, left, _ in found[:4]] == [2, 1, 0, 0]
        assert not found[3][2].any()

    def test_samples_are_those_of_the_recording(self) -> None:
        """Nothing is lost; the last block is filled up with its last sample."""
        found = [values for _, _, values in islice(blocks(line(recording(1)), TEMPO, LOG), 3)]
        samples = np.concatenate(found, axis=1)
        first = next(iter(read(recording(1), ["vibration"], 12_000.0)))
        assert isinstance(first, Samples)
        wanted = first.values
        np.testing.assert_array_equal(samples[:, : wanted.shape[1]], wanted)
        assert (samples[:, wanted.shape[1] :] == wanted[:, -1:]).all()

    def test_repeat_begins_again(self) -> None:
        """With the same numbers."""
        stream = blocks(line(recording(1, 0.1), repeat=True), TEMPO, LOG)
        assert [number for number, _, _ in islice(stream, 6)] == [1, 0, 1, 0, 1, 0]

    def test_idleness_first(self) -> None:
        """So that whoever listens is there."""
        stream = blocks(line(recording(1, 0.1)), Tempo(12_000.0, 1200, idle=3), LOG)
        assert [number for number, _, _ in islice(stream, 5)] == [0, 0, 0, 1, 0]

    def test_nothing_is_played_before_somebody_says_so(self) -> None:
        """However long that takes; then at once."""
        told = iter([False, False, True])
        stream = blocks(line(recording(1, 0.1)), TEMPO, LOG, lambda: next(told))
        assert [number for number, _, _ in islice(stream, 5)] == [0, 0, 1, 0, 0]

    def test_a_recording_that_cannot_be_read_is_told(self) -> None:
        """With the error of its own kind."""
        wrong = Line("press", [recording(1)], ["temperature"])
        with pytest.raises(DataError, match="temperature"):
            next(blocks(wrong, TEMPO, LOG))


class TestPlay:
    def test_in_real_time_with_the_part_inside_its_samples(self) -> None:
        """Blocks end every 0.1 s; the part is there from half a block in to half a block out."""
        clock, device = ManualClock(), Recorder()
        begin, waits = clock.now_ns(), []

        def wait(seconds: float) -> bool:
            clock.advance(seconds)
            waits.append(seconds)
            return len(waits) > 10

        play(device, [line(recording(1))], TEMPO, clock=clock, wait=wait, log=LOG)
        ends = [(end - begin) // 10**6 for _, _, end in device.blocks]
        assert ends == [100, 200, 300, 400, 500]
        told = [((time - begin) // 10**6, number) for _, number, time in device.parts]
        assert told == [(50, 1), (150, 1), (250, 0), (350, 0), (450, 0)]

    def test_lateness_does_not_add_up(self) -> None:
        """A machine that was held up for a moment catches up."""
        clock, device = ManualClock(), Recorder()
        asked: list[float] = []

        def wait(seconds: float) -> bool:
            clock.advance(seconds + (0.12 if len(asked) == 1 else 0.0))
            asked.append(round(seconds, 6))
            return len(asked) > 5

        play(device, [line(recording(1))], TEMPO, clock=clock, wait=wait, log=LOG)
        assert asked == [0.05, 0.05, 0.0, 0.0, 0.03, 0.05]


class TestShapes:
    def test_what_lines_show(self) -> None:
        """Name, tags, block and rate."""
        (shape,) = shapes([line(recording(1))], TEMPO, 0.001)
        assert shape == Shape("press", ["vibration"], 1200, 12_000.0, 0.001)

    @pytest.mark.parametrize("block", [0, 1, 3])
    def test_a_block_that_cannot_be_halved(self, block: int) -> None:
        """Is refused."""
        with pytest.raises(ConfigError, match="cannot be halved"):
            Tempo(12_000.0, block)
