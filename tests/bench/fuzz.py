# SPDX-License-Identifier: Apache-2.0
"""Spoiled bytes for every decoder of what others wrote: only a FedmillError may come of them.

A finding is another exception, more than a second of processor time, or more memory than 64 MiB
for one input; it is told with the input in hex, and ``--decoder NAME --hex INPUT`` repeats it.
"""

import argparse
import faulthandler
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec
from msgspec import Struct
from tests.bench.decoders import Decoder, decoders, inputs
from tests.bench.harness import Figure, at_most, child, figure

from fedmill_agent.memory import return_memory
from fedmill_agent.status import resident_bytes
from fedmill_shared.errors import FedmillError, TrainerError, UsageError

SUMMARY = "spoiled input for every decoder: no crash, no hang, no memory eaten"
BATCH = 500
WARM_UP = 300
"""Inputs of each decoder before memory is measured."""

SAMPLED = 50
"""Every so many inputs the peak of one decoding is traced."""

SECONDS_LIMIT = 1.0
HANG_SECONDS = 10.0
PEAK_LIMIT = 64 << 20
GROWTH_LIMIT = 32 << 20
TOLD = 3
"""Findings of a kind and decoder that are told; all are counted."""

FOREIGN_LIMIT = 2000
"""Bytes of a seed that other decoders get too."""


class Finding(Struct, frozen=True):
    """An input that did what none may do."""

    decoder: str
    kind: str
    text: str
    hex: str


class Tally(Struct):
    """What one process saw; times in seconds, memory in bytes."""

    counts: dict[str, int] = {}
    accepted: dict[str, int] = {}
    crashes: int = 0
    findings: list[Finding] = []
    slowest: float = 0.0
    peak: int = 0
    growth: int = 0


class Hang(BaseException):
    """One input has used too much processor time; no decoder catches this."""


@dataclass(slots=True)
class Run:
    """Owns the tally of this process; the file ``crumb`` tells what it was at if it dies."""

    tally: Tally = field(default_factory=Tally)
    crumb: int | None = None
    _since_trace: int = 0

    def feed(self, decoder: Decoder, data: bytes) -> None:
        """Have ``data`` decoded, and note whatever it does."""
        if self.crumb is not None:
            head = f"{decoder.name}\n{len(data)}\n".encode()
            os.pwrite(self.crumb, head + data, 0)
        self._since_trace += 1
        traced = self._since_trace >= SAMPLED
        if traced:
            self._since_trace = 0
            tracemalloc.start()
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
        started = time.thread_time()
        try:
            decoder.decode(data)
        except FedmillError:
            pass
        except (Exception, Hang) as error:  # noqa: BLE001  whatever it is, it is the finding
            self._note(decoder, data, type(error).__name__, str(error))
        else:
            self.tally.accepted[decoder.name] = self.tally.accepted.get(decoder.name, 0) + 1
        seconds = time.thread_time() - started
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        peak = 0
        if traced:
            peak = tracemalloc.get_traced_memory()[1] - len(data)
            tracemalloc.stop()
        elif seconds > SECONDS_LIMIT:
            self._note(decoder, data, "Slow", f"{seconds:.2f} s")
        if peak > PEAK_LIMIT:
            self._note(decoder, data, "Memory", f"{peak} bytes at the peak")
        if not traced:  # tracing is slow
            self.tally.slowest = max(self.tally.slowest, seconds)
        self.tally.peak = max(self.tally.peak, peak)
        self.tally.counts[decoder.name] = self.tally.counts.get(decoder.name, 0) + 1

    def _note(self, decoder: Decoder, data: bytes, kind: str, text: str) -> None:
        self.tally.crashes += 1
        known = [f for f in self.tally.findings if (f.decoder, f.kind) == (decoder.name, kind)]
        if len(known) < TOLD:
            finding = Finding(decoder.name, kind, text[:500], data.hex())
            self.tally.findings.append(finding)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs, over all decoders")
    parser.add_argument("--seed", type=int, default=0, help="the same inputs for the same seed")
    parser.add_argument("--processes", type=int, default=2, help="processes that share the work")
    parser.add_argument("--decoder", default="", help="only this one")
    parser.add_argument("--hex", default="", help="one input for --decoder; its error is raised")


def run(options: argparse.Namespace) -> list[Figure]:
    """Share the inputs among processes and add up what they saw.

    Raises:
        UsageError: there is no such decoder.
        TrainerError: a process failed before its first input.
    """
    if options.hex:
        return [_once(options.decoder, options.hex)]
    started = time.monotonic()
    tallies = _shared(options)
    seconds = time.monotonic() - started
    for tally in tallies:
        for finding in tally.findings:
            print(
                f"fuzz: {finding.decoder}: {finding.kind}: {finding.text}; "
                f"--decoder '{finding.decoder}' --hex {finding.hex}",
                file=sys.stderr,
            )
    return figures_of(tallies, seconds)


def figures_of(tallies: list[Tally], seconds: float) -> list[Figure]:
    """The figures of all processes together."""
    counts = _sum([tally.counts for tally in tallies])
    accepted = _sum([tally.accepted for tally in tallies])
    total = sum(counts.values())
    return [
        figure("inputs", total, "1"),
        figure("inputs per second", total / max(seconds, 1e-9), "1/s"),
        at_most("crashes", sum(tally.crashes for tally in tallies), "1", 0),
        at_most("slowest input", max(t.slowest for t in tallies), "s", SECONDS_LIMIT),
        at_most("largest peak of one input", max(t.peak for t in tallies), "B", PEAK_LIMIT),
        at_most("growth of the RSS", max(t.growth for t in tallies), "B", GROWTH_LIMIT),
        *(figure(f"{name}: inputs", count, "1") for name, count in sorted(counts.items())),
        *(
            figure(f"{name}: accepted", accepted.get(name, 0) / count, "1")
            for name, count in sorted(counts.items())
        ),
    ]


def work(
    share: int, processes: int, total: int, seed: int, only: str, *, crumb: Path | None = None
) -> Tally:
    """Do the share of one process, beside its ``crumb``; each batch has a generator of its own."""
    place = crumb.parent if crumb is not None else None
    with _table(only, place) as table, _hang_is_noticed(), _open(crumb) as handle:
        run = Run(crumb=handle)
        foreign = tuple(s for each in table for s in each.seeds if len(s) <= FOREIGN_LIMIT)
        for decoder in table:
            rng = random.Random(f"{seed} warm-up {decoder.name}")
            for _, data in zip(range(WARM_UP), inputs(decoder, rng, foreign), strict=False):
                run.feed(decoder, data)
        before = _held()
        with _little_memory():
            for number in range(share, -(-total // BATCH), processes):
                decoder = table[number % len(table)]
                rng = random.Random(f"{seed} {number}")
                size = min(BATCH, total - number * BATCH)
                for _, data in zip(range(size), inputs(decoder, rng, foreign), strict=False):
                    run.feed(decoder, data)
        run.tally.growth = max(0, _held() - before)
    return run.tally


def _once(name: str, text: str) -> Figure:
    with _table(name) as table:
        started = time.thread_time()
        try:
            table[0].decode(bytes.fromhex(text))
        except FedmillError as error:
            print(f"fuzz: refused as it must be: {error}", file=sys.stderr)
        return at_most("slowest input", time.thread_time() - started, "s", SECONDS_LIMIT)


def _shared(options: argparse.Namespace) -> list[Tally]:
    with tempfile.TemporaryDirectory(prefix="fedmill-fuzz-", dir=_memory()) as folder:
        return _run_all(options, Path(folder))


def _run_all(options: argparse.Namespace, folder: Path) -> list[Tally]:
    with ExitStack() as stack:
        started: list[tuple[subprocess.Popen[bytes], Path]] = []
        for share in range(options.processes):
            numbers = (share, options.processes, options.inputs, options.seed)
            output = folder / f"share-{share}.json"
            command = [sys.executable, "-m", "tests.bench.fuzz", *map(str, numbers)]
            command += [options.decoder, str(output.with_suffix(".crumb"))]
            started.append((stack.enter_context(child(command, output)), output))
        return [result(process.wait(), output) for process, output in started]


def result(code: int, output: Path) -> Tally:
    """The tally of a process that ended with ``code``; of one that died, the input it died of.

    Raises:
        TrainerError: it failed before its first input.
    """
    if code == 0:
        return msgspec.json.decode(output.read_bytes(), type=Tally)
    words = output.with_suffix(".log").read_text(errors="replace").strip()
    crumb = output.with_suffix(".crumb")
    if not crumb.exists() or not crumb.stat().st_size:
        raise TrainerError(f"a fuzzing process ended with {code}: {words[-500:]}")
    name, size, data = crumb.read_bytes().split(b"\n", 2)
    finding = Finding(name.decode(), f"Exit {code}", words[:500], data[: int(size)].hex())
    return Tally(counts={finding.decoder: 1}, crashes=1, findings=[finding])


@contextmanager
def _table(only: str, place: Path | None = None) -> Iterator[list[Decoder]]:
    """The decoders, all or one, with their files in memory where the machine has such a folder."""
    with tempfile.TemporaryDirectory(prefix="fedmill-fuzz-", dir=place or _memory()) as folder:
        table = decoders(Path(folder))
        names = [each.name for each in table]
        if only and only not in names:
            raise UsageError(f"--decoder {only!r} is unknown", remedy=f"one of {', '.join(names)}")
        yield [each for each in table if only in ("", each.name)]


@contextmanager
def _open(crumb: Path | None) -> Iterator[int | None]:
    if crumb is None:
        yield None
        return
    with crumb.open("wb") as file:
        yield file.fileno()


def _memory() -> Path | None:
    memory = Path("/dev/shm")  # noqa: S108  a file system, not a name
    return memory if memory.is_dir() else None


@contextmanager
def _hang_is_noticed() -> Iterator[None]:
    def hang(_number: int, _frame: FrameType | None) -> None:
        raise Hang(f"over {HANG_SECONDS:g} s")

    before = signal.signal(signal.SIGVTALRM, hang)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _little_memory() -> Iterator[None]:
    """What one input may allocate is bounded for all of them, not only for those traced."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + PEAK_LIMIT + GROWTH_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _held() -> int:
    """Resident bytes, without what is free and only not given back."""
    gc.collect()
    return_memory()
    return resident_bytes()


def _sum(parts: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def _main(arguments: list[str]) -> None:
    """``SHARE PROCESSES INPUTS SEED DECODER CRUMB``: one process; its tally as JSON."""
    faulthandler.enable()
    share, processes, total, seed = map(int, arguments[:4])
    tally = work(share, processes, total, seed, arguments[4], crumb=Path(arguments[5]))
    print(msgspec.json.encode(tally).decode(), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
