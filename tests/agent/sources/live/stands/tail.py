# SPDX-License-Identifier: Apache-2.0
"""A logger under a test's control, that appends rows to a CSV file."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from fedmill_agent.sources.tail import TailOptions


class Stand:
    """A logger that writes a row of all columns whenever one of them changes."""

    tags: ClassVar = ["temperature", "speed"]

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "logger"
        self._file = self._folder / "line.csv"
        self._row = dict.fromkeys(self.tags, "")

    def options(self, **changes: Any) -> TailOptions:
        """Of a source that follows this file."""
        usual: dict[str, Any] = {
            "name": "line",
            "path": str(self._file),
            "start": "beginning",
            "interval_seconds": 0.05,
            "silence_seconds": 1.0,
        }
        return TailOptions(**(usual | changes))

    def start(self) -> None:
        """Make the folder, and a file with its header."""
        self._folder.mkdir()
        self._file.write_text(",".join(self.tags) + "\n")

    def stop(self) -> None:
        """The folder is gone, as a network drive may be."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def say(self, tag: str, value: float) -> None:
        """A new row."""
        self._say(tag, repr(value))

    def say_bad(self, tag: str) -> None:
        """A row in which this value is missing."""
        self._say(tag, "NaN")

    def say_stale(self, tag: str) -> None:
        """There is no such thing in CSV."""
        raise NotImplementedError(tag)

    def say_text(self, tag: str, text: str) -> None:
        """A text where a number was."""
        self._say(tag, text)

    def garbage(self) -> None:
        """A torn line, and what a power cut leaves."""
        self._append(b'1,2,3,"\n\0\0\0\0\n\xff\xfe,\n')

    def _say(self, tag: str, cell: str) -> None:
        self._row[tag] = cell
        self._append((",".join(self._row.values()) + "\n").encode())

    def _append(self, data: bytes) -> None:
        with self._file.open("ab") as file:
            file.write(data)
