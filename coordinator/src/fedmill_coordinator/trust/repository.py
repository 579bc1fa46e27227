# SPDX-License-Identifier: Apache-2.0
"""The folder of metadata and targets: every version of a role is a file, and none is written over.

What is written last is what makes the rest count: ``timestamp.json`` names the snapshot, and that
the versions of all others. A power cut before it leaves the state of before, and ``refresh`` goes
on from there.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import SerializationError

from fedmill_coordinator.trust.keys import ONLINE
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.trust import METADATA_LIMIT, TrustRole, in_folder

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

LIFE = {
    TrustRole.ROOT: timedelta(days=365),
    TrustRole.TARGETS: timedelta(days=90),
    TrustRole.SOFTWARE: timedelta(days=365),
    TrustRole.MODELS: timedelta(days=90),
    TrustRole.SNAPSHOT: timedelta(days=7),
    TrustRole.TIMESTAMP: timedelta(days=2),
}
"""How long what a role signs is good for."""
TIMESTAMP_EVERY = timedelta(hours=1)
SIGNED_BY_TARGETS = (TrustRole.MODELS, TrustRole.SOFTWARE)
POLL_SECONDS = 0.02
KEPT_FILES = 16
"""Versions of a role that stay in the folder; every root does."""
LEAP_FILE = "leap"
TICK_NS = 10 * 10**9
"""Once the folder has been restored versions go on at the ticks since 1970: agents know some that
were lost here, also after a restore before, and take none below them, nor any from 10**9 on."""
LEAP = 1_000_000
"""By how much versions go up then where the clock is behind them."""


def when(clock: Clock) -> datetime:
    """The time as metadata counts it."""
    return datetime.fromtimestamp(clock.now_ns() // 10**9, UTC)


def _next(version: int, clock: Clock, *, leaps: bool) -> int:
    ticks = clock.now_ns() // TICK_NS
    if not leaps or ticks == version:
        return version + 1
    return ticks if ticks > version else version + 1 + LEAP


def _wait_for(handle: int, path: Path, end: float) -> None:
    """Take the lock; whoever holds it may have been stopped, and is not waited for for ever."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end:
                told = f"{path}: another command holds the folder"
                raise StoreError(told, remedy="let it end, and give this one again") from error
            time.sleep(POLL_SECONDS)
        except OSError as error:
            raise StoreError(f"{path}: cannot be locked: {error.strerror}") from error
        else:
            return


class Repository:
    """Owns the folder. Whoever changes it holds it ``alone``."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self.metadata = folder / "metadata"
        self.targets_folder = folder / "targets"
        self._leapt = False

    @contextmanager
    def alone(self, *, seconds: float = 30.0) -> Iterator[None]:
        """Hold the folder against other commands and the daemon.

        Raises:
            StoreError: it cannot be made or written, or another holds it for longer than
                ``seconds``.
        """
        path = make_folder(self.folder) / "lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        try:
            _wait_for(handle, path, time.monotonic() + seconds)
            yield
        finally:
            os.close(handle)

    def exists(self) -> bool:
        """Whether there is a root."""
        return (self.metadata / "1.root.json").exists()

    def version(self, role: TrustRole) -> int:
        """The newest version in the folder; 0 if there is none."""
        if role is TrustRole.TIMESTAMP:
            return self.timestamp().signed.version
        found = (path.name.split(".")[0] for path in self.metadata.glob(f"*.{role}.json"))
        return max((int(each) for each in found if each.isdecimal()), default=0)

    def path(self, role: TrustRole, version: int) -> Path:
        """File of a role's version."""
        name = f"{role}.json" if role is TrustRole.TIMESTAMP else f"{version}.{role}.json"
        return self.metadata / name

    def raw(self, role: TrustRole, version: int = 0) -> bytes:
        """Bytes of the newest file of ``role``, or of its ``version``.

        Raises:
            TrustError: there is none.
        """
        wanted = 1 if role is TrustRole.TIMESTAMP else version or self.version(role)
        path = self.path(role, wanted)
        try:
            return path.read_bytes()
        except OSError as error:
            raise TrustError(
                f"{path}: cannot be read: {error.strerror or error}",
                remedy="make the repository with `fedmill trust init`, or restore it",
            ) from error

    def root(self, version: int = 0) -> Metadata[Root]:
        """The newest root, or one ``version``. Raises TrustError as ``raw`` does."""
        return self._load(Root, TrustRole.ROOT, version)

    def targets(self, role: TrustRole = TrustRole.TARGETS) -> Metadata[Targets]:
        """The newest of ``targets``, or of what it delegates to."""
        return self._load(Targets, role)

    def snapshot(self) -> Metadata[Snapshot]:
        """The newest snapshot."""
        return self._load(Snapshot, TrustRole.SNAPSHOT)

    def timestamp(self) -> Metadata[Timestamp]:
        """The timestamp."""
        return self._load(Timestamp, TrustRole.TIMESTAMP)

    def target(self, path: str, digest: str) -> bytes:
        """Bytes of a target that lies in the folder.

        Raises:
            TrustError: it does not.
        """
        place = self.targets_folder / in_folder(path, digest)
        try:
            return place.read_bytes()
        except OSError as error:
            raise TrustError(f"{place}: cannot be read: {error.strerror or error}") from error

    def put_target(self, path: str, digest: str, data: bytes) -> None:
        """Lay a target into the folder; its metadata makes it count.

        Raises:
            StoreError: the disk fails.
        """
        place = self.targets_folder / in_folder(path, digest)
        make_folder(place.parent)
        write_atomic(place, data)

    def sign(self, role: TrustRole, metadata: Metadata[T], signer: Signer, clock: Clock) -> None:
        """Write the next version of ``role``, good for as long as it is from now on.

        Raises:
            TrustError: this is not the role's key, or it has become too large.
            StoreError: the disk fails; the state is that of before.
        """
        self.must_be_key(role, signer)
        if role is not TrustRole.ROOT:
            leaps = role in ONLINE and self._leaps()
            metadata.signed.version = _next(metadata.signed.version, clock, leaps=leaps)
            metadata.signed.expires = when(clock) + LIFE[role]
        metadata.signatures.clear()
        metadata.sign(signer)
        self.write(role, metadata)

    def write(self, role: TrustRole, metadata: Metadata[T]) -> None:
        """Put signed metadata into its file.

        Raises:
            TrustError: it is too large to be sent.
            StoreError: the disk fails.
        """
        data = metadata.to_bytes()
        if len(data) > METADATA_LIMIT:
            raise TrustError(
                f"{role} would be {len(data)} bytes, at most {METADATA_LIMIT} are sent",
                remedy="remove jobs or configurations that are not used any more",
            )
        make_folder(self.metadata)
        write_atomic(self.path(role, metadata.signed.version), data)
        if role not in (TrustRole.ROOT, TrustRole.TIMESTAMP):
            with suppress(OSError):  # one that stays harms nobody
                self.path(role, metadata.signed.version - KEPT_FILES).unlink()

    def must_be_key(self, role: TrustRole, signer: Signer) -> None:
        """Return if ``signer`` may sign for ``role``.

        Raises:
            TrustError: it may not.
        """
        if signer.public_key.keyid not in self.key_ids(role):
            raise TrustError(
                f"this is not the key of {role}",
                remedy="`fedmill trust status` names the keys of each role",
            )

    def key_ids(self, role: TrustRole) -> list[str]:
        """Keys that may sign for ``role``."""
        if role in SIGNED_BY_TARGETS:
            delegations = self.targets().signed.delegations
            roles = delegations.roles if delegations is not None else None
            return list(roles[role].keyids) if roles and role in roles else []
        return list(self.root().signed.roles[role].keyids)

    def signed_well(self, role: TrustRole, metadata: Metadata[T]) -> bool:
        """Whether enough keys of ``role`` signed ``metadata``."""
        delegator: Root | Targets = self.root().signed
        if role in SIGNED_BY_TARGETS:
            delegator = self.targets().signed
        try:
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError):
            return False
        return True

    def refresh(self, signers: Mapping[TrustRole, Signer], clock: Clock) -> bool:
        """Sign whatever is due: new versions of others, another key, or time that has passed.

        Returns whether anything was. The folder is held ``alone`` by the caller.

        Raises:
            TrustError: keys are not those of their roles, or metadata is damaged.
            StoreError: the disk fails; it goes on with the next call.
        """
        now, leaps = when(clock), self._leaps()
        models = self.targets(TrustRole.MODELS)
        late = models.signed.expires - now < LIFE[TrustRole.MODELS] / 2
        if late or leaps or not self.signed_well(TrustRole.MODELS, models):
            self.sign(TrustRole.MODELS, models, signers[TrustRole.MODELS], clock)
        changed = self._refresh_snapshot(signers[TrustRole.SNAPSHOT], clock)
        changed |= self._refresh_timestamp(signers[TrustRole.TIMESTAMP], clock)
        if leaps:  # each of the three has made it
            self._has_leapt()
        return changed

    def _has_leapt(self) -> None:
        try:
            (self.folder / LEAP_FILE).unlink(missing_ok=True)
        except OSError as error:
            self._leapt = True  # again and again, versions would soon be above what agents take
            told = f"{self.folder / LEAP_FILE}: cannot be removed: {error.strerror or error}"
            raise StoreError(told, remedy="give the folder to the coordinator's user") from error

    def _leaps(self) -> bool:
        return not self._leapt and (self.folder / LEAP_FILE).exists()

    def _refresh_snapshot(self, signer: Signer, clock: Clock) -> bool:
        snapshot = self.snapshot()
        listed = {}
        for role in (TrustRole.TARGETS, *SIGNED_BY_TARGETS):
            version = self.version(role)
            if version:
                listed[f"{role}.json"] = MetaFile.from_data(
                    version, self.raw(role, version), ["sha256"]
                )
        left = snapshot.signed.expires - when(clock)
        good = self.signed_well(TrustRole.SNAPSHOT, snapshot)
        if listed == snapshot.signed.meta and left > LIFE[TrustRole.SNAPSHOT] / 2 and good:
            return False
        snapshot.signed.meta = listed
        self.sign(TrustRole.SNAPSHOT, snapshot, signer, clock)
        return True

    def _refresh_timestamp(self, signer: Signer, clock: Clock) -> bool:
        timestamp, version = self.timestamp(), self.version(TrustRole.SNAPSHOT)
        told = MetaFile.from_data(version, self.raw(TrustRole.SNAPSHOT, version), ["sha256"])
        age = when(clock) - (timestamp.signed.expires - LIFE[TrustRole.TIMESTAMP])
        good = self.signed_well(TrustRole.TIMESTAMP, timestamp)
        young = timedelta(0) <= age < TIMESTAMP_EVERY
        if told == timestamp.signed.snapshot_meta and young and good:
            return False
        timestamp.signed.snapshot_meta = told
        self.sign(TrustRole.TIMESTAMP, timestamp, signer, clock)
        return True

    def _load(self, kind: type[T], role: TrustRole, version: int = 0) -> Metadata[T]:
        fault: Exception | None = None
        try:
            found: Metadata[T] = Metadata.from_bytes(self.raw(role, version))
            if isinstance(found.signed, kind):
                return found
        except (SerializationError, RepositoryError) as error:
            fault = error
        raise TrustError(
            f"{self.metadata}: the newest file of {role} is damaged",
            remedy="restore the folder from a backup",
        ) from fault
