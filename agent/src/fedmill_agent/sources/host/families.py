# SPDX-License-Identifier: Apache-2.0
"""Every tag of a machine: what it means, its unit, and how it is read. New ones are added here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from fedmill_agent.sources.host.look import Count, Look

Shape = Literal["level", "share", "speed"]


def _whole(_look: Look) -> Iterable[str]:
    return ("",)


def _parts(names: Callable[[Look], Iterable[str]]) -> Callable[[Look], Iterable[str]]:
    """The parts that ``names`` lists, without the machine as a whole."""
    return lambda look: [name for name in names(look) if name]


@dataclass(frozen=True, slots=True)
class Family:
    """Tags of one kind: the name itself for the whole machine, ``name.part`` for its parts.

    Attributes:
        unit: of the values.
        meaning: one clause for people.
        read: value of one part, or the counter that a value is made of.
        parts: names of the parts that this machine has; empty for the whole.
        shape: a ``level`` is read as it is; a ``share`` (%) is how much of a counter's whole went
            by between two polls; a ``speed`` how much of it each second.
        factor: what such a difference is multiplied by.
    """

    unit: str
    meaning: str
    read: Callable[[Look, str], float | Count]
    parts: Callable[[Look], Iterable[str]] = _whole
    shape: Shape = "level"
    factor: float = 1.0


def _time_in(kind: str, meaning: str) -> Family:
    return Family("%", meaning, lambda at, name: at.spent(name, kind), shape="share")


def _kernel(kind: str, meaning: str) -> Family:
    return Family("Hz", meaning, lambda at, _: at.switches(kind), shape="speed")


def _load(place: int, meaning: str) -> Family:
    return Family("1", meaning, lambda at, _: at.load(place))


def _memory(kind: str, unit: str, meaning: str) -> Family:
    return Family(unit, meaning, lambda at, _: at.memory(kind))


def _space(kind: str, unit: str, meaning: str) -> Family:
    return Family(unit, meaning, lambda at, folder: at.space(folder, kind), Look.folders)


def _disk(kind: str, unit: str, meaning: str) -> Family:
    return Family(unit, meaning, lambda at, name: at.disk(name, kind), Look.disk_names, "speed")


def _network(kind: str, unit: str, meaning: str) -> Family:
    return Family(
        unit, meaning, lambda at, name: at.network(name, kind), Look.network_names, "speed"
    )


FAMILIES: dict[str, Family] = {
    "cpu_percent": Family(
        "%", "processors in use; .0, .1, ... one core", Look.busy, Look.processor_names, "share"
    ),
    "cpu_user_percent": _time_in("user", "of it in programs"),
    "cpu_system_percent": _time_in("system", "of it in the kernel"),
    "cpu_waiting_percent": _time_in("iowait", "waiting for a disk"),
    "cpu_stolen_percent": _time_in("steal", "given to other machines by the host of a virtual one"),
    "cpu_frequency_hertz": Family("Hz", "clock of the processors", Look.frequency),
    "context_switches_per_second": _kernel("ctx_switches", "switches between programs"),
    "interrupts_per_second": _kernel("interrupts", "interrupts"),
    "load_1_minute": _load(0, "programs that run or wait"),
    "load_5_minutes": _load(1, "the same over 5 minutes"),
    "load_15_minutes": _load(2, "the same over 15 minutes"),
    "pressure_percent": Family(
        "%",
        "time in which something waited for it, last 10 s",
        Look.pressure,
        lambda _: ("cpu", "memory", "io"),
    ),
    "processes": Family("1", "processes", Look.running),
    "memory_used_percent": _memory("percent", "%", "memory in use"),
    "memory_available_bytes": _memory("available", "B", "memory that programs can have"),
    "swap_used_percent": Family("%", "swap space in use", Look.swapped),
    "temperature_celsius": Family(
        "degC", "the hottest sensor, or one of them", Look.temperature, Look.temperature_names
    ),
    "fan_rpm": Family("rpm", "speed of a fan", Look.fan, Look.fan_names),
    "battery_percent": Family("%", "charge of the battery", Look.battery),
    "disk_used_percent": _space("percent", "%", "space in use on the disk of a folder"),
    "disk_free_bytes": _space("free", "B", "free space on the disk of a folder"),
    "disk_read_bytes_per_second": _disk("read_bytes", "B/s", "read from disks"),
    "disk_write_bytes_per_second": _disk("write_bytes", "B/s", "written to disks"),
    "disk_reads_per_second": _disk("read_count", "Hz", "read operations"),
    "disk_writes_per_second": _disk("write_count", "Hz", "write operations"),
    "disk_busy_percent": replace(
        _disk("busy_time", "%", "time in which a disk had work"),
        parts=_parts(Look.disk_names),
        factor=0.1,  # milliseconds a second
    ),
    "network_receive_bytes_per_second": _network("bytes_recv", "B/s", "received"),
    "network_send_bytes_per_second": _network("bytes_sent", "B/s", "sent"),
    "network_errors_per_second": _network("errin", "Hz", "packets received broken"),
    "network_drops_per_second": _network("dropin", "Hz", "packets dropped for lack of room"),
}


def split(tag: str) -> tuple[str, str]:
    """Family and part of a tag: ``temperature_celsius.coretemp_core_0`` is of that sensor."""
    family, _, part = tag.partition(".")
    return family, part


def tag_of(family: str, part: str) -> str:
    """The tag of a part of the machine; of the whole where there is no part."""
    return f"{family}.{part}" if part else family
