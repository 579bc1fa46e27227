# SPDX-License-Identifier: Apache-2.0
"""What every bench shares: figures with targets, the result they make, and children that end."""

import os
import platform
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType

import msgspec
import psutil
from msgspec import Struct

from fedmill_shared.errors import Interrupted, UsageError
from fedmill_shared.files import make_folder

PACKAGES = ("fedmill-shared", "msgspec", "numpy", "onnxruntime", "paho-mqtt", "sqlalchemy", "torch")
STOP_SECONDS = 15.0


class Figure(Struct, frozen=True):
    """One measured number; ``ok`` says whether it holds its ``target``, or has none."""

    name: str
    value: float
    unit: str
    target: str | None = None
    ok: bool = True


class Environment(Struct, frozen=True):
    """Where it was measured; ``load`` is the mean run queue of the minute before the start."""

    cpus: int
    machine: str
    python: str
    versions: dict[str, str]
    load: float


class Outcome(Struct, frozen=True):
    """The last line of every bench."""

    bench: str
    ok: bool
    figures: list[Figure]
    environment: Environment


def figure(name: str, value: float, unit: str) -> Figure:
    """A number that is only reported."""
    return Figure(name, _rounded(value), unit)


def at_most(name: str, value: float, unit: str, limit: float) -> Figure:
    """A number that must not exceed ``limit``; not a number never holds."""
    return Figure(name, _rounded(value), unit, f"<= {limit:g}", bool(value <= limit))


def at_least(name: str, value: float, unit: str, limit: float) -> Figure:
    """A number that must reach ``limit``; not a number never holds."""
    return Figure(name, _rounded(value), unit, f">= {limit:g}", bool(value >= limit))


def outcome(bench: str, figures: Sequence[Figure], environment: Environment) -> Outcome:
    """The result of a bench: ok if it measured anything and every figure is."""
    ok = bool(figures) and all(figure.ok for figure in figures)
    return Outcome(bench, ok, list(figures), environment)


def environment() -> Environment:
    """This machine, as it is now."""
    return Environment(
        cpus=os.cpu_count() or 1,
        machine=f"{platform.system()} {platform.release()} {platform.machine()}, {_processor()}",
        python=platform.python_version(),
        versions={name: metadata.version(name) for name in PACKAGES},
        load=round(os.getloadavg()[0], 2),
    )


def lines(result: Outcome) -> list[str]:
    """The figures for people."""
    width = max((len(figure.name) for figure in result.figures), default=0)
    shown = []
    for each in result.figures:
        target = f"target {each.target}: {'ok' if each.ok else 'MISSED'}" if each.target else ""
        shown.append(f"{each.name:<{width}}  {each.value:>12,g} {each.unit:<12} {target}".rstrip())
    return [*shown, f"{result.bench}: {'every target holds' if result.ok else 'NOT OK'}"]


def encode(result: Outcome) -> str:
    """One JSON object on one line."""
    return msgspec.json.encode(result).decode()


@contextmanager
def folder(chosen: Path | None) -> Iterator[Path]:
    """A folder to work in: ``chosen``, which stays, or a temporary one, which does not.

    Raises:
        UsageError: ``chosen`` holds something.
    """
    if chosen is not None:
        if any(make_folder(chosen).iterdir()):
            raise UsageError(f"--folder {chosen} holds something", remedy="give an empty folder")
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="fedmill-bench-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def end_on_signals() -> None:
    """Turn the first Ctrl-C or SIGTERM into Interrupted; later ones wait for children to end."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupt)


@contextmanager
def child(command: Sequence[str], output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run ``command`` with its output in a file; it and all it started end with the context."""
    with output.open("wb") as stream, output.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, so that it ends its own children; SIGKILL for the whole family if it is too slow."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
