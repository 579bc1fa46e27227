# SPDX-License-Identifier: Apache-2.0
"""Every tag of a machine: what it means, its unit, and how it is read. New ones are added here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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


FAMILIES: dict[str, Family] = {
    "cpu_percent": Family(
        "%", "processors in use; .0, .1, ... one core", Look.busy, Look.processor_names, "share"
    ),
    "cpu_user_percent": Family(
        "%", "of it in programs", lambda at, name: at.spent(name, "user"), shape="share"
    ),
    "cpu_system_percent": Family(
        "%", "of it in the kernel", lambda at, name: at.spent(name, "system"), shape="share"
    ),
    "cpu_waiting_percent": Family(
        "%", "waiting for a disk", lambda at, name: at.spent(name, "iowait"), shape="share"
    ),
    "cpu_stolen_percent": Family(
        "%", "given to other machines by the host of a virtual one",
        lambda at, name: at.spent(name, "steal"), shape="share",
    ),
    "cpu_frequency_hertz": Family("Hz", "clock of the processors", Look.frequency),
    "context_switches_per_second": Family(
        "Hz", "switches between programs", lambda at, _: at.switches("ctx_switches"), shape="speed"
    ),
    "interrupts_per_second": Family(
        "Hz", "interrupts", lambda at, _: at.switches("interrupts"), shape="speed"
    ),
    "load_1_minute": Family("1", "programs that run or wait", lambda at, _: at.load(0)),
    "load_5_minutes": Family("1", "the same over 5 minutes", lambda at, _: at.load(1)),
    "load_15_minutes": Family("1", "the same over 15 minutes", lambda at, _: at.load(2)),
    "pressure_percent": Family(
        "%", "time in which something waited for it, last 10 s", Look.pressure,
        lambda _: ("cpu", "memory", "io"),
    ),
    "processes": Family("1", "processes", Look.running),
    "memory_used_percent": Family("%", "memory in use", lambda at, _: at.memory("percent")),
    "memory_available_bytes": Family(
        "B", "memory that programs can have", lambda at, _: at.memory("available")
    ),
    "swap_used_percent": Family("%", "swap space in use", Look.swapped),
    "temperature_celsius": Family(
        "degC", "the hottest sensor, or one of them", Look.temperature, Look.temperature_names
    ),
    "fan_rpm": Family("rpm", "speed of a fan", Look.fan, Look.fan_names),
    "battery_percent": Family("%", "charge of the battery", Look.battery),
    "disk_used_percent": Family(
        "%", "space in use on the disk of a folder",
        lambda at, folder: at.space(folder, "percent"), Look.folders,
    ),
    "disk_free_bytes": Family(
        "B", "free space on the disk of a folder",
        lambda at, folder: at.space(folder, "free"), Look.folders,
    ),
    "disk_read_bytes_per_second": Family(
        "B/s", "read from disks", lambda at, name: at.disk(name, "read_bytes"),
        Look.disk_names, "speed",
    ),
    "disk_write_bytes_per_second": Family(
        "B/s", "written to disks", lambda at, name: at.disk(name, "write_bytes"),
        Look.disk_names, "speed",
    ),
    "disk_reads_per_second": Family(
        "Hz", "read operations", lambda at, name: at.disk(name, "read_count"),
        Look.disk_names, "speed",
    ),
    "disk_writes_per_second": Family(
        "Hz", "write operations", lambda at, name: at.disk(name, "write_count"),
        Look.disk_names, "speed",
    ),
    "disk_busy_percent": Family(
        "%", "time in which a disk had work", lambda at, name: at.disk(name, "busy_time"),
        _parts(Look.disk_names), "speed", 0.1,  # milliseconds a second
    ),
    "network_receive_bytes_per_second": Family(
        "B/s", "received", lambda at, name: at.network(name, "bytes_recv"),
        Look.network_names, "speed",
    ),
    "network_send_bytes_per_second": Family(
        "B/s", "sent", lambda at, name: at.network(name, "bytes_sent"),
        Look.network_names, "speed",
    ),
    "network_errors_per_second": Family(
        "Hz", "packets received broken", lambda at, name: at.network(name, "errin"),
        Look.network_names, "speed",
    ),
    "network_drops_per_second": Family(
        "Hz", "packets dropped for lack of room", lambda at, name: at.network(name, "dropin"),
        Look.network_names, "speed",
    ),
}  # fmt: skip


def split(tag: str) -> tuple[str, str]:
    """Family and part of a tag: ``temperature_celsius.coretemp_core_0`` is of that sensor."""
    family, _, part = tag.partition(".")
    return family, part


def tag_of(family: str, part: str) -> str:
    """The tag of a part of the machine; of the whole where there is no part."""
    return f"{family}.{part}" if part else family
