# SPDX-License-Identifier: Apache-2.0
"""What ``fedmill-agent status`` says of the disk and of the raw samples on it."""

from pathlib import Path

from msgspec import Struct

from fedmill_agent.cli.meaning import utc
from fedmill_agent.places import sampled_sources
from fedmill_agent.store.samples_reader import SampleReader
from fedmill_agent.store.space import DiskStatus
from fedmill_shared.errors import FedmillError

_SCALES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_DAY_HOURS = 48.0


class Samples(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is recorded of one live source.

    Attributes:
        stored: samples of each tag.
        first: source time of the first of them.
        last: source time of the last.
        bytes: what they take.
        discarded: samples that were given up, ever.
        error: why they cannot be read.
    """

    stored: dict[str, int] = {}
    first: str = ""
    last: str = ""
    bytes: int = 0
    discarded: int = 0
    error: str = ""


def read_samples(state: str) -> dict[str, Samples]:
    """What is recorded, by source; a fault of one is told, and hides no other."""
    return {name: _of(path) for name, path in sampled_sources(state).items()}


def samples_in_words(samples: Samples) -> str:
    """One line or two of what is recorded."""
    if samples.error:
        return f"unknown: {samples.error}"
    number, tags = sum(samples.stored.values()), len(samples.stored)
    held = f"{number} of {tags} tags in {amount(samples.bytes)}" if number else "none"
    span = f", {samples.first} to {samples.last}" if number else ""
    return f"{held}{span}; {samples.discarded} discarded"


def disk_in_words(disk: DiskStatus) -> str:
    """Free space, the floor, and how long it lasts."""
    floor = f", floor {amount(disk.floor_bytes)}" if disk.floor_bytes else ""
    if disk.level != "ample":
        floor += f": {disk.level}, stores give up what they hold"
    elif disk.hours is not None:
        at_most = disk.hours < _DAY_HOURS
        lasts = f"{disk.hours:.1f} h" if at_most else f"{disk.hours / 24:.0f} days"
        floor += f"; filling, reached in {lasts}"
    return f"{amount(disk.free_bytes)} free{floor}"


def amount(size: int) -> str:
    """Bytes in three digits."""
    for scale, unit in _SCALES:
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def _of(path: Path) -> Samples:
    try:
        with SampleReader(path) as reader:
            recorded, span = reader.recorded(), reader.span()
    except FedmillError as error:
        return Samples(error=str(error))
    return Samples(
        stored=recorded.counts,
        first=utc(span[0]) if span else "",
        last=utc(span[1]) if span else "",
        bytes=recorded.bytes,
        discarded=recorded.discarded,
    )
