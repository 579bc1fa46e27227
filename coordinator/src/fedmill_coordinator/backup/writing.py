# SPDX-License-Identifier: Apache-2.0
"""Writes a backup: whole under its name, or not at all."""

import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
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
            small, absent = _read(config, path, keys=keys)
            made = _archive(config, temporary, clock, snapshot, small, keys=keys)
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
    return Written(made, snapshot.missing, absent)


def _read(
    config: CoordinatorConfig, path: Path, *, keys: bool
) -> tuple[list[tuple[Source, bytes]], list[Path]]:
    """Small files with what is in them, and those that are not there.

    Each is read once: what grows meanwhile, as the audit log, is as it was then. Signed metadata
    must not change between one file and the next.
    """
    with _alone(config):
        sources = [*contents.state_files(config, keys=keys)]
        sources += contents.outer_files(config, path, keys=keys)
        small = {each: each.file.read_bytes() for each in sources if each.file.is_file()}
    return [*small.items()], [each.file for each in sources if each not in small]


def _alone(config: CoordinatorConfig) -> AbstractContextManager[None]:
    """Nobody signs meanwhile."""
    if config.trust is None or not Path(config.trust.folder).is_dir():
        return nullcontext()
    from fedmill_coordinator.trust.repository import Repository  # noqa: PLC0415  few have it

    return Repository(Path(config.trust.folder)).alone()


def _archive(
    config: CoordinatorConfig,
    temporary: Path,
    clock: Clock,
    snapshot: Snapshot,
    small: Sequence[tuple[Source, bytes]],
    *,
    keys: bool,
) -> Manifest:
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
        # Weights hardly shrink; level 1 takes what there is to gain in rows and texts. Long names
        # are written as a restore reads them.
        with tarfile.open(
            fileobj=file, mode="w:gz", compresslevel=1, format=tarfile.GNU_FORMAT
        ) as archive:
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
