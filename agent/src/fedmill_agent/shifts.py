# SPDX-License-Identifier: Apache-2.0
"""Times of the week, as in ``"mon-fri 06:00-14:00"``.

One day, a range of days or ``daily``, one blank, and a range of times up to ``24:00``. Times that
end before they begin go over midnight and belong to the day on which they begin:
``fri 22:00-06:00`` ends on Saturday morning. Ranges of days may go over Sunday: ``sat-mon``.
"""

import re
from dataclasses import dataclass

from fedmill_shared.errors import ConfigError
from fedmill_shared.toml.words import show

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_DAY_NAME = f"(?:{'|'.join(DAYS)})"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d"
_SHIFT = re.compile(
    rf"(?:daily|({_DAY_NAME})(?:-({_DAY_NAME}))?) ({_TIME})-({_TIME}|24:00)", re.ASCII
)
_SOME_DAYS = re.compile(rf"daily|{_DAY_NAME}(?:-{_DAY_NAME})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shift:
    """A time of the week.

    Attributes:
        days: days on which it begins, 0 is Monday.
        begin: first minute of the day.
        end: first minute after it, counted from the day on which it begins.
    """

    days: frozenset[int]
    begin: int
    end: int

    def contains(self, weekday: int, minute: int) -> bool:
        """Whether ``minute`` (of the day) on ``weekday`` (0 is Monday) belongs to it."""
        today = weekday in self.days and self.begin <= minute < self.end
        overnight = (weekday - 1) % 7 in self.days and minute + _DAY < self.end
        return today or overnight


def parse(text: str) -> Shift:
    """The shift that ``text`` describes.

    Raises:
        ConfigError: it describes none.
    """
    match = _SHIFT.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{show(text)} is no shift: {_fault(text)}",
            remedy='write days and times as in "mon-fri 06:00-14:00"',
        )
    first, last, begin, end = match[1], match[2], _minute(match[3]), _minute(match[4])
    if begin == end:
        raise ConfigError(
            f"{show(text)} is empty", remedy='for whole days write "00:00-24:00" as the time'
        )
    return Shift(_days(first, last), begin, end if end > begin else end + _DAY)


def _fault(text: str) -> str:
    """The first thing that is wrong in a text that is no shift, from left to right."""
    if text != " ".join(text.split()) or text.count(" ") != 1:
        return "days, one blank and times are wanted, and no other blank"
    days, _, times = text.partition(" ")
    return _fault_of_days(days) or _fault_of_times(times)


def _fault_of_days(days: str) -> str:
    if not _SOME_DAYS.fullmatch(days):
        if _SOME_DAYS.fullmatch(days.lower()):
            return "days are small letters"
        if "," in days:
            return "one day or range of days is wanted, and a shift of its own for each other"
        return f"{show(days)} is none of {', '.join(DAYS)}, a range of them, or daily"
    return ""


def _fault_of_times(times: str) -> str:
    begin, dash, end = times.partition("-")
    for time in (begin, end):
        if re.fullmatch(r"\d:[0-5]\d", time, re.ASCII):
            return f"hours have two digits: 0{time}"
    if not dash or not re.fullmatch(_TIME, begin, re.ASCII):
        return "times begin from 00:00 to 23:59, and end behind a hyphen"
    return "times end from 00:00 to 24:00"


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    begin = DAYS.index(first)
    count = (DAYS.index(last) - begin) % 7 if last else 0
    return frozenset((begin + step) % 7 for step in range(count + 1))


def _minute(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return 60 * int(hours) + int(minutes)
