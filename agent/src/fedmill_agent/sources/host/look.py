# SPDX-License-Identifier: Apache-2.0
"""One look at a machine: each thing that it tells is read once, when somebody asks for it."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

PLAUSIBLE_CELSIUS = (-60.0, 200.0)
"""Sensors that are broken or not there read 255 or -128."""
_GUESTS = frozenset({"guest", "guest_nice"})  # are in user and nice already (proc(5))
_LAYERS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")
_LOOPBACK = ("lo", "Loopback")


class Count(NamedTuple):
    """A counter: how far it is, and of what; without ``whole`` it counts against time."""

    amount: float
    whole: float | None = None


class Look:
    """What a machine tells at one moment; every method raises what reading it raises.

    Those that take the name of a part (a processor, a disk, a sensor) mean the whole machine by an
    empty one; ``LookupError`` says that there is no such part.
    """

    def __init__(self, system: Any, root: Path = Path("/")) -> None:
        """``system`` is psutil, or what does as it does; ``root`` is where ``proc`` is."""
        self._system = system
        self._root = root

    def processor_names(self) -> list[str]:
        """The machine as a whole, and every core."""
        return list(self._processors)

    def busy(self, name: str) -> Count:
        """Seconds that a processor was busy, of those that it had."""
        return self.spent(name, *(set(self._processors[name]) - {"idle", "iowait"}))

    def spent(self, name: str, *kinds: str) -> Count:
        """Seconds that a processor spent in these ways, of those that it had."""
        times = self._processors[name]
        return Count(sum(times[kind] for kind in kinds), sum(times.values()))

    def frequency(self, _name: str) -> float:
        """Clock of the processors on average, Hz."""
        told = float(self._system.cpu_freq().current)
        return 1e6 * told if told > 0 else float("nan")

    def switches(self, kind: str) -> Count:
        """How often the kernel did something, ``ctx_switches`` or ``interrupts``."""
        return Count(float(getattr(self._system.cpu_stats(), kind)))

    def load(self, place: int) -> float:
        """Load average over 1, 5 or 15 minutes."""
        return float(self._system.getloadavg()[place])

    def pressure(self, name: str) -> float:
        """Share of the last 10 s in which something waited for ``name``, % (``some avg10``)."""
        line = (self._root / "proc/pressure" / name).read_text().splitlines()[0]
        return float(dict(word.split("=") for word in line.split()[1:])["avg10"])

    def memory(self, kind: str) -> float:
        """A field of the memory: ``percent``, ``used``, ``available``."""
        return float(getattr(self._memory, kind))

    def swapped(self, _name: str) -> float:
        """Share of the swap space that is in use, %; 0 where there is none."""
        return float(self._system.swap_memory().percent)

    def temperature_names(self) -> list[str]:
        """The hottest of all, and every sensor."""
        return ["", *self._temperatures] if self._temperatures else []

    def temperature(self, name: str) -> float:
        """Of one sensor, degC; of the hottest where none is named; NaN where it is absurd."""
        chosen = [self._temperatures[name]] if name else list(self._temperatures.values())
        low, high = PLAUSIBLE_CELSIUS
        return max((each for each in chosen if low < each < high), default=float("nan"))

    def fan_names(self) -> list[str]:
        """Every fan that tells how fast it is."""
        return list(self._fans)

    def fan(self, name: str) -> float:
        """Revolutions per minute of a fan."""
        return self._fans[name]

    def battery(self, _name: str) -> float:
        """How full the battery is, %."""
        told = self._system.sensors_battery()
        if told is None:
            raise LookupError("no battery")
        return float(told.percent)

    def folders(self) -> list[str]:
        """Where disks are mounted, each disk once."""
        places: dict[str, str] = {}
        for each in self._system.disk_partitions(all=False):
            if Path(each.mountpoint).is_dir():
                places.setdefault(each.device, each.mountpoint)
        return sorted({"/", *places.values()})

    def space(self, folder: str, kind: str) -> float:
        """A field of the disk under a folder: ``percent`` or ``free``."""
        return float(getattr(self._system.disk_usage(folder), kind))

    def disk_names(self) -> list[str]:
        """All disks together, and each disk and partition that was ever used."""
        return _used(self._disks, "read_count", "write_count")

    def disk(self, name: str, kind: str) -> Count:
        """A counter of a disk; of all together without what lies on others (LVM, RAID, loops)."""
        return self._sum(self._disks, name, kind, self._is_disk)

    def network_names(self) -> list[str]:
        """All together, and each network interface that was ever used."""
        return _used(self._networks, "bytes_recv", "bytes_sent")

    def network(self, name: str, kind: str) -> Count:
        """A counter of an interface; of all but the machine's talk with itself without a name."""
        return self._sum(self._networks, name, kind, lambda each: not each.startswith(_LOOPBACK))

    def running(self, _name: str) -> float:
        """Processes and kernel threads."""
        return float(len(self._system.pids()))

    @cached_property
    def _processors(self) -> Mapping[str, Mapping[str, float]]:
        whole, cores = self._system.cpu_times(), self._system.cpu_times(percpu=True)
        named = {"": whole, **{str(number): core for number, core in enumerate(cores)}}
        return {
            name: {k: float(v) for k, v in times._asdict().items() if k not in _GUESTS}
            for name, times in named.items()
        }

    @cached_property
    def _memory(self) -> Any:
        return self._system.virtual_memory()

    @cached_property
    def _temperatures(self) -> Mapping[str, float]:
        return dict(_sensors(self._system.sensors_temperatures()))

    @cached_property
    def _fans(self) -> Mapping[str, float]:
        return dict(_sensors(self._system.sensors_fans()))

    @cached_property
    def _disks(self) -> Mapping[str, Any]:
        return dict(self._system.disk_io_counters(perdisk=True, nowrap=False) or {})

    @cached_property
    def _networks(self) -> Mapping[str, Any]:
        return dict(self._system.net_io_counters(pernic=True, nowrap=False) or {})

    def _is_disk(self, name: str) -> bool:
        blocks = self._root / "sys/block"
        known = not blocks.is_dir() or (blocks / name.replace("/", "!")).exists()
        return known and not name.startswith(_LAYERS)

    @staticmethod
    def _sum(found: Mapping[str, Any], name: str, kind: str, counts: Any) -> Count:
        if name:
            return Count(float(getattr(found[name], kind)))
        chosen = [each for each in found if counts(each)] or list(found)
        return Count(float(sum(getattr(found[each], kind) for each in chosen)))


def _used(found: Mapping[str, Any], *kinds: str) -> list[str]:
    used = [name for name, each in found.items() if any(getattr(each, kind) for kind in kinds)]
    return ["", *used] if used else []


def _sensors(chips: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Sensors under names that are the same at every start: chip and label, and a number."""
    seen: dict[str, int] = {}
    for chip, sensors in chips.items():
        for sensor in sensors:
            name = re.sub(r"[^a-z0-9]+", "_", f"{chip} {sensor.label}".lower()).strip("_")
            seen[name] = seen.get(name, 0) + 1
            numbered = name if seen[name] == 1 else f"{name}_{seen[name]}"
            yield numbered, float("nan") if sensor.current is None else float(sensor.current)
