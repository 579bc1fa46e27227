# SPDX-License-Identifier: Apache-2.0
"""What the bodies of answers say: records, and in them a value, its time and its quality."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from fedmill_agent.sources import json_path
from fedmill_agent.sources.csv.cells import Dialect
from fedmill_agent.sources.json_path import Broken, JsonPath, Nowhere
from fedmill_agent.sources.live import BAD, GOOD, STALE
from fedmill_agent.sources.timeline import TimeUnit, stamp
from fedmill_agent.sources.waveform import MOST_SAMPLES
from fedmill_shared.errors import DataError

MOST_RECORDS = 1 << 17
BESIDE = "@."
"""Before a path: it begins in what the value is a member of."""
_GOOD_TEXTS = frozenset({"good", "ok", "valid", "true", "normal"})
_STALE_TEXTS = frozenset({"stale", "uncertain", "old", "questionable"})


@dataclass(frozen=True, slots=True)
class Value:
    """One value: a number, a list of numbers (a block), or NaN with what stands there instead."""

    number: float
    text: str = ""
    block: tuple[float, ...] | None = None


class Format(Protocol):
    """How bodies of one format are read."""

    def records(self, body: bytes) -> Sequence[object]:
        """The records in ``body``, in its order.

        Raises:
            Broken: it is something else, or has too many.
            Nowhere: there is no list of records.
        """
        ...

    def find(self, record: object, path: str, beside: str = "") -> object:
        """What stands at ``path`` of ``record``; with ``@.`` beside what stands at ``beside``.

        Raises:
            Nowhere: nothing does.
        """
        ...

    def value(self, found: object) -> Value:
        """What ``found`` is as a value."""
        ...


class Json:
    """JSON documents."""

    def __init__(self, records: str, largest: int) -> None:
        """``records`` is the path of the list of records; without one a document is a record."""
        self._records = json_path.parse(records) if records else None
        self._largest = largest
        self._known: dict[str, JsonPath] = {}

    def records(self, body: bytes) -> Sequence[object]:
        """See `Format`."""
        document = json_path.decode(body, self._largest)
        if self._records is None:
            return [document]
        found = self._records.find(document)
        if not isinstance(found, list):
            raise Nowhere(f"{self._records.text or '$'} is no list of records")
        if len(found) > MOST_RECORDS:
            raise Broken(f"{len(found)} records, at most {MOST_RECORDS} are read")
        return found

    def find(self, record: object, path: str, beside: str = "") -> object:
        """See `Format`."""
        if not path.startswith(BESIDE):
            return self._path(path).find(record)
        value, other = self._path(beside), self._path(path.removeprefix(BESIDE))
        return JsonPath(path, (*value.steps[:-1], *other.steps)).find(record)

    def value(self, found: object) -> Value:
        """See `Format`."""
        if isinstance(found, list):
            block = _block(found)
            if block is not None:
                return Value(math.nan, block=block)
        return Value(*json_path.number(found))

    def _path(self, text: str) -> JsonPath:
        if text not in self._known:
            self._known[text] = json_path.parse(text)
        return self._known[text]


class Cells:
    """CSV with a header: every row is a record, a path is the name of a column."""

    def __init__(self, dialect: Dialect) -> None:
        """``dialect`` is how the cells are written; bodies are UTF-8."""
        self._dialect = dialect

    def records(self, body: bytes) -> Sequence[object]:
        """See `Format`."""
        text = _text(body)
        reader = csv.reader(text.splitlines(), delimiter=self._dialect.delimiter)
        try:
            rows = list(islice((row for row in reader if row), MOST_RECORDS + 2))
        except csv.Error as error:
            raise Broken(f"no CSV: {error}") from error
        if not rows:
            raise Broken("no CSV: it is empty")
        if len(rows) > MOST_RECORDS + 1:
            raise Broken(f"at most {MOST_RECORDS} records are read")
        header = [cell.strip() for cell in rows[0]]
        wrong = next((row for row in rows if len(row) != len(header)), None)
        if wrong is not None:
            raise Broken(f"no CSV: a row has {len(wrong)} cells, the header has {len(header)}")
        return [dict(zip(header, row, strict=True)) for row in rows[1:]]

    def find(self, record: object, path: str, beside: str = "") -> object:
        """See `Format`; every column stands beside every other."""
        del beside
        column = path.removeprefix(BESIDE)
        if not isinstance(record, dict) or column not in record:
            known = list(record)[:8] if isinstance(record, dict) else []
            raise Nowhere(f"there is no column {column!r}, only {', '.join(known)}")
        return record[column]

    def value(self, found: object) -> Value:
        """See `Format`."""
        return _cell(self._dialect, str(found))


class Text:
    """One number and nothing else, whatever its path."""

    def __init__(self, dialect: Dialect) -> None:
        """``dialect`` is how the number is written."""
        self._dialect = dialect

    def records(self, body: bytes) -> Sequence[object]:
        """See `Format`."""
        return [_text(body)]

    def find(self, record: object, path: str, beside: str = "") -> object:
        """See `Format`."""
        del path, beside
        return record

    def value(self, found: object) -> Value:
        """See `Format`."""
        return _cell(self._dialect, str(found))


def quality_of(found: object) -> int:
    """0, 192 or 500 (`live`) of what a server calls the quality of a value.

    Numbers are those of Sparkplug B and, below 256, of OPC (64 to 127 uncertain, 192 and more
    good); a truth is whether it is good; other texts than the usual ones are bad.
    """
    if isinstance(found, bool):
        return GOOD if found else BAD
    number, word = json_path.number(found)
    if word:
        small = word.strip().lower()
        stale, good = small in _STALE_TEXTS, small in _GOOD_TEXTS
    else:
        stale, good = number == STALE or 64 <= number < 128, 192 <= number < 256
    if stale:
        return STALE
    return GOOD if good else BAD


def time_of(found: object, unit: TimeUnit) -> int:
    """Time (ns UTC) in an answer.

    Raises:
        Nowhere: it is none; in words.
    """
    try:
        return stamp(found, unit)
    except ValueError as error:
        raise Nowhere(str(error)) from error


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Broken("no UTF-8 text") from error


def _block(found: list[object]) -> tuple[float, ...] | None:
    """The numbers of a list, as many as a block can have; None where one is none."""
    if len(found) > MOST_SAMPLES:
        return None
    numbers = []
    for each in found:
        number, text = json_path.number(each)
        if text:
            return None
        numbers.append(number)
    return tuple(numbers)


def _cell(dialect: Dialect, text: str) -> Value:
    try:
        return Value(dialect.number("", 0, "", text))
    except DataError:
        return Value(math.nan, text.strip()[:200])
