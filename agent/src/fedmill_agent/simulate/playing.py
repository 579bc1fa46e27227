# SPDX-License-Identifier: Apache-2.0
"""Plays lines in real time: one recording after the other, each as a numbered part."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.simulate.device import Device, Shape
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import ReplayOptions, Samples
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError
from fedmill_shared.log import Logger

MOST_SAMPLES = 1 << 16
"""Of one tag in a block."""
IDLE_BLOCKS = 1
"""Blocks of zeros between two parts."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """Recordings that one machine plays.

    Attributes:
        name: of the machine.
        recordings: in the order of play; each is one part, numbered from 1.
        tags: what is asked of each of them.
        repeat: whether to begin again at the end.
    """

    name: str
    recordings: Sequence[ReplayOptions]
    tags: Sequence[str]
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Tempo:
    """How samples come.

    Attributes:
        rate_hz: samples per second.
        block: samples that are shown at a time; an even number.
        idle: blocks of zeros before the first part, so that whoever listens is there.
    """

    rate_hz: float
    block: int
    idle: int = 0

    def __post_init__(self) -> None:
        if self.block < 2 or self.block % 2:
            raise ConfigError(f"a block of {self.block} samples cannot be halved")

    def time_ns(self, halves: int) -> int:
        """Nanoseconds of so many half blocks."""
        return round(halves * self.block / 2 / self.rate_hz * 1e9)


def at_once() -> bool:
    """Nobody has to say when to begin."""
    return True


def blocks(
    line: Line, tempo: Tempo, log: Logger, begun: Callable[[], bool] = at_once
) -> Iterator[tuple[int, int, Values]]:
    """Part number, blocks left of that part, and samples (tags, block), for ever.

    Between parts, before ``begun`` says so, and at the end, the part is 0 and samples are zeros.
    """
    idle = np.zeros((len(line.tags), tempo.block))
    yield from repeat((0, 0, idle), tempo.idle)
    while not begun():
        yield 0, 0, idle
    while True:
        for number, recording in enumerate(line.recordings, 1):
            log.info("simulate.part", line=line.name, part=number, recording=recording.name)
            samples = _samples(recording, line.tags, tempo.rate_hz)
            count = -(-samples.shape[1] // tempo.block)
            whole = np.pad(samples, ((0, 0), (0, count * tempo.block - samples.shape[1])), "edge")
            for index in range(count):
                part = whole[:, index * tempo.block : (index + 1) * tempo.block]
                yield number, count - index - 1, np.nan_to_num(part)
            yield from [(0, 0, idle)] * IDLE_BLOCKS
        if not line.repeat:
            break
    log.info("simulate.done", line=line.name)
    while True:
        yield 0, 0, idle


def play(
    device: Device,
    lines: Sequence[Line],
    tempo: Tempo,
    *,
    clock: Clock,
    wait: Callable[[float], bool],
    log: Logger,
    begun: Callable[[], bool] = at_once,
) -> None:
    """Play ``lines`` on an open ``device`` until ``wait``, given seconds, says True.

    A part is announced half a block after its first sample, and taken back half a block before its
    last: whoever hears of it a little late still has samples of that part alone.
    """
    streams = {line.name: blocks(line, tempo, log, begun) for line in lines}
    begin_ns, begin = clock.now_ns(), clock.monotonic()
    halves = 0
    while True:
        coming = {name: next(stream) for name, stream in streams.items()}
        for half in (1, 2):
            halves += 1
            passed_ns = tempo.time_ns(halves)
            if wait(max(0.0, begin + passed_ns / 1e9 - clock.monotonic())):
                return
            for name, (number, left, values) in coming.items():
                if half == 1:
                    device.part(name, number if left else 0, begin_ns + passed_ns)
                else:
                    device.block(name, values, begin_ns + passed_ns)


def shapes(lines: Sequence[Line], tempo: Tempo, scale: float) -> list[Shape]:
    """What ``lines`` show."""
    return [Shape(line.name, line.tags, tempo.block, tempo.rate_hz, scale) for line in lines]


def _samples(recording: ReplayOptions, tags: Sequence[str], rate_hz: float) -> Values:
    """All samples of ``recording``, (tags, n).

    Raises:
        DataError: it cannot be read.
    """
    events = kind_of(recording).read(recording, tags, rate_hz)
    pieces = [event.values for event in events if isinstance(event, Samples)]
    return np.concatenate(pieces, axis=1) if pieces else np.zeros((len(tags), 0))
