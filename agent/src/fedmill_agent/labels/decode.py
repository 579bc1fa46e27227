# SPDX-License-Identifier: Apache-2.0
"""Labels in JSON and CSV, as people and other systems write them.

What cannot be used is told and left out; the other labels of the same text count all the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from fedmill_agent.labels.record import Label, LabelRecord, settled
from fedmill_shared.errors import DataError
from fedmill_shared.toml.faults import Fault, explain, extreme, section_of

LARGEST = 16 << 20
"""Bytes of the largest text that is read at once."""
MOST_LABELS = 100_000
MOST_FAULTS = 100
"""Faults of one text that are kept to be told."""
MOST_WRONG = 10_000
"""Lines that are no labels, after which no more are read."""
FIELDS = Label.__struct_encode_fields__


@dataclass(frozen=True, slots=True)
class Shape:
    """How another system writes labels.

    Attributes:
        fields: field of a label -> its name there. With any, names that are not told are ignored.
        unit: the machine of labels that name neither a machine nor a part or batch.
        job: the job of labels that name none.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    job: str = ""


PLAIN = Shape()


@dataclass(slots=True)
class Decoded:
    """What a text has: labels, and what is wrong with the others.

    Attributes:
        records: the labels.
        faults: what is wrong, of the first that are.
        wrong: how many are.
    """

    records: list[LabelRecord] = field(default_factory=list)
    faults: list[DataError] = field(default_factory=list)
    wrong: int = 0

    def add(self, row: object, origin: str, shape: Shape) -> None:
        """Take in one label in plain types."""
        try:
            self.records.append(record_of(row, origin, shape))
        except DataError as error:
            self.refuse(error)

    def refuse(self, fault: DataError) -> None:
        """Something cannot be used; a thousand such are told as one, and take no memory."""
        self.wrong += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)

    def join(self, other: "Decoded") -> None:
        """Have what another text has as well."""
        self.records += other.records
        self.wrong += other.wrong
        self.faults += other.faults[: MOST_FAULTS - len(self.faults)]


def from_json(data: bytes, origin: str, shape: Shape = PLAIN) -> Decoded:
    """Labels in JSON: one object, a list of them, or an object on each line.

    ``origin`` names the text in errors. It never raises.
    """
    found = Decoded()
    if len(data) > LARGEST:
        told = f"{origin}: {len(data)} bytes, at most {LARGEST} are read"
        found.refuse(DataError(told, remedy="send labels in smaller portions"))
        return found
    try:
        rows = _rows(_json(data))
    except DataError as problem:
        if len(list(islice(_lines(data), 2))) < 2:
            found.refuse(DataError(f"{origin}: {problem.message}", remedy=problem.remedy))
            return found
        _take_lines(found, data, origin, shape)
        return found
    for name, row in rows:
        found.add(row, f"{origin}{name}", shape)
    return found


def _take_lines(found: Decoded, data: bytes, origin: str, shape: Shape) -> None:
    """An object on each line."""
    for count, (number, line) in enumerate(_lines(data)):
        if count == MOST_LABELS or found.wrong >= MOST_WRONG:
            told = f"{origin}: from line {number} on nothing is read"
            found.refuse(DataError(told, remedy="send smaller portions of what are labels"))
            return
        try:
            found.add(_json(line), f"{origin}: line {number}", shape)
        except DataError as error:
            told = f"{origin}: line {number}: {error.message}"
            found.refuse(DataError(told, remedy=error.remedy))


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and text of the lines that are not empty, one by one."""
    begin = number = 0
    while begin < len(data):
        end = data.find(b"\n", begin)
        end = len(data) if end < 0 else end
        number += 1
        line = data[begin:end]
        if line.strip():
            yield number, line
        begin = end + 1


def record_of(row: object, origin: str, shape: Shape = PLAIN) -> LabelRecord:
    """The label that ``row`` is, in plain types.

    Raises:
        DataError: naming ``origin``, field, value and what is expected.
    """
    if not isinstance(row, dict):
        raise DataError(
            f"{origin}: a label is an object, as in {{...}}",
            remedy='write {"unit": "press-1", "start": ..., "end": ..., "class": "good"}',
        )
    known = {name: row[theirs] for name, theirs in _names(row, shape) if row[theirs] is not None}
    if shape.unit and not {"unit", "part", "batch"} & {*known}:
        known["unit"] = shape.unit
    if shape.job:
        known.setdefault("job", shape.job)
    label = _fit(known)
    if isinstance(label, Fault):
        told = label.message.replace(section_of(()), "the label", 1)
        raise DataError(f"{origin}: {told}", remedy=label.remedy)
    return settled(label, origin)


def label_of(record: LabelRecord) -> Label:
    """A label that says what ``record`` does, for another reader."""

    def told(time_ns: int | None) -> str | None:
        if time_ns is None:
            return None
        whole, part = divmod(abs(time_ns), 10**9)
        return f"{'-' if time_ns < 0 else ''}{whole}.{part:09d}"

    number = not (record.text or record.deleted)
    runs = number and record.start_value != record.end_value
    return Label(
        id=record.id,
        unit=record.unit,
        part=record.piece,
        job=record.job,
        start=told(record.start_ns),
        end=told(record.end_ns),
        class_=record.text,
        value=record.end_value if number else None,
        start_value=record.start_value if runs else None,
        revision=record.revision,
        deleted=record.deleted,
        made=told(record.made_ns),
    )


def _names(row: Mapping[object, object], shape: Shape) -> Iterator[tuple[str, object]]:
    """Field of a label and its name in ``row``."""
    theirs = {other: name for name, other in shape.fields.items()}
    for key in row:
        name = theirs.get(str(key), str(key))
        if name not in FIELDS and shape.fields:
            continue
        if key not in theirs and name in shape.fields:  # the name means something else there
            continue
        yield name, key


def _fit(known: dict[str, object]) -> Label | Fault:
    if fault := extreme(known):
        return fault

    def problem_of() -> msgspec.ValidationError | None:
        try:
            msgspec.convert(known, Label)
        except msgspec.ValidationError as error:
            return error
        return None

    problem = problem_of()
    if problem is None:
        return msgspec.convert(known, Label)
    info = msgspec.inspect.type_info(Label)
    return explain(problem, known, info, lambda: str(problem_of()) == str(problem))


def _json(data: bytes) -> object:
    try:
        found: object = msgspec.json.decode(data.strip().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"is not JSON: {error}", remedy="write one object, a list, or an object on each line"
        ) from error
    return found


def _rows(found: object) -> Iterator[tuple[str, object]]:
    """What to call each label, and the label."""
    if not isinstance(found, list):
        return iter([("", found)])
    if len(found) > MOST_LABELS:
        raise DataError(
            f"{len(found)} labels, at most {MOST_LABELS} are read at once",
            remedy="send them in smaller portions",
        )
    return ((f": label {number}", row) for number, row in enumerate(found, 1))
