# SPDX-License-Identifier: Apache-2.0
"""How a CSV file writes its cells, and what a cell means."""

import re
from dataclasses import dataclass

from fedmill_agent.fields.cells import LONGEST, Decimal, Encoding, Written
from fedmill_agent.sources.files import cell_number
from fedmill_agent.sources.timeline import parse_time
from fedmill_shared.errors import DataError

NOTHING = frozenset({"", "nan", "na", "n/a", "null", "none"})
"""Cells, in small letters, that hold no value in any file."""
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a file are written.

    Attributes:
        delimiter: what separates them.
        decimal: what separates whole and fraction.
        missing: cells, in small letters, that hold no value beside ``NOTHING``.
        encoding: of the text.
    """

    delimiter: str = ","
    decimal: Decimal = "."
    missing: frozenset[str] = frozenset()
    encoding: Encoding = "utf-8"

    def number(self, path: str, line: int, column: str, cell: str) -> float:
        """The number in a cell; NaN where it holds no value.

        Raises:
            DataError: it is something else.
        """
        text = cell.strip()
        small = text.lower()
        if small in NOTHING or small in self.missing:
            return _NAN
        if self.decimal == "," and "." in text:  # 1.234 may be a thousand, or one and a bit
            raise DataError(
                f"{path}: line {line}, column {column}: {text[:40]!r} has a point, and a comma is "
                "the decimal sign",
                remedy="write the file without points between thousands",
            )
        pointed = text.replace(",", ".", 1) if self.decimal == "," else text
        try:
            return cell_number(path, line, column, pointed)
        except DataError as error:
            raise DataError(error.message, remedy=self._remedy(text)) from error

    def time(self, path: str, line: int, column: str, cell: str) -> int:
        """The time in a cell, ns UTC.

        Raises:
            DataError: it is none.
        """
        try:
            return parse_time(cell.strip().replace(self.decimal, "."))
        except ValueError as error:
            raise DataError(
                f"{path}: line {line}, column {column}: {cell[:40]!r} is not a time",
                remedy="write ISO 8601 (2024-01-31T12:00:00Z) or unix seconds",
            ) from error

    def _remedy(self, text: str) -> str:
        if self.decimal == "." and _COMMA.fullmatch(text):
            return 'write decimal = "," below the source if a comma separates the fraction'
        if not text[:1].isdigit() and len(text) <= LONGEST and text.isprintable():
            told = text.replace("\\", "\\\\").replace('"', '\\"')
            return f'write missing = ["{told}"] below the source if there is no value then'
        return "correct the cell or leave it empty"


def dialect_of(options: Written, encoding: Encoding = "utf-8") -> Dialect:
    """How the cells are written of which ``options`` tell."""
    missing = frozenset(each.strip().lower() for each in options.missing)
    return Dialect(options.delimiter, options.decimal, missing, encoding)
