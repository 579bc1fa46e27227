# SPDX-License-Identifier: Apache-2.0
"""The disk under the state folder: how much is free, and when it will be full at this rate.

Two memories look at the same numbers: one over ten minutes, which sees a log that runs away, and
one over half a day, which sees what grows slowly. Each tells the future no further than twelve
times as long as it has looked back.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger

Level = Literal["ample", "low", "scarce"]
"""How much space is left: above the floor, below it, below half of it."""

LOOK_SECONDS = 1.0
MEMORIES = ((10.0, 60), (600.0, 72))
"""Seconds between two readings, and how many are kept."""
LEAST_READINGS = 6
FARTHEST = 12.0
"""How far ahead is told, in times as long as was looked back."""
WARN_HOURS = 24.0
FORGET_HOURS = 36.0
"""A warning is repeated only after the disk would have lasted longer than this."""
MARGIN = 0.05
"""By how much the floor must be kept again before it counts as kept."""
SHARE_OF_DISK = 0.1
"""The floor is no more than this share of a disk."""


class DiskStatus(Struct, frozen=True, kw_only=True):
    """The disk of the state folder, for people.

    Attributes:
        free_bytes: what the service user may still write.
        floor_bytes: below this stores give up what they hold; ``store.min_free_bytes``, or a tenth
            of a smaller disk.
        level: ``ample``, ``low`` below the floor, ``scarce`` below half of it.
        hours: until the floor is reached at the present rate; None if that is not to be foreseen.
    """

    free_bytes: int
    floor_bytes: int
    level: Level
    hours: float | None = None


def ample() -> Level:
    """There is always room."""
    return "ample"


def seconds_until(
    times: Sequence[float], free: Sequence[float], floor: float, farthest: float = FARTHEST
) -> float | None:
    """Seconds from the last reading until ``free`` falls to ``floor``; None if it does not.

    The rate is the median of the slopes between all pairs of readings (Theil-Sen; P. K. Sen 1968,
    doi:10.1080/01621459.1968.10480934), so that up to 29 % of them may be anything, as when a large
    file is there for a moment; of all readings or of their second half, whichever is slower, so
    that one large file that stays is no trend. None also where that is farther ahead than
    ``farthest`` times the span of ``times``.
    """
    if len(times) < LEAST_READINGS:
        return None
    moments, found = np.asarray(times, np.float64), np.asarray(free, np.float64)
    half = len(moments) // 2
    rate = max(_slope(moments, found), _slope(moments[half:], found[half:]))
    now = float(np.median(found - rate * (moments - moments[-1])))
    if now <= floor:
        return 0.0
    if rate >= 0:
        return None
    seconds = (floor - now) / rate
    return seconds if seconds <= farthest * (moments[-1] - moments[0]) else None


def _slope(moments: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Median of the slopes between all pairs that are some time apart; 0 if there are none."""
    first, second = np.triu_indices(len(moments), 1)
    apart = moments[second] - moments[first]
    rise = (found[second] - found[first])[apart > 0]
    return float(np.median(rise / apart[apart > 0])) if len(rise) else 0.0


def free_and_total(folder: Path) -> tuple[int, int]:
    """Bytes that the service user may still write on the disk of ``folder``, and all it has.

    Raises:
        OSError: the disk does not tell.
    """
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


class DiskWatch:
    """Watches one disk; says once what is wrong with it, and always what its level is.

    Stores ask for the ``level`` from any thread; everything else belongs to one.
    """

    def __init__(
        self,
        folder: Path,
        floor_bytes: int,
        clock: Clock,
        log: Logger,
        *,
        gauge: Callable[[Path], tuple[int, int]] = free_and_total,
    ) -> None:
        """Look for the first time; ``floor_bytes`` of 0 is no floor."""
        self._folder = folder
        self._wanted = floor_bytes
        self._clock = clock
        self._log = log
        self._gauge = gauge
        self._memories = [
            _Memory(every, deque[tuple[float, int]](maxlen=most)) for every, most in MEMORIES
        ]
        self._free = self._floor = 0
        self._known = False
        self._level: Level = "ample"
        self._hours: float | None = None
        self._warned = False
        self._due = 0.0
        self.tick()

    def level(self) -> Level:
        """How much space is left; ample where the disk does not tell."""
        return self._level

    def status(self) -> DiskStatus | None:
        """What people are told; None where the disk does not tell."""
        if not self._known:
            return None
        return DiskStatus(
            free_bytes=self._free,
            floor_bytes=self._floor,
            level=self._level,
            hours=None if self._hours is None else round(self._hours, 2),
        )

    def tick(self) -> None:
        """Look, at most once a second."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + LOOK_SECONDS
        try:
            self._free, total = self._gauge(self._folder)
        except OSError:
            self._known, self._level = False, "ample"
            return
        self._known = True
        self._floor = min(self._wanted, int(SHARE_OF_DISK * total))
        self._judge()
        due = [memory.remember(now, self._free) for memory in self._memories]
        if any(due):
            self._predict()

    def _judge(self) -> None:
        before, self._level = self._level, _level(self._free, self._floor, self._level)
        if before == "ample" != self._level:
            self._log.error(
                "disk.floor",
                path=str(self._folder),
                free_bytes=self._free,
                floor_bytes=self._floor,
                remedy="make room; raw samples are given up first, windows last",
            )
        elif before != "ample" == self._level:
            self._log.info("disk.ample", path=str(self._folder), free_bytes=self._free)

    def _predict(self) -> None:
        found = [
            seconds
            for memory in self._memories
            if (seconds := memory.seconds_until(self._floor)) is not None
        ]
        self._hours = min(found) / 3600 if found else None
        if self._hours is None or self._hours > FORGET_HOURS:
            self._warned = False
        elif self._hours <= WARN_HOURS and not self._warned:
            self._warned = True
            self._log.warning(
                "disk.filling",
                path=str(self._folder),
                hours=round(self._hours, 1),
                free_bytes=self._free,
                floor_bytes=self._floor,
                remedy="find what grows on it, or lower the limits below [store]",
            )


class _Memory:
    """The last readings, ``every`` so many seconds."""

    def __init__(self, every: float, readings: deque[tuple[float, int]]) -> None:
        self._every = every
        self._readings = readings

    def remember(self, now: float, free: int) -> bool:
        """Keep a reading if one is due."""
        if self._readings and now - self._readings[-1][0] < self._every:
            return False
        self._readings.append((now, free))
        return True

    def seconds_until(self, floor: int) -> float | None:
        times, free = zip(*self._readings, strict=True)
        return seconds_until(times, free, floor)


def _level(free: int, floor: int, before: Level) -> Level:
    """Where ``free`` stands; a bound that was passed is kept again only with a margin."""
    if free < floor / 2 or (before == "scarce" and free < floor / 2 * (1 + MARGIN)):
        return "scarce"
    if free < floor or (before != "ample" and free < floor * (1 + MARGIN)):
        return "low"
    return "ample"
