# SPDX-License-Identifier: Apache-2.0
"""A machine that tells what a test says, in the place of psutil."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil

from fedmill_agent.sources.host.look import Look
from fedmill_agent.sources.host.session import Machine
from fedmill_shared.clock import ManualClock


class Times(NamedTuple):
    """Seconds of a core."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float
    guest: float
    guest_nice: float


class Sensor(NamedTuple):
    """What a sensor reads."""

    label: str
    current: float


class Disk(NamedTuple):
    """Counters of a disk."""

    read_count: float
    write_count: float
    read_bytes: float
    write_bytes: float
    busy_time: float


class Network(NamedTuple):
    """Counters of an interface."""

    bytes_sent: float
    bytes_recv: float
    errin: float
    dropin: float


class FakeSystem:
    """Two cores, two sensors, a disk with a partition and a volume on it, two networks."""

    Error = psutil.Error

    def __init__(self) -> None:
        self.times = [Times(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)] * 2
        self.temperatures: dict[str, list[Sensor]] = {
            "coretemp": [Sensor("Package id 0", 55.0), Sensor("Core 0", 48.0)],
            "acpitz": [Sensor("", 30.0), Sensor("", 255.0)],
        }
        self.disks = {"vda": Disk(1, 1, 100, 200, 5), "vda1": Disk(1, 1, 90, 190, 5)}
        self.networks = {"lo": Network(5, 5, 0, 0), "eth0": Network(10, 20, 1, 0)}
        self.reads = 0

    def spend(self, core: int, **seconds: float) -> None:
        """Let a core have worked on."""
        old = self.times[core]
        more = {name: getattr(old, name) + each for name, each in seconds.items()}
        self.times[core] = old._replace(**more)

    def cpu_times(self, *, percpu: bool = False) -> Any:
        """Of each core, or their sum."""
        self.reads += 1
        return self.times if percpu else Times(*map(sum, zip(*self.times, strict=True)))

    def cpu_freq(self) -> Any:
        """2.4 GHz."""
        return SimpleNamespace(current=2400.0)

    def cpu_stats(self) -> Any:
        """Counters of the kernel."""
        return SimpleNamespace(ctx_switches=1000, interrupts=2000)

    def getloadavg(self) -> tuple[float, float, float]:
        """One, two and three."""
        return (1.0, 2.0, 3.0)

    def virtual_memory(self) -> Any:
        """A quarter in use."""
        return SimpleNamespace(percent=25.0, available=3_000_000_000, used=1_000_000_000)

    def swap_memory(self) -> Any:
        """None in use."""
        return SimpleNamespace(percent=0.0)

    def sensors_temperatures(self) -> dict[str, list[Sensor]]:
        """What the test says."""
        return self.temperatures

    def sensors_fans(self) -> dict[str, list[Sensor]]:
        """One."""
        return {"dell_smm": [Sensor("CPU fan", 2100)]}

    def sensors_battery(self) -> Any:
        """None, as on every gateway."""
        return None

    def disk_partitions(self, *, all: bool) -> list[Any]:  # noqa: A002  as psutil calls it
        """The root twice, a file that is mounted on a file, and nothing else."""
        return [
            SimpleNamespace(device="/dev/vda1", mountpoint="/"),
            SimpleNamespace(device="/dev/vda1", mountpoint="/usr"),
            SimpleNamespace(device="/dev/vda2", mountpoint="/etc/hostname"),
        ]

    def disk_usage(self, folder: str) -> Any:
        """Of the root."""
        if folder != "/":
            raise FileNotFoundError(2, "No such file or directory", folder)
        return SimpleNamespace(percent=40.0, free=60)

    def disk_io_counters(self, *, perdisk: bool, nowrap: bool) -> dict[str, Disk]:
        """What the test says."""
        assert perdisk
        assert not nowrap
        return self.disks

    def net_io_counters(self, *, pernic: bool, nowrap: bool) -> dict[str, Network]:
        """What the test says."""
        assert pernic
        assert not nowrap
        return self.networks

    def pids(self) -> list[int]:
        """Three processes."""
        return [1, 2, 3]


def machine(system: FakeSystem, clock: ManualClock, root: Path = Path("/nowhere")) -> Machine:
    """The machine, with its kernel's files below ``root``."""
    return Machine(lambda: Look(system, root), clock)
