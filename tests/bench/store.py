# SPDX-License-Identifier: Apache-2.0
"""The stores of an agent: how fast they write, what that costs, and what kill -9 takes from them.

Raw samples are written as they come from a live source, a commit for each second of the stream,
into a ring that gets full: then a second also gives up a second. Every reading has an arrival time
of its own. Windows come three to a transaction, with their predictions.

Then a program that records is killed again and again, at random moments from the beginning of its
start on. After each kill the stores are opened, which is the recovery, and what they hold is
compared with what the program had been told was safe.
"""

import argparse
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.bench import recorder
from tests.bench.harness import Figure, at_least, at_most, figure, folder

from fedmill_agent.sources.live import Readings
from fedmill_agent.store.ring import used_bytes
from fedmill_agent.store.samples import Keep, SampleStore
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import FedmillError, UsageError

SUMMARY = "stores: rows and samples a second, bytes, processor share; kill -9 at random points"
ROOT = Path(__file__).parents[2]
SHARE_LIMIT = 1.0
"""Per cent of one core while a stream is recorded as it comes."""
RECOVERY_LIMIT = 1.0
"""Seconds until a store is open again, p99."""
LONGEST = 0.25
"""Seconds that a program lives from the beginning of its start on, at most."""
CHECK_SAMPLES = 50_000
"""What is compared value by value after every kill; all of it is at the end."""
NOW = 1_700_000_000_000_000_000
SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Shape:
    """A stream: tags that deliver so many blocks of so many samples each second.

    ``limit`` are the bytes of its ring, and ``bytes_limit`` those that a sample may take.
    """

    name: str
    tags: int
    blocks: int
    samples: int
    limit: int
    bytes_limit: float


SHAPES = (
    Shape("1 tag, 12 kHz", 1, 10, 1200, 16_000_000, 9.0),
    Shape("10 tags, 1 Hz", 10, 1, 1, 1_000_000, 48.0),
    Shape("100 tags, 1 Hz", 100, 1, 1, 1_000_000, 24.0),
)


@dataclass(frozen=True, slots=True)
class Written:
    """How it went: ``seconds`` of the stream in ``wall`` and ``processor`` seconds.

    ``size`` are bytes of the ring for each sample in it, ``disk`` all that were given to the disk.
    """

    seconds: int
    samples: int
    wall: float
    processor: float
    size: float
    disk: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """After one kill: seconds to open, rows that had been acknowledged and are gone, wrong ones."""

    samples_seconds: float
    windows_seconds: float
    samples_lost: int
    windows_lost: int
    wrong: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=1000, help="of each stream")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Write each stream, then kill.

    Raises:
        UsageError: there is nothing to do.
        FedmillError: a program did not start.
    """
    if options.kills < 1 or options.seconds < 1:
        raise UsageError(f"--kills {options.kills}, --seconds {options.seconds}: at least 1")
    with folder(options.folder) as place:
        written = {
            shape: write(shape, options.seconds, place / f"{number}.sqlite")
            for number, shape in enumerate(SHAPES)
        }
        rows = write_windows(place, options.seconds)
        generator = random.Random(options.seed)
        found = list(killed(place, options.kills, generator))
        found.append(whole(place))
    return [
        *(each for shape, result in written.items() for each in figures_of(shape, result)),
        figure("windows of 1024 samples, with predictions, a second", rows, "1/s"),
        *recoveries(found),
    ]


def figures_of(shape: Shape, found: Written) -> list[Figure]:
    """What a stream cost."""
    share = 100 * found.processor / found.seconds
    return [
        figure(f"{shape.name}: commits a second, at most", found.seconds / found.wall, "1/s"),
        at_least(
            f"{shape.name}: samples a second, at most",
            found.samples / found.wall,
            "1/s",
            10 * shape.tags * shape.blocks * shape.samples,
        ),
        at_most(f"{shape.name}: bytes of a sample", found.size, "B", shape.bytes_limit),
        at_most(f"{shape.name}: share of a core as it comes", share, "%", SHARE_LIMIT),
        figure(f"{shape.name}: written to disk, a second of it", found.disk / found.seconds, "B"),
    ]


def recoveries(found: Sequence[Recovery]) -> list[Figure]:
    """What the kills took; the last of ``found`` is the comparison of everything."""
    kills = found[:-1]
    times = {
        "samples": [each.samples_seconds for each in kills],
        "windows": [each.windows_seconds for each in kills],
    }
    lost = sum(each.samples_lost + each.windows_lost for each in kills)
    return [
        figure("kills", len(kills), "1"),
        *(
            each
            for name, seconds in times.items()
            for each in (
                figure(f"{name}: open after a kill, p50", float(np.median(seconds)), "s"),
                at_most(
                    f"{name}: open after a kill, p99",
                    float(np.quantile(seconds, 0.99)),
                    "s",
                    RECOVERY_LIMIT,
                ),
            )
        ),
        at_most("acknowledged rows lost", lost, "1", 0),
        at_most("rows that are wrong", sum(each.wrong for each in found), "1", 0),
    ]


def second_of(shape: Shape, number: int, generator: np.random.Generator) -> list[Readings]:
    """What comes in one second."""
    start = NOW + number * SECOND
    period = SECOND // (shape.blocks * shape.samples)
    count = shape.tags * shape.blocks
    # as of a source that tells milliseconds, and a message for each reading
    measured = 10**6 * generator.integers(0, 1000, count) if shape.samples == 1 else [0] * count
    arrived = start + SECOND + np.sort(generator.integers(0, SECOND // 2, count))
    quality = np.full(shape.samples, 192, np.uint16)
    return [
        Readings(
            f"tag {n % shape.tags}",
            start + int(measured[n]) + period * np.arange(shape.samples) + _block(shape, n),
            generator.normal(size=shape.samples),
            quality,
            int(arrived[n]),
        )
        for n in range(count)
    ]


def write(shape: Shape, seconds: int, path: Path) -> Written:
    """Record ``seconds`` of a stream as fast as possible; making it up does not count."""
    generator = np.random.default_rng(0)
    wall = processor = 0.0
    before = disk_bytes()
    with SampleStore(path, Keep(shape.limit, 1e9), SystemClock()) as store:
        for number in range(seconds):
            batch = second_of(shape, number, generator)
            wall -= time.perf_counter()
            processor -= time.process_time()
            store.append(batch)
            store.commit()
            processor += time.process_time()
            wall += time.perf_counter()
        held = sum(store.counts().values())
        size = used_bytes(store._database) / held
        samples = store.acknowledged
    return Written(seconds, samples, wall, processor, size, disk_bytes() - before)


def write_windows(place: Path, transactions: int) -> float:
    """Windows that are stored in a second, with predictions of them."""
    work = place / "windows"
    work.mkdir()
    with recorder.windows_at(work) as store:
        begin = time.perf_counter()
        for number in range(transactions):
            recorder.add_windows(store, number * recorder.WINDOWS)
        return transactions * recorder.WINDOWS / (time.perf_counter() - begin)


def killed(place: Path, kills: int, generator: random.Random) -> Iterator[Recovery]:
    """Kill a program that records in ``place``, ``kills`` times, and look at what is left."""
    safe = 0, 0
    for _ in range(kills):
        said = _lived(place, generator.uniform(0, LONGEST))
        safe = said or safe
        yield looked(place, safe)
        with recorder.samples_at(place) as samples, recorder.windows_at(place) as windows:
            safe = recorder.recorded(samples), recorder.windowed(windows)


def looked(place: Path, safe: tuple[int, int]) -> Recovery:
    """Open both stores and hold them against what was ``safe``."""
    begin = time.perf_counter()
    with recorder.samples_at(place) as samples:
        samples_seconds = time.perf_counter() - begin
        taken = recorder.recorded(samples)
        wrong = differing(samples, taken, max(0, taken - CHECK_SAMPLES))
        wrong += samples.set_aside is not None
        wrong += not safe[0] <= taken <= safe[0] + recorder.SAMPLES
    begin = time.perf_counter()
    with recorder.windows_at(place) as windows:
        windows_seconds = time.perf_counter() - begin
        cut = recorder.windowed(windows)
        wrong += windows.set_aside is not None
        wrong += not safe[1] <= cut <= safe[1] + recorder.WINDOWS
    return Recovery(
        samples_seconds, windows_seconds, max(0, safe[0] - taken), max(0, safe[1] - cut), wrong
    )


def whole(place: Path) -> Recovery:
    """Compare every sample that is there."""
    with recorder.samples_at(place) as samples:
        taken, first = recorder.recorded(samples), samples.discarded
        return Recovery(0.0, 0.0, 0, 0, differing(samples, taken, first))


def differing(store: SampleStore, taken: int, first: int) -> int:
    """Samples from ``first`` to ``taken`` that are missing, doubled or not what was recorded."""
    first = max(first, store.discarded)
    right = place = 0
    for batch in store.read(since_ns=first, merged=True, step_ns=1 << 16):
        times = batch.times_ns
        expected = np.arange(first + place, first + place + len(times))
        same = (times == expected) & (batch.values == recorder.values_of(expected))
        right += int(same.sum())
        place += len(times)
    return max(taken - first, place) - right


def disk_bytes() -> int:
    """Bytes that this process gave to its disks."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


def _block(shape: Shape, number: int) -> int:
    return (number // shape.tags) * SECOND // shape.blocks


def _lived(place: Path, seconds: float) -> tuple[int, int] | None:
    """Let a program record and kill it; the last that it said, None if it came to nothing.

    Raises:
        FedmillError: it did not start.
    """
    command = [sys.executable, "-m", "tests.bench.recorder", str(place)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        stream = process.stdout
        end = threading.Timer(seconds, process.kill)
        try:
            if stream is None or stream.readline() != b"opening\n":
                raise FedmillError("the program that is to be killed did not start")
            end.start()
            rest = stream.read()
        finally:
            end.cancel()
            process.kill()
    lines = rest[: rest.rfind(b"\n") + 1].splitlines()
    if not lines:
        return None
    taken, cut = lines[-1].split()
    return int(taken), int(cut)
