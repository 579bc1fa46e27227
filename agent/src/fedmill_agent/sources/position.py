# SPDX-License-Identifier: Apache-2.0
"""How far a source was read, kept in a small file, so that a restart neither loses nor repeats."""

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from fedmill_agent.sources.base import SourceOptions
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, StoreError
from fedmill_shared.files import make_folder, sha256, write_atomic

LARGEST = 1 << 23
SAVE_SECONDS = 1.0
"""At most this often, for the sake of flash memory; and when the source is closed."""

LOOK_BACK_SECONDS = 3600.0


class Placed(Protocol):
    """A place that knows what it is a place in; a msgspec Struct."""

    @property
    def of(self) -> str:
        """What was read: a path, a URL."""
        ...


_Place = TypeVar("_Place", bound=Placed)


class Position(Generic[_Place]):
    """Owns the file, if there is one, and the newest place that was reached.

    What is ``reached`` is what was handed over: it is written once it was also ``taken``, that is,
    when somebody comes for more.
    """

    def __init__(self, path: str, kind: type[_Place], clock: Clock) -> None:
        """Keep places of type ``kind`` in ``path``; nowhere if it is empty.

        Raises:
            ConfigError: the folder of ``path`` cannot be written.
        """
        self._path = Path(path) if path else None
        self._decoder = msgspec.json.Decoder(kind)
        self._clock = clock
        self._reached: _Place | None = None
        self._taken: _Place | None = None
        self._written: _Place | None = None
        self._wrote = clock.monotonic() - SAVE_SECONDS
        if self._path is not None:
            try:
                make_folder(self._path.parent)
            except StoreError as error:
                raise ConfigError(error.message, remedy="correct `position_file`") from error

    def load(self, of: str) -> _Place | None:
        """The place in ``of`` that was written last; None if there is none, or the file is damaged.

        A damaged file is set aside as ``*.damaged``.
        """
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                found = self._decoder.decode(file.read(LARGEST))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            with suppress(OSError):
                self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
            return None
        self._written = found
        return found if found.of == of else None

    def reach(self, place: _Place) -> None:
        """``place`` is handed over, with all before it."""
        self._reached = place

    def take(self) -> bool:
        """What was reached is in good hands; False if that cannot be written down."""
        self._taken = self._reached
        due = self._clock.monotonic() - self._wrote >= SAVE_SECONDS
        return self._write() if due else True

    def close(self) -> bool:
        """Write down what was reached; False if it cannot be.

        While an error is under way, what was handed over last may not have arrived: it comes again.
        """
        if sys.exc_info()[0] is None:
            self._taken = self._reached
        return self._write()

    def _write(self) -> bool:
        if self._path is None or self._taken is None or self._taken == self._written:
            return True
        self._wrote = self._clock.monotonic()
        try:
            write_atomic(self._path, msgspec.json.encode(self._taken))
        except StoreError:
            return False
        self._written = self._taken
        return True


def placed(options: SourceOptions, folder: Path) -> SourceOptions:
    """``options`` with a position file in ``folder``, if it is of a kind that keeps one."""
    if getattr(options, "position_file", None) != "":
        return options
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", options.name)[:64]
    name = plain if plain == options.name else f"{plain}-{sha256(options.name.encode())[:8]}"
    return msgspec.structs.replace(options, position_file=str(folder / f"{name}.json"))


def unplaced(options: SourceOptions) -> SourceOptions:
    """``options`` for a look that leaves no trace: the daemon's position stays where it is.

    It looks at what is there, and does not wait for something new.
    """
    if getattr(options, "position_file", None) is None:
        return options
    changes: dict[str, object] = {"position_file": ""}
    if hasattr(options, "start"):
        changes["start"] = "beginning"
    if hasattr(options, "history_seconds"):
        changes["history_seconds"] = max(LOOK_BACK_SECONDS, options.history_seconds)
    return msgspec.structs.replace(options, **changes)
