# SPDX-License-Identifier: Apache-2.0
"""What a label says, in the words of whoever sends it, and as the stores keep it.

Labels come late, twice, in any order, corrected or withdrawn. So each has an identity, and of
several records with one identity the one with the largest rank holds. A rank follows from what a
record says and from nothing else: when and how often records came makes no difference.
"""

import re
import struct
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from fedmill_agent.sources.timeline import parse_time
from fedmill_shared.errors import DataError
from fedmill_shared.files import sha256

LONGEST_NS = 100 * 366 * 86_400 * 10**9
"""An interval is shorter than a hundred years."""
LARGEST = 3.4028234663852886e38
"""Largest float of 32 bits; one larger number would spoil all that is learned."""
_SECONDS = re.compile(r"([+-]?)(\d{1,9}|[1-8]\d{9})(?:\.(\d{1,18}))?", re.ASCII)
_RANK = struct.Struct(">QBQ")
_MIDDLE = 1 << 63

Name = Annotated[str, Meta(max_length=200)]
Moment = Annotated[str, Meta(max_length=64)] | float | int


class Label(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ground truth as it is sent: a class or a number for a machine, a part or a batch.

    Attributes:
        id: identity, for corrections; empty: unit, part or batch, start and end are the identity.
        unit: the machine.
        part: what was in the machine; empty: any part in the interval.
        batch: the same, where the machine is told batches.
        job: name of the job it is for; empty: every job.
        start: ISO 8601 or unix seconds; may be absent where a part or batch is named, which then
            has the label as a whole.
        end: the same; absent: the label is about one moment.
        class_: ``class`` outside; the truth of a classification, or an event.
        value: the truth of a regression, at the end of the interval.
        start_value: the value at its start, between which it runs linearly; absent: the same.
        revision: of records with one identity the largest holds.
        deleted: withdraws the label, and all records of it up to this revision.
        made: when the truth was determined.
    """

    id: Name = ""
    unit: Name = ""
    part: Name = ""
    batch: Name = ""
    job: Name = ""
    start: Moment | None = None
    end: Moment | None = None
    class_: Name = msgspec.field(default="", name="class")
    value: float | None = None
    start_value: float | None = None
    revision: Annotated[int, Meta(ge=0, le=2**53)] = 0
    deleted: bool = False
    made: Moment | None = None


class LabelRecord(Struct, frozen=True, array_like=True):
    """A label with all names and times worked out; ns UTC, None where there is no interval.

    Attributes:
        job: the job it is for; empty: every one.
        id: identity among the labels of that job.
        unit: the machine; empty where the part alone is named.
        piece: the part or batch; empty: any.
        start_ns: begin of the interval.
        end_ns: its end.
        text: class or event; empty where it is a number.
        start_value: number at the start.
        end_value: number at the end.
        revision: larger ones replace smaller ones.
        deleted: whether the label is withdrawn.
        made_ns: when the truth was determined; None where nobody tells.
    """

    job: str
    id: str
    unit: str
    piece: str
    start_ns: int | None
    end_ns: int | None
    text: str
    start_value: float
    end_value: float
    revision: int
    deleted: bool
    made_ns: int | None

    @property
    def rank(self) -> bytes:
        """Larger ranks, byte by byte, replace smaller ones: revision, withdrawal, time, content."""
        made = 0 if self.made_ns is None else self.made_ns + _MIDDLE
        head = _RANK.pack(self.revision, self.deleted, made)
        return head + bytes.fromhex(sha256(msgspec.json.encode(self))[:32])

    @property
    def truth(self) -> str:
        """What it says, for people."""
        if self.deleted or self.text:
            return "withdrawn" if self.deleted else self.text
        if self.start_value == self.end_value:
            return f"{self.end_value:g}"
        return f"{self.start_value:g} to {self.end_value:g}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with what is known of its way here.

    Attributes:
        record: the label.
        arrived_ns: when the first record of this identity came.
        changes: how often a record of this identity replaced another.
    """

    record: LabelRecord
    arrived_ns: int
    changes: int = 0


def settled(label: Label, origin: str) -> LabelRecord:
    """``label`` with names and times worked out; ``origin`` says in errors where it is from.

    Raises:
        DataError: it does not say what it is about, or what the truth is.
    """
    unit, piece = label.unit.strip(), label.part.strip() or label.batch.strip()
    start_ns, end_ns = _interval(label, origin)
    identity = label.id.strip()
    if label.part.strip() and label.batch.strip():
        raise _fault(origin, "names a part and a batch", "name one of the two")
    if not (unit or piece) and not (label.deleted and identity):
        raise _fault(origin, "names no unit, part or batch", "add the machine as `unit`")
    if start_ns is None and not piece and not (label.deleted and identity):
        raise _fault(origin, "has no `start`, and names no part or batch", "add `start` and `end`")
    text, start_value, end_value = _truth(label, origin, lasts=start_ns != end_ns)
    about = msgspec.json.encode([unit, piece, start_ns, end_ns])
    return LabelRecord(
        job=label.job.strip(),
        id=identity or f"about:{sha256(about)[:32]}",
        unit=unit,
        piece=piece,
        start_ns=start_ns,
        end_ns=end_ns,
        text=text,
        start_value=start_value,
        end_value=end_value,
        revision=label.revision,
        deleted=label.deleted,
        made_ns=None if label.made is None else _time(label.made, "made", origin),
    )


def _interval(label: Label, origin: str) -> tuple[int, int] | tuple[None, None]:
    times = {"start": label.start, "end": label.end}
    known = [_time(moment, name, origin) for name, moment in times.items() if moment is not None]
    if not known:
        return None, None
    start_ns, end_ns = known[0], known[-1]
    if end_ns < start_ns:
        problem = f"`end` {label.end!r} lies before `start` {label.start!r}"
        raise _fault(origin, problem, "exchange the two")
    if end_ns - start_ns > LONGEST_NS:
        problem = f"from {label.start!r} to {label.end!r} are more than 100 years"
        raise _fault(origin, problem, "correct `start` or `end`")
    return start_ns, end_ns


def _time(moment: Moment, name: str, origin: str) -> int:
    text = str(moment).strip()
    plain = _SECONDS.fullmatch(text)
    if plain is not None:  # a float of seconds is exact to some hundred ns, and edges matter
        whole = int(plain[2]) * 10**9 + int((plain[3] or "").ljust(9, "0")[:9])
        return -whole if plain[1] == "-" else whole
    try:
        return parse_time(text)
    except (ValueError, OverflowError) as error:
        raise _fault(
            origin,
            f"`{name}` is {str(moment)[:64]!r}, which is no time",
            "write ISO 8601 (2024-01-31T12:00:00Z) or unix seconds",
        ) from error


def _truth(label: Label, origin: str, *, lasts: bool) -> tuple[str, float, float]:
    text, value, first = label.class_.strip(), label.value, label.start_value
    if label.deleted:
        return "", 0.0, 0.0
    if text and value is not None:
        raise _fault(origin, f"has class {text!r} and value {value:g}", "give one of the two")
    if first is not None and (value is None or not lasts):
        problem = f"has start_value {first:g}, and no value at a later `end`"
        raise _fault(origin, problem, "add `value`, `start` and `end`")
    if text:
        return text, 0.0, 0.0
    if value is None:
        raise _fault(origin, "has neither class nor value", "add one, or `deleted`")
    for number in (value, value if first is None else first):
        if not abs(number) <= LARGEST:
            told = "write a finite number that 32 bits hold: models learn from such"
            raise _fault(origin, f"has the value {number}", told)
    return "", value if first is None else first, value


def _fault(origin: str, problem: str, remedy: str) -> DataError:
    return DataError(f"{origin}: the label {problem}", remedy=remedy)
