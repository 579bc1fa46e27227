# SPDX-License-Identifier: Apache-2.0
"""From readings to cleaned windows: how many samples a core takes, and what a source costs.

The path alone runs on made-up readings: grid, units, quality, cleaning, windows. The sources run
against real servers in a process of their own, at the pace of the plant; what they cost is the
processor time of the reading process.
"""

import argparse
import gc
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from tests.bench.feeding import CASES, START_SECONDS, Case, feeding
from tests.bench.harness import Figure, at_least, at_most, figure, folder

from fedmill_agent.cutter import Cutter
from fedmill_agent.sources.aligner import Aligner
from fedmill_agent.sources.base import Samples, SourceOptions
from fedmill_agent.sources.columns import Column
from fedmill_agent.sources.hub import Hub
from fedmill_agent.sources.live import GOOD, LiveOptions, Readings
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.sources.wanted import wanted_of
from fedmill_shared.clock import SystemClock
from fedmill_shared.job import Cleaning, Signal, Window
from fedmill_shared.log import get_logger

SUMMARY = "samples a second from readings to windows, processor share of each source, flat memory"
TARGET = 200_000
GROWTH_MIB = 2.0
SIZES = ((1, 12_000.0), (10, 1000.0), (100, 100.0))
"""Signals, and samples per second of each."""
LENGTH = 1024
BLOCK_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--minutes", type=float, default=10.0, help="how long memory is watched")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each source and size")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """The path alone, then memory, then each source.

    Raises:
        FedmillError: a server or a source failed.
    """
    figures = []
    for signals, rate_hz in SIZES:
        speed = throughput(signals, rate_hz, 4.0)
        name = f"clean and window, {_plural(signals)}"
        figures.append(at_least(name, speed, "samples/s", TARGET))
    figures += _memory(options.minutes * 60.0)
    with folder(options.folder) as place:
        for case in CASES:
            figures += _source(case, place, options.seconds)
    return figures


@dataclass
class Line:
    """Everything between a source's readings and windows of ``signals`` signals."""

    signals: int
    rate_hz: float
    tags: Sequence[str] = ()
    scale: float = 1.0
    windows: int = 0
    samples: int = 0

    def __post_init__(self) -> None:
        tags = [f"t{i}" for i in range(self.signals)]
        self.declared = [
            Signal(name=tag, rate_hz=self.rate_hz, unit="degC", range=[-100.0, 200.0])
            for tag in tags
        ]
        source = SourceOptions(
            name="line", units=dict.fromkeys(tags, "degF"), scales=dict.fromkeys(tags, self.scale)
        )
        half = round(0.5e9 / self.rate_hz)
        columns = [Column(tag, half) for tag in self.tags or tags]
        self.aligner = Aligner("line", columns, self.rate_hz, wait_ns=10**9)
        window = Window(length=LENGTH, stride=LENGTH // 2)
        self.cutter = Cutter("bench", self.declared, window, source, cleaning=Cleaning())

    def take(self, readings: list[Readings], now_ns: int) -> None:
        """One delivery of the source."""
        for each in readings:
            self.samples += len(each)
            self.aligner.push(each, now_ns)
        for event in self.aligner.advance(now_ns):
            self.windows += len(self.cutter.take(event))

    def cut(self, event: SourceEvent) -> bool:
        """Samples that a hub has put on the grid."""
        if isinstance(event.event, Samples):
            self.samples += event.event.values.size
        self.windows += len(self.cutter.take(event.event))
        return True


def deliveries(signals: int, rate_hz: float) -> Iterator[tuple[list[Readings], int]]:
    """What a source brings every tenth of a second, for ever; one value in a thousand is bad."""
    count = max(1, round(rate_hz * BLOCK_SECONDS))
    period, start = 1e9 / rate_hz, 1_700_000_000_000_000_000
    rng = np.random.default_rng(0)
    values = rng.normal(70.0, 3.0, (signals, count))
    values[rng.random(values.shape) < 0.001] = np.nan
    good = np.full(count, GOOD, np.uint16)
    done = 0
    while True:
        times = start + np.rint((done + np.arange(count)) * period).astype(np.int64)
        now = int(times[-1])
        yield [Readings(f"t{i}", times, row, good, now) for i, row in enumerate(values)], now
        done += count


def throughput(signals: int, rate_hz: float, seconds: float) -> float:
    """Values per second of processor time, of all signals together."""
    line, source = Line(signals, rate_hz), deliveries(signals, rate_hz)
    for _ in range(20):
        line.take(*next(source))
    line.samples, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        line.take(*next(source))
    return line.samples / (time.process_time() - begin)


def _memory(seconds: float) -> list[Figure]:
    """Growth while 12 kHz and 100 signals come at full speed."""
    lines = [(Line(n, rate), deliveries(n, rate)) for n, rate in (SIZES[0], SIZES[-1])]
    process, marks = psutil.Process(), []
    end = time.monotonic() + seconds
    settled = time.monotonic() + min(20.0, seconds / 4)
    while time.monotonic() < end:
        for _ in range(200):
            for line, source in lines:
                line.take(*next(source))
        if time.monotonic() > settled:
            gc.collect()
            marks.append(process.memory_info().rss / 2**20)
    third = max(1, len(marks) // 3)
    growth = float(np.median(marks[-third:]) - np.median(marks[:third]))
    taken = sum(line.samples for line, _ in lines)
    return [
        at_most(f"memory growth over {seconds / 60:g} min", growth, "MiB", GROWTH_MIB),
        figure("samples meanwhile", taken, "1"),
    ]


def _source(case: Case, place: Path, seconds: float) -> list[Figure]:
    """What reading one real server costs."""
    with feeding(case, place) as options:
        receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
        child = multiprocessing.get_context("spawn").Process(
            target=_read, args=(case, options, seconds, sender)
        )
        child.start()
        sender.close()
        try:
            samples, windows, share, lost = receiver.recv()
        finally:
            child.join(30)
            child.kill()
    name = f"{case.kind}, {_plural(case.signals)} at {case.rate_hz:g} Hz"
    return [
        at_least(name, samples, "samples/s", 0.9 * case.signals * case.rate_hz),
        figure(f"{name}, processor", 100 * share, "% of a core"),
        figure(f"{name}, windows", windows, "1"),
        at_most(f"{name}, left out", lost, "1", 0),
    ]


def _read(case: Case, options: LiveOptions, seconds: float, sender: Connection) -> None:
    """In a process of its own: read for a while as the daemon does, and say what it cost."""
    line = Line(case.signals, case.rate_hz, case.tags, case.scale)
    hub = Hub([options], clock=SystemClock(), log=get_logger(), failed=lambda _: None)
    wanted = wanted_of(options, line.declared, case.tags)
    hub.start()
    hub.subscribe(1, options.name, wanted, line.cut)
    end = time.monotonic() + START_SECONDS
    while line.samples < case.signals * case.rate_hz and time.monotonic() < end:
        time.sleep(0.05)
    before = _lost(hub, options.name)
    first, begin, cpu = line.samples, time.monotonic(), time.process_time()
    time.sleep(seconds)
    elapsed, spent = time.monotonic() - begin, time.process_time() - cpu
    samples = (line.samples - first) / elapsed
    lost = _lost(hub, options.name) - before
    hub.close(10.0)
    sender.send((samples, line.windows, spent / elapsed, lost))


def _lost(hub: Hub, name: str) -> int:
    """Values that came and were not used; a poll that came late has lost none."""
    dropped = hub.standings()[name].dropped
    return sum(number for reason, number in dropped.items() if reason != "late poll")


def _plural(signals: int) -> str:
    return f"{signals} signal{'s' if signals > 1 else ''}"
