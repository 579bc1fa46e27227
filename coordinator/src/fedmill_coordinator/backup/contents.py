# SPDX-License-Identifier: Apache-2.0
"""Which files make up a coordinator, and where they go in another one."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmill_coordinator.backup.manifest import Member, Place
from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.pki.options import CREDENTIAL, key_path
from fedmill_shared.errors import StoreError

BLOBS = "blobs"
PASSING = ("lock", "spool", "lost+found")
"""Of the state folder: a lock, what agents send again, and what is the disk's own."""
DATABASE = "fedmill.sqlite"
REPLACED = "replaced-"
"""How the folder begins that takes what a restore has replaced."""
HIDDEN = "."
"""How names of passing files begin."""
LEAP = "leap"
"""Lies in the folder of ``[trust]`` after a restore: agents know later metadata, see there."""
_ARCHIVE = b"\x1f\x8b"
"""How backups and support bundles begin, which may lie in the state folder."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file and where it belongs."""

    place: Place
    path: str
    file: Path


def is_passing(below: Path) -> bool:
    """Whether what is called so ``below`` the state folder is in no backup."""
    first = below.parts[0] if below.parts else HIDDEN
    hidden = any(part.startswith(HIDDEN) for part in below.parts)
    return hidden or first in PASSING or first.startswith((HIDDEN, REPLACED))


def state_files(config: CoordinatorConfig, *, keys: bool) -> Iterator[Source]:
    """Small files of the state folder: audit log, heads, counts, certificates; ``keys`` if wanted.

    The database and blobs are copied by themselves; backups that lie here are left out.
    """
    state = Path(config.coordinator.state)
    elsewhere = {file.resolve() for file in _apart(config)}
    for folder, folders, files in os.walk(state):
        below = Path(folder).relative_to(state)
        folders[:] = sorted(
            each for each in folders if not is_passing(below / each) and below / each != Path(BLOBS)
        )
        for name in sorted(files):
            path = Path(folder) / name
            passing = is_passing(below / name) or name.startswith(DATABASE) or path.is_symlink()
            if passing or path.resolve() in elsewhere or _begins(path, _ARCHIVE):
                continue
            if keys or not is_key(path):
                yield Source("state", str(below / name), path)


def outer_files(config: CoordinatorConfig, path: Path, *, keys: bool) -> Iterator[Source]:
    """The configuration, jobs, golden windows, certificates, signed metadata; with ``keys``, those.

    Some of them may not be there.
    """
    folder, state = path.resolve().parent, Path(config.coordinator.state).resolve()
    yield Source("config", path.name, path)
    for job in config.coordinator.jobs:
        yield Source("job", _relative(Path(job), folder), Path(job))
    for golden in config.coordinator.golden.values():
        yield Source("golden", _relative(Path(golden), folder), Path(golden))
    for name, file in _identity(config).items():
        if not file.resolve().is_relative_to(state) and (keys or name != "key"):
            yield Source("identity", name, file)
    if config.pki is not None:
        certificate = Path(config.pki.ca_certificate)
        if not certificate.resolve().is_relative_to(state):
            yield Source("ca_certificate", certificate.name, certificate)
        if keys:
            key = key_path(config.pki) or Path(config.pki.ca_key)
            yield Source("ca_key", key.name, key)
    if config.trust is not None:
        yield from _tree("trust", Path(config.trust.folder), state)
        if keys:
            yield from _tree("trust_keys", Path(config.trust.keys), state)


def target(member: Member, config: CoordinatorConfig, path: Path) -> Path | None:
    """Where ``member``, which is not of the state folder, goes with ``config`` in ``path``.

    None where that configuration has no such place.

    Raises:
        StoreError: it is of the state folder.
    """
    goal: Path | None = None
    match member.place:
        case "config":
            goal = path
        case "job" | "golden":
            goal = path.resolve().parent / member.path
        case "identity":
            goal = _identity(config).get(member.path)
        case "ca_certificate" if config.pki is not None:
            goal = Path(config.pki.ca_certificate)
        case "ca_key":
            goal = _ca_key(config)
        case "trust" if config.trust is not None:
            goal = Path(config.trust.folder) / member.path
        case "trust_keys" if config.trust is not None:
            goal = Path(config.trust.keys) / member.path
        case "state":
            raise StoreError(f"{member.path}: is part of the state folder")
    return goal


def leap(config: CoordinatorConfig) -> dict[str, Path]:
    """Where the file goes that lets versions of signed metadata leap, if they are signed here."""
    return {LEAP: Path(config.trust.folder) / LEAP} if config.trust is not None else {}


def is_key(path: Path) -> bool:
    """Whether ``path`` holds a private key, whatever it is called."""
    return _begins(path, b"PRIVATE KEY-----", within=200)


def _begins(path: Path, mark: bytes, *, within: int = 0) -> bool:
    """Whether ``mark`` is at the beginning of a file, or within its first bytes."""
    try:
        with path.open("rb") as file:
            return mark in file.read(within or len(mark))
    except OSError:
        return False


def _ca_key(config: CoordinatorConfig) -> Path | None:
    """The file of the authority's key; None where the service manager hands it over."""
    if config.pki is None or config.pki.ca_key.startswith(CREDENTIAL):
        return None
    return Path(config.pki.ca_key)


def _identity(config: CoordinatorConfig) -> dict[str, Path]:
    """The files that the coordinator signs in to the broker with."""
    tls = config.broker.tls
    if tls is None:
        return {}
    return {name: Path(getattr(tls, name)) for name in ("ca", "certificate", "key")}


def _apart(config: CoordinatorConfig) -> Iterator[Path]:
    """Keys that a backup has under names of their own, also where they lie in the state folder."""
    key = _ca_key(config)
    if key is not None:
        yield key
    if config.trust is not None:
        yield from Path(config.trust.keys).rglob("*")


def _relative(path: Path, folder: Path) -> str:
    """``path`` below ``folder``; one from elsewhere keeps its name only."""
    resolved = path.resolve()
    return str(resolved.relative_to(folder)) if resolved.is_relative_to(folder) else path.name


def _tree(place: Place, folder: Path, state: Path) -> Iterator[Source]:
    if folder.resolve().is_relative_to(state) and place == "trust":
        return  # it comes with the state folder
    if not os.access(folder, os.R_OK | os.X_OK):
        yield Source(place, folder.name, folder)  # so that it is missed
        return
    for path in sorted(folder.rglob("*")):
        passing = path.name.startswith(HIDDEN) or path.name in PASSING
        if path.is_file() and not path.is_symlink() and not passing:
            yield Source(place, str(path.relative_to(folder)), path)
