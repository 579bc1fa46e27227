# SPDX-License-Identifier: Apache-2.0
"""The machine that the agent runs on, asked again and again."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmill_agent.sources.host.families import FAMILIES, Family, split, tag_of
from fedmill_agent.sources.host.look import Count, Look
from fedmill_agent.sources.host.rates import Rates
from fedmill_agent.sources.live import Delivered, Found, reading
from fedmill_agent.sources.pace import Pace
from fedmill_shared.clock import Clock

LOOK_SECONDS = 0.2
"""Between the two looks of a listing, so that it has rates."""
MOST_PARTS = 256
"""Parts of one kind that are listed."""

# what psutil and the kernel's files are known to raise; RuntimeError is also "not on this system"
_UNTOLD = (OSError, ValueError, LookupError, AttributeError, TypeError, RuntimeError)


@dataclass(slots=True)
class Machine:
    """Owns the counters of a machine; ``look`` is how it is looked at now."""

    look: Callable[[], Look]
    clock: Clock
    rates: Rates = field(default_factory=Rates)
    problems: dict[str, str] = field(default_factory=dict)

    def values(self, tags: Sequence[str]) -> dict[str, float]:
        """What there is to say about ``tags`` now; NaN where a counter was reset.

        A rate needs two calls. ``problems`` afterwards has the tags that this machine cannot tell.
        """
        look, at = self.look(), self.clock.monotonic()
        found: dict[str, float] = {}
        expected = _expected()
        for tag in tags:
            name, part = split(tag)
            try:
                value = self._value(tag, FAMILIES[name], look, part, at)
            except expected as error:
                self.rates.forget(tag)
                self.problems[tag] = _why(tag, error)
                continue
            self.problems.pop(tag, None)
            if value is not None:
                found[tag] = value
        return found

    def _value(self, tag: str, family: Family, look: Look, part: str, at: float) -> float | None:
        told = family.read(look, part)
        if not isinstance(told, Count):
            return told
        if family.shape == "share":
            return self.rates.share(tag, told)
        speed = self.rates.speed(tag, told, at)
        return None if speed is None else speed * family.factor


class HostSession:
    """The machine as a session: it can always be opened, and is never lost."""

    def __init__(self, machine: Machine, tags: Sequence[str], seconds: float) -> None:
        """Ask ``machine`` for ``tags`` every so many ``seconds``."""
        self.counts: Counter[str] = Counter()
        self.problems: Mapping[str, str] = machine.problems
        self._machine = machine
        self._tags = list(dict.fromkeys(tags))
        self._pace = Pace(seconds, machine.clock, self.counts)

    def read(self, timeout: float) -> Sequence[Delivered]:
        """What the machine tells now, once it is time to ask."""
        if not self._pace.due(timeout):
            return []
        now = self._machine.clock.now_ns()
        values = self._machine.values(self._tags)
        return [reading(tag, value, time_ns=now, arrived_ns=now) for tag, value in values.items()]

    def close(self) -> None:
        """Nothing is held open."""


def found_on(machine: Machine) -> Iterator[Found]:
    """Every tag that ``machine`` has, with its value where it can be told."""
    look = machine.look()
    tags = [tag for name, family in FAMILIES.items() for tag in _tags(name, family, look)]
    machine.values(tags)
    time.sleep(LOOK_SECONDS)
    values = machine.values(tags)
    for tag in tags:
        family = FAMILIES[split(tag)[0]]
        if tag not in machine.problems:
            value = f"{values[tag]:.6g}" if tag in values else ""
            yield Found(tag, family.shape, value, family.unit, note=family.meaning)


def system() -> Any:
    """psutil, which only this kind of source needs in the daemon."""
    import psutil  # noqa: PLC0415  takes memory

    return psutil


def _expected() -> tuple[type[Exception], ...]:
    return (*_UNTOLD, system().Error)


def _tags(name: str, family: Family, look: Look) -> list[str]:
    expected = _expected()
    try:
        return [tag_of(name, part) for part in list(family.parts(look))[:MOST_PARTS]]
    except expected:
        return []


def _why(tag: str, error: Exception) -> str:
    name, part = split(tag)
    if name not in FAMILIES:
        return f"there is no such tag; the tags of a host begin with one of {', '.join(FAMILIES)}"
    told = str(error) if isinstance(error, OSError) else type(error).__name__
    of = f" of {part!r}" if part else ""
    return f"this machine does not tell the {name}{of} ({told}); discover lists what it tells"
