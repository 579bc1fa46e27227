# SPDX-License-Identifier: Apache-2.0
"""Checks a bundle from a stick, byte by byte. Only the command line imports this.

Whoever made the stick may have put anything on it: names, sizes and numbers are bounded before
anything is read, and nothing is there that no signed notice or metadata names.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from msgspec import structs

from fedmill_agent.trust import gate
from fedmill_agent.trust.checking import Check, now_ns
from fedmill_agent.trust.imports import JOB, NOTICE, RELEASE, read_notices
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import Verified, read_verified
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.messages import BlobName, JobNotice, ReleaseNotice, VersionNotice, encode
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
LONGEST = 400
LONGEST_NAME = 200


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
        digests: SHA-256 of each of its files.
    """

    folder: Path
    verified: Verified
    jobs: list[str]
    releases: dict[str, int]
    software: list[Path]
    name: str
    digests: Mapping[Path, str]


def check(folder: Path, state: Path, root: Path, agent: str) -> Checked:
    """Check all of the bundle in ``folder`` against what the agent trusts; nothing is changed.

    Raises:
        TrustError: something in it is not signed, was changed, is over, or is older than known.
        FrameError: a notice in it is damaged.
        StoreError: it cannot be read.
    """
    try:
        return _checked(folder, state, root, agent)
    except OSError as error:
        told = f"{error.filename or folder}: cannot be read: {error.strerror or error}"[:LONGEST]
        remedy = "is the stick in place, may this user read it, and is there room for a copy?"
        raise StoreError(told, remedy=remedy) from error


def _checked(folder: Path, state: Path, root: Path, agent: str) -> Checked:
    files = dict(sorted(_files(folder)))
    software = [folder / path for path in files if path.parts[:2] == ("targets", "software")]
    verified = _verified(folder, state, root, agent, software=bool(software))
    digests = {}
    for path in files:
        if path.parts[0] == "targets":
            _check_target(folder, path, verified)
            digests[path] = path.name.partition(".")[0]
    notices = list(read_notices(folder))
    blobs = {path.name: size for path, size in files.items() if path.parts[0] == "blobs"}
    for notice in notices:
        _check_notice(folder, notice, verified, blobs)
    _check_blobs(folder, blobs, [each for each in notices if isinstance(each, ReleaseNotice)])
    digests |= {Path("blobs", name): name for name in blobs}
    named = [path for path in files if path.parts[0] in ("metadata", "notices")]
    digests |= {path: _digest(folder / path) for path in named}
    return Checked(
        folder=folder,
        verified=verified,
        jobs=[each.job for each in notices if isinstance(each, JobNotice)],
        releases={each.job: each.release for each in notices if isinstance(each, ReleaseNotice)},
        software=software,
        name=_name_of({path: digests[path] for path in named}),
        digests=digests,
    )


def _verified(folder: Path, state: Path, root: Path, agent: str, *, software: bool) -> Verified:
    """What the metadata of the bundle signs, above what the agent has checked before.

    Who signs software is asked only where some is: that its term is over holds up nothing else.
    """
    places = TrustPlaces(state)
    roles = [TrustRole.MODELS, *([TrustRole.SOFTWARE] if software else [])]
    with tempfile.TemporaryDirectory(prefix="fedmill-") as scratch:
        metadata = Path(scratch) / "metadata"
        if places.metadata.is_dir():
            shutil.copytree(places.metadata, metadata, symlinks=True)
        before = read_verified(places.verified)
        return Check(root, metadata, folder).run(before, agent, now_ns(), roles=roles)


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file in the bundle with its size: plain, bounded, and with a name of ours.

    Raises:
        TrustError: one is not.
        StoreError: the folder is no bundle.
        OSError: it cannot be read.
    """
    if not (folder / "metadata").is_dir():
        raise StoreError(f"{folder}: is no bundle", remedy="name the folder of `fedmill bundle`")
    for entry in _entries(folder):
        inside = Path(entry.path).relative_to(folder)
        if entry.is_symlink():
            _refuse(inside, "is a link; a bundle has plain files only")
        if entry.is_dir():
            continue
        size = entry.stat().st_size
        if not entry.is_file() or size > _limit(inside):
            _refuse(inside, "does not belong in a bundle, or is too large")
        yield inside, size


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Everything below ``folder``, in no order; a stick may have more than there is memory for."""
    waiting, count = [str(folder)], 0
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                if count > MOST_FILES:
                    raise TrustError(f"{folder}: has more than {MOST_FILES} files and folders")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                yield entry


def _refuse(path: Path, why: str) -> NoReturn:
    told = repr(str(path)[:LONGEST_NAME])
    raise TrustError(f"{told}: {why}", remedy="take it away, or write the bundle anew")


def _limit(path: Path) -> int:
    """Bytes that a file called ``path`` may have; -1 where there is none of ours called so."""
    match path.parts:
        case ("metadata", name) if is_metadata_file(name):
            return METADATA_LIMIT
        case ("targets", *rest) if is_target_file("/".join(rest)):
            return SOFTWARE_LIMIT
        case ("notices", name) if NOTICE.match(name):
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
        kind, why = JOB, gate.refusal_of_job(verified, notice, now_ns())
    else:
        kind, why = RELEASE, gate.refusal_of_release(verified, notice, now_ns())
    if not why and not (folder / "notices" / f"{notice.job}{kind}").is_file():
        why = "its notice is called by another name"
    if not why and isinstance(notice, ReleaseNotice):
        why = _not_whole(folder, notice, blobs)
    if why:
        raise TrustError(f"job {notice.job}: {why}")


def _check_blobs(folder: Path, blobs: Mapping[str, int], releases: Iterable[ReleaseNotice]) -> None:
    """Whether each blob is whole, and part of a release: nobody fills a disk with others."""
    known: set[str] = set()
    for each in releases:
        told = each.notice
        known |= {part.sha256 for part in _parts(told)}
        known |= {told.quantised.sha256} if told.quantised is not None else set()
    for blob in blobs:
        if blob not in known:
            raise TrustError(f"blobs/{blob[:12]}...: belongs to no release in the bundle")
        if _digest(folder / "blobs" / blob) != blob:
            raise TrustError(f"blobs/{blob[:12]}...: was changed")


def _parts(told: VersionNotice) -> tuple[BlobName, ...]:
    """Blobs that a version is not whole without."""
    return told.manifest, told.template, told.canary_inputs, told.snapshot


def _not_whole(folder: Path, notice: ReleaseNotice, blobs: Mapping[str, int]) -> str:
    """What is wrong with what no signature covers, such as sizes of blobs; empty if nothing.

    A notice for a stick says no more than that.
    """
    told = notice.notice
    missing = sorted(each.sha256[:12] for each in _parts(told) if _absent(each, blobs))
    if missing:
        return f"blobs {', '.join(missing)} are missing, or of another size"
    version = structs.replace(told, delta=None, base="", evaluate=False, serve=True)
    plain = ReleaseNotice(job=notice.job, release=notice.release, notice=version, back=notice.back)
    written = (folder / "notices" / f"{notice.job}{RELEASE}").read_bytes()
    return "" if encode(plain) == written else f"release {notice.release} was changed"


def _absent(blob: BlobName, blobs: Mapping[str, int]) -> bool:
    return blobs.get(blob.sha256) != blob.size


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _name_of(digests: Mapping[Path, str]) -> str:
    """What the bundle is called: a digest of its metadata and notices, which name all the rest."""
    told = "".join(f"{path} {digests[path]}\n" for path in sorted(digests))
    return hashlib.sha256(told.encode()).hexdigest()[:32]
