# SPDX-License-Identifier: Apache-2.0
"""Checks a bundle from a stick, and hands it to the daemon. Only the command line imports this.

All of it is checked, byte by byte, before anything is changed; then it is copied beside, and one
rename makes it count.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from fedmill_agent.trust import gate
from fedmill_agent.trust.checking import Check, now_ns
from fedmill_agent.trust.imports import JOB, RELEASE, read_notices
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import Verified, read_verified
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.files import make_folder, sync_folder
from fedmill_shared.messages import JobNotice, ReleaseNotice, encode
from fedmill_shared.trust import (
    METADATA_LIMIT,
    SOFTWARE_LIMIT,
    TrustRole,
    is_metadata_file,
    is_target_file,
)

MOST_FILES = 20_000
BLOB_LIMIT = 4 << 30
PIECE = 1 << 20
HANDED_OVER = ("metadata", "targets/config", "notices", "blobs")


@dataclass(frozen=True, slots=True)
class Checked:
    """A bundle in which everything is signed.

    Attributes:
        folder: where it lies.
        verified: what is signed.
        jobs: in it.
        releases: in it, by job.
        software: paths of files in it.
        name: digest of it.
    """

    folder: Path
    verified: Verified
    jobs: list[str]
    releases: dict[str, int]
    software: list[Path]
    name: str


def check(folder: Path, state: Path, root: Path, agent: str) -> Checked:
    """Check all of the bundle in ``folder`` against what the agent trusts; nothing is changed.

    Raises:
        TrustError: something in it is not signed, was changed, is over, or is older than known.
        FrameError: a notice in it is damaged.
        StoreError: it cannot be read.
    """
    files = dict(_files(folder))
    places = TrustPlaces(state)
    with tempfile.TemporaryDirectory(prefix="fedmill-") as scratch:
        metadata = Path(scratch) / "metadata"
        if places.metadata.is_dir():
            shutil.copytree(places.metadata, metadata, symlinks=True)
        checking = Check(root, metadata, folder)
        roles = (TrustRole.MODELS, TrustRole.SOFTWARE)
        before = read_verified(places.verified)
        verified = checking.run(before, agent, now_ns(), roles=roles)
    for path in (path for path in files if path.parts[0] == "targets"):
        _check_target(folder, path, verified)
    notices = list(read_notices(folder))
    blobs = {path.name: size for path, size in files.items() if path.parts[0] == "blobs"}
    for notice in notices:
        _check_notice(folder, notice, verified, blobs)
    for blob in blobs:
        if _digest(folder / "blobs" / blob) != blob:
            raise TrustError(f"blobs/{blob[:12]}...: was changed")
    return Checked(
        folder=folder,
        verified=verified,
        jobs=[each.job for each in notices if isinstance(each, JobNotice)],
        releases={each.job: each.release for each in notices if isinstance(each, ReleaseNotice)},
        software=[folder / path for path in files if path.parts[:2] == ("targets", "software")],
        name=_name_of(folder, files),
    )


def hand_over(checked: Checked, state: Path) -> Path:
    """Lay a copy of the bundle where the daemon finds it, whole or not at all.

    Raises:
        StoreError: the disk fails; nothing has changed.
    """
    imports = make_folder(TrustPlaces(state).imports)
    place = imports / checked.name
    if place.exists():
        return place
    draft = imports / f".{checked.name}.{os.getpid()}"
    try:
        for part in HANDED_OVER:
            if (checked.folder / part).is_dir():
                shutil.copytree(checked.folder / part, draft / part)
        for path in [draft, *draft.rglob("*")]:
            if path.is_dir():
                sync_folder(path)
        draft.rename(place)
        sync_folder(imports)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        told = f"{error.filename or place}: {error.strerror or error}"
        raise StoreError(told, remedy="is there room on the disk of the agent?") from error
    return place


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file in the bundle with its size: plain, bounded, and with a name of ours.

    Raises:
        TrustError: one is not.
        StoreError: the folder cannot be read.
    """
    if not (folder / "metadata").is_dir():
        raise StoreError(f"{folder}: is no bundle", remedy="name the folder of `fedmill bundle`")
    count = 0
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_symlink():
            raise TrustError(f"{inside}: is a link; a bundle has plain files only")
        if path.is_dir():
            continue
        count += 1
        size = path.stat().st_size
        if count > MOST_FILES or not path.is_file() or size > _limit(inside):
            raise TrustError(f"{str(inside)[:200]!r}: does not belong in a bundle, or is too large")
        yield inside, size


def _limit(path: Path) -> int:
    """Bytes that a file called ``path`` may have; -1 where there is none of ours called so."""
    match path.parts:
        case ("metadata", name) if is_metadata_file(name):
            return METADATA_LIMIT
        case ("targets", *rest) if is_target_file("/".join(rest)):
            return SOFTWARE_LIMIT
        case ("notices", name) if name.endswith((JOB, RELEASE)):
            return METADATA_LIMIT << 2
        case ("blobs", name) if len(name) == 64 and set(name) <= set("0123456789abcdef"):
            return BLOB_LIMIT
    return -1


def _check_target(folder: Path, path: Path, verified: Verified) -> None:
    """Whether the file is what is signed under its name; its digest stands before that."""
    *parents, name = path.parts[1:]
    digest, _, plain = name.partition(".")
    target = verified.targets.get("/".join([*parents, plain]))
    if target is None or target.sha256 != digest:
        raise TrustError(f"{path}: is not signed")
    if (folder / path).stat().st_size != target.length or _digest(folder / path) != digest:
        raise TrustError(f"{path}: was changed")


def _check_notice(
    folder: Path, notice: JobNotice | ReleaseNotice, verified: Verified, blobs: Mapping[str, int]
) -> None:
    if isinstance(notice, JobNotice):
        why = gate.refusal_of_job(verified, notice, now_ns())
    else:
        why = gate.refusal_of_release(verified, notice, now_ns())
    if not why and isinstance(notice, ReleaseNotice):
        why = _not_whole(folder, notice, blobs)
    if why:
        raise TrustError(f"job {notice.job}: {why}")


def _not_whole(folder: Path, notice: ReleaseNotice, blobs: Mapping[str, int]) -> str:
    """What is wrong with what no signature covers, such as sizes of blobs; empty if nothing.

    A notice for a stick says no more than that.
    """
    told = notice.notice
    needed = (told.manifest, told.template, told.canary_inputs, told.snapshot)
    missing = sorted(each.sha256[:12] for each in needed if blobs.get(each.sha256) != each.size)
    if missing:
        return f"blobs {', '.join(missing)} are missing, or of another size"
    version = structs.replace(told, delta=None, base="", evaluate=False, serve=True)
    plain = ReleaseNotice(job=notice.job, release=notice.release, notice=version, back=notice.back)
    written = (folder / "notices" / f"{notice.job}{RELEASE}").read_bytes()
    return "" if encode(plain) == written else f"release {notice.release} was changed"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _name_of(folder: Path, files: dict[Path, int]) -> str:
    """What the bundle is called: a digest of its metadata and notices, which name all the rest."""
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.parts[0] in ("metadata", "notices"):
            digest.update(f"{path} {_digest(folder / path)}\n".encode())
    return digest.hexdigest()[:32]
