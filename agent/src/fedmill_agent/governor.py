# SPDX-License-Identifier: Apache-2.0
"""When training may run: the machine's own work, and people, go first."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from fedmill_agent.config import TrainingSection
from fedmill_agent.shifts import parse
from fedmill_shared.clock import Clock

INTERVAL = 0.5
"""Seconds for which a reading, and what follows from it, is good: two of them are a second."""
LASTING = frozenset({"min_free_bytes"})
"""Settings that a training in hand is not paused for: a paused process keeps its memory."""

_MARGIN = 0.05
_MARGIN_CELSIUS = 3.0
_LEAST_CELSIUS = 0.1
_PLAUSIBLE_CELSIUS = (-60.0, 200.0)


@dataclass(frozen=True, slots=True)
class Machine:
    """How a machine does, None where it does not tell, and what its wall clock shows.

    Attributes:
        cpu_percent: share of all processors' time that was in use, 0 to 100; work of low priority
            (nice above 0), as training is, does not count.
        available_bytes: memory that new work can have.
        temperature_celsius: the hottest of its sensors.
        weekday: local day, 0 is Monday.
        minute: local minute of the day.
        pressure_percent: share of the last 10 s in which a process waited for memory or disk.
    """

    cpu_percent: float | None
    available_bytes: int | None
    temperature_celsius: float | None
    weekday: int
    minute: int
    pressure_percent: float | None = None


class Readable(Protocol):
    """What reads a machine; `Gauge` reads this one."""

    def read(self, clock: Clock) -> Machine:
        """The machine now."""
        ...


def why_not(settings: TrainingSection, machine: Machine) -> str:
    """What speaks against training now, in an engineer's words; nothing if it may run.

    What the machine does not tell never speaks against it.

    Raises:
        ConfigError: a shift of ``settings`` is none.
    """
    return next(iter(_objections(settings, machine).values()), "")


class Governor:
    """Decides for one machine; a limit that was passed holds until it is clearly kept again.

    Clearly: by 5 % of the limit, or by 3 °C. Not for use by several threads.
    """

    def __init__(self, settings: TrainingSection, gauge: Readable, clock: Clock) -> None:
        """Nothing is read before the first ``reason``."""
        self._settings = settings
        self._gauge = gauge
        self._clock = clock
        self._found: Mapping[str, str] = {}
        self._looked: float | None = None

    def adopt(self, settings: TrainingSection) -> None:
        """Decide by other settings from now on."""
        self._settings, self._found, self._looked = settings, {}, None

    def reason(self) -> str:
        """As `why_not`, at most half a second old."""
        return next(iter(self._look().values()), "")

    def pressing(self) -> str:
        """Why a training that has begun is to pause: something needs what it would free."""
        # Without a lower priority the training itself is in the load that is measured.
        spared = LASTING if self._settings.nice else LASTING | {"max_cpu_percent"}
        return next((why for name, why in self._look().items() if name not in spared), "")

    def _look(self) -> Mapping[str, str]:
        now = self._clock.monotonic()
        if self._looked is None or now - self._looked >= INTERVAL:
            self._looked = now
            settings = _tightened(self._settings, self._found)
            self._found = _objections(settings, self._gauge.read(self._clock))
        return self._found


class Gauge:
    """Reads this machine from the kernel's files; owns the counters of the last reading."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Start to count processor time; ``root`` is where ``proc`` and ``sys`` are."""
        self._root = root
        self._counters = _processor_time(root)
        self._machine: Machine | None = None
        self._looked = 0.0

    def read(self, clock: Clock) -> Machine:
        """The machine now, at most half a second old; processors on average since the last one."""
        now = clock.monotonic()
        if self._machine is None or now - self._looked >= INTERVAL:
            self._looked = now
            before, self._counters = self._counters, _processor_time(self._root)
            local = time.localtime(clock.now_ns() / 1e9)
            self._machine = Machine(
                cpu_percent=_share(before, self._counters),
                available_bytes=_available_bytes(self._root),
                temperature_celsius=_temperature(self._root),
                weekday=local.tm_wday,
                minute=60 * local.tm_hour + local.tm_min,
                pressure_percent=_pressure(self._root),
            )
        return self._machine


def _objections(settings: TrainingSection, machine: Machine) -> dict[str, str]:
    """A sentence for each setting that forbids training, by the setting's name."""
    found = {}
    shifts = settings.shifts
    if shifts and not any(parse(s).contains(machine.weekday, machine.minute) for s in shifts):
        found["shifts"] = f"outside the shifts {', '.join(shifts)}"
    load, most = machine.cpu_percent, settings.max_cpu_percent
    if load is not None and load > most:
        found["max_cpu_percent"] = f"processor at {load:.4g} %, at most {most:.4g} % wanted"
    free, least = machine.available_bytes, settings.min_free_bytes
    if free is not None and free < least:
        megabytes = f"{free // 10**6} MB of memory free, at least {-(-least // 10**6)} MB wanted"
        found["min_free_bytes"] = megabytes
    heat, hottest = machine.temperature_celsius, settings.max_temperature_celsius
    if heat is not None and 0 < hottest < heat:
        found["max_temperature_celsius"] = f"{heat:.4g} °C hot, at most {hottest:.4g} °C wanted"
    waiting, most = machine.pressure_percent, settings.max_pressure_percent
    if waiting is not None and waiting > most:
        told = f"{waiting:.4g} % of the time something waits for memory or disk"
        found["max_pressure_percent"] = f"{told}, at most {most:.4g} % wanted"
    return found


def _tightened(settings: TrainingSection, passed: Collection[str]) -> TrainingSection:
    """``settings`` with a margin at the limits that were ``passed``, so that nothing flaps."""
    cooler = settings.max_temperature_celsius - _MARGIN_CELSIUS
    stricter = {
        "max_cpu_percent": settings.max_cpu_percent * (1 - _MARGIN),
        "min_free_bytes": round(settings.min_free_bytes * (1 + _MARGIN)),
        "max_pressure_percent": settings.max_pressure_percent * (1 - _MARGIN),
        "max_temperature_celsius": max(cooler, _LEAST_CELSIUS),  # 0 would be no limit
    }
    return replace(settings, **{name: stricter[name] for name in stricter if name in passed})


def _share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    share = (after[0] - before[0]) / (after[1] - before[1])
    return round(100 * min(max(share, 0.0), 1.0), 1)


def _processor_time(root: Path) -> tuple[int, int] | None:
    """Ticks in use at normal priority, and all ticks, since the machine's start (proc(5))."""
    try:
        with (root / "proc/stat").open() as file:
            name, *fields = file.readline().split()
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[:8])
    except (OSError, ValueError):
        return None
    used = user + system + irq + softirq + steal
    return (used, used + nice + idle + iowait) if name == "cpu" else None


def _available_bytes(root: Path) -> int | None:
    try:
        with (root / "proc/meminfo").open() as file:
            line = next((line for line in file if line.startswith("MemAvailable:")), "")
        return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None


def _pressure(root: Path) -> float | None:
    """The larger of the kernel's pressures of memory and disk, ``some avg10`` (proc(5))."""
    found = []
    for name in ("memory", "io"):
        try:
            with (root / "proc/pressure" / name).open() as file:
                kind, average = file.readline().split()[:2]
            if kind == "some":
                found.append(float(average.removeprefix("avg10=")))
        except (OSError, ValueError):  # a kernel without it, or with it switched off
            continue
    return max(found, default=None)


def _temperature(root: Path) -> float | None:
    """The hottest thermal zone; one that cannot be read, or reads nonsense, does not count."""
    found = []
    for file in (root / "sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(file.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    low, high = _PLAUSIBLE_CELSIUS
    return max((degrees for degrees in found if low < degrees < high), default=None)
