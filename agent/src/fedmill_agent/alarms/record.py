# SPDX-License-Identifier: Apache-2.0
"""What is told of an alarm, to people and to other systems."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field, json, structs

from fedmill_agent.alarms.machine import Telling
from fedmill_agent.explaining.explanation import Cause

LARGEST = 4096
"""Bytes of a record in JSON: what a row of the table of alarms has room for."""
LONGEST_NAME = 120
"""Characters of a machine, run or class, which come from outside."""
MOST_CLASSES = 8
Name = Annotated[str, Meta(max_length=LONGEST_NAME)]


class AlarmRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of one alarm. What is not known, or does not apply, is left out.

    Attributes:
        number: larger than that of every record before it, of one job; about the time in ns.
        alarm: its name.
        severity: as the job says.
        state: what is told.
        unit: the machine or part; where there is none, the run.
        run: of the window.
        since_ns: source time at which the windows began that raised it, ns UTC.
        start_ns: source time of the window's first sample, ns UTC.
        end_ns: source time of its last one.
        told_ns: when this was told, by the agent's clock.
        version: digest of the weights that predicted.
        version_number: how many versions came before it.
        predicted: class of the window.
        value: number of the window.
        value_unit: unit of the number and its interval.
        confidence: probability of the class, or of the interval to hold the number.
        low: lower end of the interval.
        high: its upper end.
        plausible: classes that cannot be ruled out.
        cause: what of the window it is, in words.
        causes: the same as numbers, the largest first.
        remedy: what is to be done, as the job says.
        suppressed: how often it was raised or to be repeated before, and nothing was told.
    """

    number: int
    alarm: Name
    severity: Literal["info", "warning", "critical"]
    state: Telling
    unit: Name
    run: Name
    since_ns: int
    start_ns: int
    end_ns: int
    told_ns: int
    version: str
    version_number: int = 0
    predicted: Name = field(name="class", default="")
    value: float | None = None
    value_unit: str = ""
    confidence: float | None = None
    low: float | None = None
    high: float | None = None
    plausible: tuple[str, ...] = ()
    cause: str = ""
    causes: tuple[Cause, ...] = ()
    remedy: Annotated[str, Meta(max_length=500)] = ""
    suppressed: int = 0


def short(text: str) -> str:
    """A name from outside, at its usual length."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def encode(record: AlarmRecord) -> str:
    """``record`` as JSON of at most ``LARGEST`` bytes; what it can do without goes first."""
    for without in ({}, {"plausible": ()}, {"causes": ()}, {"remedy": ""}, {"cause": ""}):
        record = structs.replace(record, **without)
        data = json.encode(record)
        if len(data) <= LARGEST:
            break
    return data.decode()
