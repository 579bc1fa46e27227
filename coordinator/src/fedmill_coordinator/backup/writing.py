# SPDX-License-Identifier: Apache-2.0
"""Writes a backup: whole under its name, or not at all."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fedmill_coordinator.backup import contents, manifest
from fedmill_coordinator.backup.contents import Source
from fedmill_coordinator.backup.manifest import Manifest, Member
from fedmill_coordinator.backup.snapshot import Snapshot, taken
from fedmill_coordinator.config import CoordinatorConfig
from fedmill_shared import __version__
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sync_folder

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What came of it.

    Attributes:
        manifest: what the backup holds.
        missing: blobs that rows name and that are lost.
        absent: files that the configuration names and that are not there.
    """

    manifest: Manifest
    missing: list[str]
    absent: list[Path]


def write(config: CoordinatorConfig, path: Path, out: Path, clock: Clock, *, keys: bool) -> Written:
    """Write a backup of the coordinator with the configuration ``path`` to ``out``, for us only.

    It may run. With ``keys`` the private keys of authority and signed metadata are in it.

    Raises:
        StoreError: the state cannot be read, or ``out`` not be written; it is as it was.
    """
    state = Path(config.coordinator.state)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        for left in out.parent.glob(f".{out.name}.*.tmp"):  # by one that was killed
            left.unlink(missing_ok=True)
        with taken(state) as snapshot:
            sources = [*contents.state_files(state, contents.ca_key(config))]
            sources += contents.outer_files(config, path, keys=keys)
            there = [each for each in sources if each.file.is_file()]
            made = _archive(config, temporary, clock, snapshot, there, keys=keys)
            temporary.replace(out)
            sync_folder(out.parent)
    except OSError as error:
        raise StoreError(
            f"{error.filename or out}: {error.strerror or error}",
            remedy="check free space, and that this user may read the state and write the backup",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    absent = [each.file for each in sources if each not in there]
    return Written(made, snapshot.missing, absent)


def _archive(
    config: CoordinatorConfig,
    temporary: Path,
    clock: Clock,
    snapshot: Snapshot,
    sources: Iterable[Source],
    *,
    keys: bool,
) -> Manifest:
    # Small files are read once: what grows meanwhile, as the audit log, is as it was then.
    small = [(each, each.file.read_bytes()) for each in sources]
    members = [_member(snapshot.database)]
    members += [
        Member("state", f"{contents.BLOBS}/{name[:2]}/{name}", path.stat().st_size, name)
        for name, path in snapshot.blobs.items()
    ]
    members += [
        Member(each.place, each.path, len(data), hashlib.sha256(data).hexdigest())
        for each, data in small
    ]
    made = Manifest(
        format=manifest.FORMAT,
        made_ns=clock.now_ns(),
        software=__version__,
        coordinator=config.coordinator.id,
        keys=keys,
        members=members,
    )
    _fill(temporary, made, snapshot, [data for _, data in small])
    return made


def _fill(temporary: Path, made: Manifest, snapshot: Snapshot, small: list[bytes]) -> None:
    """Write the archive that ``made`` lists: database, blobs, and the contents of small files."""
    members, first_small = made.members, 1 + len(snapshot.blobs)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        # Weights hardly shrink; level 1 takes what there is to gain in rows and texts.
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
            _add(archive, manifest.NAME, msgspec.json.encode(made))
            _add_file(archive, members[0], snapshot.database)
            blobs = zip(members[1:first_small], snapshot.blobs.values(), strict=True)
            for member, path in blobs:
                _add_file(archive, member, path)
            for member, data in zip(members[first_small:], small, strict=True):
                _add(archive, member.name, data)
        file.flush()
        os.fsync(file.fileno())


def _member(database: Path) -> Member:
    digest = hashlib.sha256()
    with database.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return Member("state", contents.DATABASE, database.stat().st_size, digest.hexdigest())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, member: Member, path: Path) -> None:
    entry = tarfile.TarInfo(member.name)
    entry.size, entry.mode = member.size, 0o600
    with path.open("rb") as file:
        archive.addfile(entry, file)
