# SPDX-License-Identifier: Apache-2.0
"""Real servers for the ingest bench: a simulated plant floor behind each protocol."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.bench.harness import child

from fedmill_agent.sources.live import LiveOptions
from fedmill_agent.sources.modbus.declaration import Fields
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_coordinator.demo.broker import broker, free_port
from fedmill_shared.errors import SourceError

LINE = "line"
COUNT = 0.01
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """A source of one kind that delivers so many signals, each at the same rate."""

    kind: str
    signals: int
    rate_hz: float

    @property
    def columns(self) -> list[str]:
        """Names of the signals."""
        return [f"t{i}" for i in range(self.signals)]

    @property
    def block(self) -> int:
        """Samples that are shown at a time: those of half a second."""
        return max(2, 2 * round(self.rate_hz / 4))

    @property
    def scale(self) -> float:
        """What a value is worth; registers hold whole numbers."""
        return COUNT if self.kind == "modbus" else 1.0

    @property
    def tags(self) -> list[str]:
        """What the source calls them."""
        if self.kind == "opcua":
            return [f"ns=2;s={LINE}.{name}" for name in self.columns]
        if self.kind == "sparkplug":
            return [f"fedmill/{LINE}:{name}" for name in self.columns]
        return self.columns


CASES = tuple(
    Case(kind, signals, rate_hz)
    for kind in ("opcua", "modbus", "sparkplug")
    for signals, rate_hz in ((1, 12_000.0), (10, 100.0), (100, 10.0))
)


@contextmanager
def feeding(case: Case, place: Path) -> Iterator[LiveOptions]:
    """Options of a source whose server plays ``case`` over and over until the context ends.

    Raises:
        SourceError: the server does not come up.
    """
    folder = place / f"{case.kind}-{case.signals}"
    folder.mkdir()
    rows = np.random.default_rng(case.signals).normal(70.0, 3.0, (4 * case.block, case.signals))
    recording = folder / "line.csv"
    np.savetxt(recording, rows, "%.3f", delimiter=",", header=",".join(case.columns), comments="")
    tags = ", ".join(f'{name} = "{name}"' for name in case.columns)
    (folder / "line.toml").write_text(
        f'[agent]\nid = "{LINE}"\n[[sources]]\nkind = "csv"\nname = "line"\n'
        f'path = "line.csv"\nrate_hz = {case.rate_hz}\ntags = {{ {tags} }}\n'
    )
    if case.kind == "sparkplug":
        with broker(folder / "broker") as port, _served(case, folder, port) as options:
            yield options
        return
    with _served(case, folder, free_port()) as options:
        yield options


@contextmanager
def _served(case: Case, folder: Path, port: int) -> Iterator[LiveOptions]:
    command = [
        *(sys.executable, "-m", "fedmill_agent", "simulate", str(folder / "line.toml")),
        *("--protocol", case.kind, "--port", str(port), "--rate", str(case.rate_hz)),
        *("--block", "0.5", "--scale", str(COUNT), "--repeat"),
    ]
    with child(command, folder / "server.out"):
        end = time.monotonic() + START_SECONDS
        while not _listens(port):
            if time.monotonic() > end:
                raise SourceError(f"{case.kind} server does not come up", remedy="see server.log")
            time.sleep(0.05)
        yield options_of(case, port)


def options_of(case: Case, port: int) -> LiveOptions:
    """How the source is configured."""
    rates = dict.fromkeys(case.columns, case.rate_hz)
    tags = dict(zip(case.columns, case.tags, strict=True))
    if case.kind == "opcua":
        url = f"opc.tcp://127.0.0.1:{port}/fedmill/"
        return OpcuaOptions(name=LINE, url=url, tags=tags, rates=rates)
    if case.kind == "modbus":
        registers = {
            name: Fields(
                kind="holding",
                address=2 + i * case.block,
                type="int16",
                count=case.block,
                rate_hz=case.rate_hz,
                sequence="holding 0 uint16",
            )
            for i, name in enumerate(case.columns)
        }
        return ModbusOptions(
            name=LINE, port=port, interval_seconds=0.1, registers=registers, tags=tags
        )
    return SparkplugOptions(name=LINE, port=port, tags=tags, rates=rates)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True
