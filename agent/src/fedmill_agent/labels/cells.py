# SPDX-License-Identifier: Apache-2.0
"""Labels in CSV: a header with the names of the fields, then one label a line."""

import csv
import math

from fedmill_agent.labels.decode import FIELDS, PLAIN, Shape, record_of
from fedmill_agent.labels.record import LabelRecord
from fedmill_agent.sources.csv.cells import Dialect
from fedmill_agent.sources.files import shorten
from fedmill_shared.errors import DataError

_TIMES = ("start", "end", "made")
_NUMBERS = ("value", "start_value")
_YES, _NO = ("true", "yes", "1", "x"), ("false", "no", "0")


class LabelTable:
    """Reads one file line by line; no label has a line break in it."""

    def __init__(self, origin: str, dialect: Dialect, shape: Shape = PLAIN) -> None:
        """``origin`` names the file in errors."""
        self._origin = origin
        self._dialect = dialect
        self._shape = shape
        self._header: list[str] = []
        self._ours = {theirs: name for name, theirs in shape.fields.items()}

    def take(self, number: int, line: str) -> LabelRecord | None:
        """The label in line ``number`` (from 1); None where the line is empty or the header.

        Raises:
            DataError: naming file, line, column and value.
        """
        origin = f"{self._origin}: line {number}"
        try:
            cells = next(csv.reader([line.rstrip("\r\n")], delimiter=self._dialect.delimiter), [])
        except csv.Error as error:
            remedy = "check the quotes of that line"
            raise DataError(f"{origin}: {error}", remedy=remedy) from error
        if not any(cell.strip() for cell in cells):
            return None
        if not self._header:
            if not (number == 1 and cells[0].lower().startswith("sep=")):  # as Excel writes it
                self._header = self._checked(cells, origin)
            return None
        if len(cells) != len(self._header):
            raise DataError(
                f"{origin} has {len(cells)} cells, the header has {len(self._header)}",
                remedy="check the delimiter and the quotes of that line",
            )
        row = {
            name: self._value(number, name, cell)
            for name, cell in zip(self._header, cells, strict=True)
        }
        return record_of(row, origin, self._shape)

    def _checked(self, cells: list[str], origin: str) -> list[str]:
        header = [cell.strip() for cell in cells]
        lacking = [name for name in self._shape.fields.values() if name not in header]
        known = [name for name in header if self._ours.get(name, name) in FIELDS]
        if lacking or not known:
            wanted = ", ".join(lacking or FIELDS)
            raise DataError(
                f"{origin}: the columns are {shorten(header, 20)}; expected {wanted}",
                remedy="write these names above the columns, or tell `delimiter` or `fields`",
            )
        return header

    def _value(self, number: int, column: str, cell: str) -> object:
        """The value of a cell in plain types; None where there is none."""
        text, name = cell.strip(), self._ours.get(column, column)
        if not text:
            return None
        if name in _NUMBERS:
            value = self._dialect.number(self._origin, number, column, cell)
            return None if math.isnan(value) else value
        if name in _TIMES:
            return text.replace(self._dialect.decimal, ".")
        if name == "revision" and text.isascii() and text.isdigit() and len(text) < 19:
            return int(text)
        if name == "deleted":
            return True if text.lower() in _YES else False if text.lower() in _NO else text
        return text
