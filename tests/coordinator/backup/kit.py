# SPDX-License-Identifier: Apache-2.0
"""A coordinator on the disk, its backup, and what is in a folder."""

import io
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

from fedmill_coordinator.backup.writing import Written, write
from fedmill_coordinator.config import load
from fedmill_coordinator.store.records import JobRecord
from fedmill_shared.clock import ManualClock

MARK = "20261122T220000Z"
KEY = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
CONFIG = """
[coordinator]
jobs = ["jobs/press.toml"]
[pki]
[trust]
folder = "trust"
keys = "online"
"""


def a_job(name: str, template: str | None = None) -> JobRecord:
    """A job that runs."""
    return JobRecord(
        name=name,
        text="{}",
        sha256="0" * 64,
        state="running",
        created_ns=1,
        updated_ns=1,
        template=template,
    )


def written(config: Path, out: Path, *, keys: bool = False) -> Written:
    """Write a backup."""
    return write(load(config), config, out, ManualClock(), keys=keys)


def content(folder: Path) -> dict[str, bytes]:
    """Every file that matters, the rows as text."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        passing = ("lock", "trust/lock", "trust/leap", "spool", "replaced", "fedmill.sqlite-")
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and not name.removeprefix("state/").startswith(passing):
            found[name] = _rows(path) if path.suffix == ".sqlite" else path.read_bytes()
    return found


def _rows(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump()).encode()


def elsewhere(tmp_path: Path) -> Path:
    """Where another machine has its configuration."""
    (tmp_path / "new").mkdir(exist_ok=True)
    return tmp_path / "new" / "coordinator.toml"


def packed(folder: Path, files: list[tuple[str, bytes]]) -> Path:
    """An archive of these files."""
    path = folder / "packed.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path
