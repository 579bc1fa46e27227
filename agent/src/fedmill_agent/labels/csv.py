# SPDX-License-Identifier: Apache-2.0
"""Labels from a CSV file, also one that others go on writing.

Only whole lines are read, and a last one without an end once nobody has written for a minute.
Where the file was replaced or became shorter it is read from its beginning; labels that are known
already change nothing.
"""

import os
import time
from pathlib import Path
from typing import BinaryIO

from fedmill_agent.labels.cells import LabelTable
from fedmill_agent.labels.decode import Decoded, Shape
from fedmill_agent.labels.options import CsvLabels, LabelOptions
from fedmill_agent.sources.csv.cells import dialect_of
from fedmill_agent.sources.files import LONGEST_LINE
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, DataError

MOST_LINES = 1_000
"""Lines that one ``read`` takes in."""
QUIET_SECONDS = 60
_START = 256


class CsvInput:
    """Owns the open file and how far it was read."""

    def __init__(self, options: CsvLabels, shape: Shape, clock: Clock) -> None:
        """Prepare; the file may be missing."""
        self._options = options
        self._shape = shape
        self._clock = clock
        self._dialect = dialect_of(options, options.encoding)
        self._file: BinaryIO | None = None
        self._begin = b""
        self._look_due = 0.0
        self._whole = False

    def read(self, timeout: float) -> Decoded:
        """See ``LabelInput``.

        Raises:
            DataError: the file cannot be read.
        """
        now = self._clock.monotonic()
        found = Decoded()
        if self._whole and (not self._options.follow or now < self._look_due):
            time.sleep(timeout if not self._options.follow else min(timeout, self._look_due - now))
            return found
        try:
            if self._whole or self._file is None:
                self._reopen()
            if self._file is not None:
                self._take(self._file, found)
        except OSError as error:
            raise DataError(
                f"{self._options.path}: cannot be read: {error.strerror}",
                remedy="check the path and that the service user may read it",
            ) from error
        if self._whole:
            self._look_due = now + self._options.interval_seconds
        return found

    def close(self) -> None:
        """See ``LabelInput``."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _reopen(self) -> None:
        """Open the file, or open it anew where it is not the one that was read."""
        path = Path(self._options.path)
        try:
            status = path.stat()
        except FileNotFoundError:
            self.close()
            self._whole = True  # for now
            return
        if self._file is not None:
            same = os.path.samestat(status, os.fstat(self._file.fileno()))
            if same and status.st_size >= self._file.tell() and self._begins_the_same():
                return
            self.close()
        self._file = path.open("rb")
        self._begin = self._file.read(_START)
        self._file.seek(0)
        self._number, self._whole = 0, False
        self._table = LabelTable(self._options.path, self._dialect, self._shape)

    def _begins_the_same(self) -> bool:
        """Whether the beginning is what it was: some programs write a new file over the old."""
        if self._file is None:
            return False
        begin = os.pread(self._file.fileno(), len(self._begin), 0)
        return begin == self._begin

    def _take(self, file: BinaryIO, found: Decoded) -> None:
        self._whole = False
        for _ in range(MOST_LINES):
            place = file.tell()
            line = file.readline(LONGEST_LINE + 1)
            ends = line.endswith(b"\n") or len(line) > LONGEST_LINE
            if not line or not (ends or self._left_alone(file)):
                file.seek(place)
                self._whole = True
                return
            self._number += 1
            try:
                record = self._table.take(self._number, self._text(line))
            except DataError as error:
                found.refuse(error)
            else:
                found.records += [record] if record is not None else []

    def _left_alone(self, file: BinaryIO) -> bool:
        """Whether nobody goes on with a line that has no end."""
        age = self._clock.now_ns() - os.fstat(file.fileno()).st_mtime_ns
        return not self._options.follow or age > QUIET_SECONDS * 10**9

    def _skip_rest(self, line: bytes) -> None:
        while self._file is not None and line and not line.endswith(b"\n"):
            line = self._file.readline(LONGEST_LINE)

    def _text(self, line: bytes) -> str:
        if len(line) > LONGEST_LINE:
            self._skip_rest(line)
            told = f"is longer than {LONGEST_LINE} bytes"
        else:
            try:
                utf = self._dialect.encoding == "utf-8"
                return line.decode("utf-8-sig" if utf else self._dialect.encoding)
            except UnicodeDecodeError:
                told = f"is not {self._dialect.encoding.upper()} text"
        raise DataError(
            f"{self._options.path}: line {self._number} {told}",
            remedy="check the file, and `encoding`",
        )


def open_labels(options: LabelOptions, shape: Shape, clock: Clock) -> CsvInput:
    """Labels of a file.

    Raises:
        ConfigError: these are no options of a CSV file.
    """
    if not isinstance(options, CsvLabels):
        raise ConfigError(f"labels {options.name!r} are no CSV file")
    return CsvInput(options, shape, clock)
