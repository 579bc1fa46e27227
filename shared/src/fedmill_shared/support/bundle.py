# SPDX-License-Identifier: Apache-2.0
"""Collects the parts of a support bundle, each by itself, and writes them with a manifest."""

import io
import os
import tarfile
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import msgspec

from fedmill_shared import __version__
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.files import sha256, sync_folder
from fedmill_shared.support.redaction import scrubbed, structure

LARGEST_PART = 4 << 20
"""Bytes of one part; of a longer one the end is kept, where the newest is."""
Collect = Callable[[], object]


class Parts:
    """What was collected so far; a part that fails is missing, and said to be."""

    def __init__(self, secrets: Collection[str]) -> None:
        """``secrets`` go out of every text, whatever part it is in."""
        escaped = {msgspec.json.encode(each).decode()[1:-1] for each in secrets}  # as logs may be
        self._secrets = {*secrets, *escaped}
        self.files: dict[str, bytes] = {}
        self.missing: dict[str, str] = {}

    def add(self, name: str, collect: Collect) -> None:
        """Add the part ``name``: a text as it is, anything else as JSON."""
        try:
            found = collect()
            clean = structure(msgspec.to_builtins(found), self._secrets)
            text = clean if isinstance(clean, str) else _json(clean)
        except (FedmillError, OSError, ValueError, TypeError) as error:
            self.missing[name] = scrubbed(str(error), self._secrets)
            return
        data = text.encode("utf-8", "replace")
        self.files[name] = data[-LARGEST_PART:]

    def write(self, out: Path, clock: Clock) -> None:
        """Write all parts to ``out``, whole or not at all, for its owner only.

        Raises:
            StoreError: it cannot be written.
        """
        manifest = {
            "made_ns": clock.now_ns(),
            "software": __version__,
            "files": {name: {"bytes": len(data), "sha256": sha256(data)}
                      for name, data in self.files.items()},
            "missing": self.missing,
        }  # fmt: skip
        temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                with tarfile.open(fileobj=file, mode="w:gz") as archive:
                    _add(archive, "manifest.json", _json(manifest).encode())
                    for name, data in self.files.items():
                        _add(archive, name, data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(out)
            sync_folder(out.parent)
        except OSError as error:
            raise StoreError(
                f"{out}: cannot be written: {error.strerror or error}",
                remedy="name a file in a folder that you may write",
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink()


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(f"support/{name}")
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))
