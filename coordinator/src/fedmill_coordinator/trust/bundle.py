# SPDX-License-Identifier: Apache-2.0
"""A bundle for machines without a network: metadata, targets, notices and blobs in one folder.

It is laid out as the repository is, so that an agent checks it in the same way. It holds nothing
that is not signed, but for the state of each job, which is no secret and no order.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs
from tuf.api.metadata import Targets

from fedmill_coordinator.registry.notices import blobs_of, version_notice
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records_releases import BACK, ReleaseRecord
from fedmill_coordinator.trust.operator import signed_texts
from fedmill_coordinator.trust.repository import Repository
from fedmill_shared.errors import FedmillError, StoreError, TrustError
from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.messages import JobNotice, ReleaseNotice, encode
from fedmill_shared.protocol import NEWEST, OLDEST
from fedmill_shared.trust import TrustRole, in_folder, release_path, release_statement

PARTS = ("metadata", "targets", "notices", "blobs")
"""Folders of a bundle."""


@dataclass(frozen=True, slots=True)
class Bundled:
    """What went into a bundle: jobs, releases by their job, files of software."""

    jobs: Sequence[str]
    releases: dict[str, int]
    software: Sequence[str]


def write_bundle(
    repository: Repository,
    store: Store,
    blobs: Blobs,
    out: Path,
    *,
    jobs: Iterable[str] = (),
    software: bool = False,
    refresh: Callable[[], object] | None = None,
) -> Bundled:
    """Write what is signed into ``out``, of these ``jobs`` or of all; with ``software`` if asked.

    ``refresh`` is called while the folder is held: it signs what is due, so that all fits together.

    Raises:
        TrustError: there is something in ``out`` already, or metadata is damaged.
        StoreError: something cannot be read or written.
    """
    wanted = set(jobs)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise TrustError(f"{out}: is not empty", remedy="name a new folder")
    except OSError as error:
        raise StoreError(f"{out}: {error.strerror or error}") from error
    try:
        return _write(repository, store, blobs, out, wanted, software=software, refresh=refresh)
    except OSError as error:
        _clear(out)
        told = f"{error.filename or out}: {error.strerror or error}"
        raise StoreError(told, remedy="is there room on the stick?") from error
    except FedmillError:
        _clear(out)
        raise


def _clear(out: Path) -> None:
    """Half a bundle is of no use, and would stand in the way of the next one."""
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)


def _write(
    repository: Repository,
    store: Store,
    blobs: Blobs,
    out: Path,
    wanted: set[str],
    *,
    software: bool,
    refresh: Callable[[], object] | None,
) -> Bundled:
    make_folder(out / "notices")
    with repository.alone():  # only for what is small: the daemon waits for it
        if refresh is not None:
            refresh()
        _copy_metadata(repository, out)
        roles = [TrustRole.TARGETS, TrustRole.MODELS]
        roles += [TrustRole.SOFTWARE] if software else []
        signed = {role: repository.targets(role).signed for role in roles}
    for each in signed.values():
        _copy_targets(repository, out, each)
    bundled = _copy_jobs(signed[TrustRole.TARGETS], store, out, wanted)
    known = signed[TrustRole.MODELS]
    releases = {job: _copy_release(known, store, blobs, out, job) for job in bundled}
    _sync(out)
    found = {job: number for job, number in releases.items() if number}
    paths = sorted(signed[TrustRole.SOFTWARE].targets) if software else []
    return Bundled(bundled, found, paths)


def _sync(out: Path) -> None:
    """Let all of it be on the stick before somebody pulls it out."""
    for path in [*out.rglob("*"), out]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _copy_metadata(repository: Repository, out: Path) -> None:
    """Every root, and the newest of each other role."""
    folder = make_folder(out / "metadata")
    newest = repository.version(TrustRole.ROOT)
    files = [repository.path(TrustRole.ROOT, number) for number in range(1, newest + 1)]
    others = [role for role in TrustRole if role is not TrustRole.ROOT]
    files += [repository.path(role, repository.version(role)) for role in others]
    for path in files:
        shutil.copyfile(path, folder / path.name)


def _copy_targets(repository: Repository, out: Path, signed: Targets) -> None:
    """Every target of a role; a file that is named by its digest never changes."""
    for path, each in signed.targets.items():
        place = in_folder(path, each.hashes["sha256"])
        make_folder((out / "targets" / place).parent)
        shutil.copyfile(repository.targets_folder / place, out / "targets" / place)


def _copy_jobs(targets: Targets, store: Store, out: Path, wanted: set[str]) -> list[str]:
    """Notices of the jobs that are signed and run here."""
    signed = {
        job: texts
        for path in targets.targets
        for job, texts in signed_texts(targets, path).items()
        if path.startswith("jobs/")
    }
    found = []
    for record in store.jobs():
        text = record.text.encode()
        known = sha256(text) in signed.get(record.name, ())
        if not known or (wanted and record.name not in wanted):
            continue
        notice = JobNotice(
            job=record.name, text=text, state=record.state, protocol=OLDEST, newest=NEWEST
        )
        write_atomic(out / "notices" / f"{record.name}.job", encode(notice))
        found.append(record.name)
    missing = ", ".join(sorted(wanted - set(found)))
    if missing:
        raise TrustError(f"{missing}: no such job is signed and was ever run here")
    return found


def _copy_release(models: Targets, store: Store, blobs: Blobs, out: Path, job: str) -> int:
    """The newest release of ``job`` that agents were told of, with its blobs; 0 if none is."""
    for record in reversed(store.releases(job)):
        notice = _notice(store, blobs, record)
        if notice is None:
            continue
        target = models.targets.get(release_path(job, record.release))
        if target is None or target.hashes["sha256"] != sha256(release_statement(notice)):
            continue
        write_atomic(out / "notices" / f"{job}.release", encode(notice))
        folder = make_folder(out / "blobs")
        for blob in blobs_of(notice.notice):
            shutil.copyfile(blobs.path(blob.sha256), folder / blob.sha256)
        return record.release
    return 0


def _notice(store: Store, blobs: Blobs, record: ReleaseRecord) -> ReleaseNotice | None:
    version = store.version(record.job, record.version)
    if version is None or version.weights is None:
        return None
    told = version_notice(store, blobs, version, evaluate=False, serve=True)
    told = structs.replace(told, delta=None, base="")  # whole, whatever the other side has
    return ReleaseNotice(
        job=record.job,
        release=record.release,
        notice=told,
        back=record.why in BACK,
    )
