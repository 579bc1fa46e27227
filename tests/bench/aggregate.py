# SPDX-License-Identifier: Apache-2.0
"""Opening and summing a large round: seconds of one core, and memory beyond the process itself.

The frames are those of real codecs: up to 64 distinct ones, taken in turn until there are enough,
and together larger than the processor's cache. For the time they are in memory; what it costs to
read and check them, as the store does, is a figure of its own. For the memory they lie in files
that are mapped when they are opened. Checksums inside a frame are not computed again, as after a
SHA-256. Each case is a process of its own. Beside them: what numpy and torch need to add float32
vectors that are in memory.
"""

import argparse
import mmap
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_most, child, figure, folder
from tests.bench.memory import rollup

from fedmill_coordinator.aggregation import State, Update, aggregate, norm_of
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.base import Codec, Payload
from fedmill_shared.codec.frame import FrameHeader, encode_frame, open_frame
from fedmill_shared.errors import FedmillError
from fedmill_shared.files import sha256
from fedmill_shared.job import Federation, Robustness

SUMMARY = "opening and summing 1000 updates of a million parameters: seconds and memory"
SECONDS_LIMIT = 0.5
EXTRA_LIMIT = 64.0
"""MiB."""
DISTINCT = 64
PASSES = 3
RAW = "int8 raw"
METHODS: dict[str, Codec] = {
    RAW: replace(CODECS["int8"], entropy=False),
    "int8": CODECS["int8"],
    "stc-100": CODECS["stc-100"],
    "fp32": CODECS["fp32"],
}
LIMITED = (RAW, "stc-100")
CHECK = "check"
PEERS = ("numpy", "torch")


class Measured(Struct, frozen=True):
    """What one process found: the fastest pass, and MiB beyond the process at the peak."""

    seconds: float
    cpu_seconds: float
    extra: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--updates", type=int, default=1000, help="updates of the round")
    parser.add_argument("--params", type=int, default=1_000_000, help="elements of each")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Measure every codec with one worker and with two, then the peers.

    Raises:
        UsageError: the folder holds something.
        FedmillError: a case failed.
    """
    size = (max(1, options.updates), max(1, options.params))
    figures = []
    with folder(options.folder) as place:
        for method, codec in METHODS.items():
            names = write_frames(place / method, codec, size[1], min(DISTINCT, size[0]))
            figures.append(figure(f"{method}: bytes of an update", median(names), "B"))
            for workers in (1, 2):
                figures += figures_of(method, workers, _measure(place, method, workers, *size))
        checked = _measure(place, CHECK, 1, *size).seconds
        figures.append(figure(f"{RAW}: reading and SHA-256 alone", checked, "s"))
        for peer in PEERS:
            seconds = _measure(place, peer, 1, *size).seconds
            figures.append(figure(f"{peer}: sum of float32 in memory", seconds, "s"))
    return figures


def figures_of(method: str, workers: int, found: Measured) -> list[Figure]:
    """Seconds and memory of one case; targets are those of one core."""
    name = method if workers == 1 else f"{method}, {workers} workers"
    limited = method in LIMITED and workers == 1
    time_ = partial(at_most, limit=SECONDS_LIMIT) if limited else figure
    memory_ = partial(at_most, limit=EXTRA_LIMIT) if workers == 1 else figure
    return [
        time_(f"{name}: open and sum", found.seconds, "s"),
        figure(f"{name}: processor time of that", found.cpu_seconds, "s"),
        memory_(f"{name}: extra memory", found.extra, "MiB"),
    ]


def write_frames(place: Path, codec: Codec, elements: int, count: int) -> list[int]:
    """Write ``count`` frames of bell-shaped deltas to ``place``; their sizes in bytes."""
    place.mkdir()
    sizes = []
    for number in range(count):
        generator = np.random.default_rng(number)
        delta = (0.01 * generator.laplace(size=elements)).astype(np.float32)
        header = FrameHeader(content="delta", round=1, schema="0" * 16, base="1" * 16)
        frame = encode_frame(codec, delta, header, generator)
        (place / f"{number:03}").write_bytes(frame)
        sizes.append(len(frame))
    return sizes


def round_of(count: int, openers: Sequence[Callable[[], Payload]]) -> list[Update]:
    """A round of ``count`` updates, in order, that ``openers`` open in turn."""
    norms = [norm_of(opener()) for opener in openers]
    return [
        Update(f"agent-{i:06}", 100 + i % 7, openers[i % len(norms)], norms[i % len(norms)])
        for i in range(count)
    ]


def mapped(path: Path, elements: int) -> Payload:
    """The payload of the frame in a file."""
    with path.open("rb") as file:
        return in_memory(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), elements)


def in_memory(frame: mmap.mmap | bytes, elements: int) -> Payload:
    """The payload of a frame."""
    return open_frame(memoryview(frame), elements=elements, intact=True)[1]


def fastest(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of the processor, of the fastest of some passes."""
    times = []
    for _ in range(PASSES):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def peak(work: Callable[[], object]) -> float:
    """MiB that this process takes at most while it works, beyond what it had before."""
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = rollup(status.read_text())["VmRSS"]
    work()
    return rollup(status.read_text())["VmHWM"] - before


def case(place: Path, name: str, workers: int, count: int, elements: int) -> Measured:
    """Measure one codec or one peer in this process."""
    if name in PEERS:
        return Measured(*fastest(partial(PEER_SUMS[name], count, vectors_of(elements))), 0.0)
    paths = sorted((place / (RAW if name == CHECK else name)).iterdir())
    if name == CHECK:
        turns = [paths[i % len(paths)] for i in range(count)]
        return Measured(*fastest(lambda: [sha256(path.read_bytes()) for path in turns]), 0.0)

    def work(updates: Sequence[Update]) -> None:
        aggregate(State(elements), updates, Federation(), Robustness(), seed=0, workers=workers)

    files = round_of(count, [partial(mapped, path, elements) for path in paths])
    work(files[:1])
    extra = peak(partial(work, files))
    frames = [path.read_bytes() for path in paths]
    times = fastest(
        partial(work, round_of(count, [partial(in_memory, frame, elements) for frame in frames]))
    )
    return Measured(*times, extra)


def _measure(place: Path, name: str, workers: int, count: int, elements: int) -> Measured:
    """``case`` in a process of its own."""
    output = place / f"{name}-{workers}.json"
    numbers = [str(number) for number in (workers, count, elements)]
    # Neither BLAS nor torch may take another core than the workers do.
    threads = [f"{name}={workers}" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
    python = ["env", *threads, sys.executable, "-m", "tests.bench.aggregate"]
    command = [*python, str(place), name, *numbers]
    with child(command, output) as process:
        code = process.wait()
    if code:
        raise FedmillError(f"case {name}: {output.with_suffix('.log').read_text()[-2000:]}")
    return msgspec.json.decode(output.read_bytes(), type=Measured)


# Peers


def vectors_of(elements: int) -> list[NDArray[np.float32]]:
    """Enough float32 vectors to be larger than the processor's cache."""
    generator = np.random.default_rng(0)
    return [generator.normal(size=elements).astype(np.float32) for _ in range(DISTINCT // 4)]


def numpy_sum(count: int, vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The plain streaming mean: ``total += weight * vector``."""
    total = np.zeros_like(vectors[0])
    for number in range(count):
        total += np.float32(1 / count) * vectors[number % len(vectors)]
    return total


def torch_sum(count: int, vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The same in torch, in place and with one thread."""
    import torch

    torch.set_num_threads(1)
    total = torch.zeros(vectors[0].size)
    tensors = [torch.from_numpy(vector) for vector in vectors]
    for number in range(count):
        total.add_(tensors[number % len(tensors)], alpha=1 / count)
    return total.numpy()


PEER_SUMS = {"numpy": numpy_sum, "torch": torch_sum}


def _main(arguments: Iterator[str]) -> None:
    place, name = Path(next(arguments)), next(arguments)
    print(msgspec.json.encode(case(place, name, *map(int, arguments))).decode())


if __name__ == "__main__":
    _main(iter(sys.argv[1:]))
