# SPDX-License-Identifier: Apache-2.0
"""Which files make up a coordinator, and where they go in another one."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmill_coordinator.backup.manifest import Member, Place
from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.pki.options import key_path
from fedmill_shared.errors import StoreError

BLOBS = "blobs"
SKIPPED = ("lock", "spool", BLOBS)
"""Of the state folder: a lock, what agents send again, and what is copied by itself."""
DATABASE = "fedmill.sqlite"
REPLACED = "replaced-"
"""How the folder begins that takes what a restore has replaced."""
HIDDEN = "."
"""How names of passing files begin."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file and where it belongs."""

    place: Place
    path: str
    file: Path


def state_files(state: Path, key: Path | None) -> Iterator[Source]:
    """Small files of the state folder: audit log, heads, counts, certificates; not ``key``."""
    for folder, folders, files in os.walk(state):
        below = Path(folder).relative_to(state)
        if below == Path():
            folders[:] = [
                each for each in folders if each not in SKIPPED and not each.startswith(REPLACED)
            ]
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        for name in sorted(files):
            path = Path(folder) / name
            passing = name.startswith((HIDDEN, DATABASE)) or name in SKIPPED
            if passing or path.is_symlink() or _is_key(path, key):
                continue
            yield Source("state", str(below / name), path)


def outer_files(config: CoordinatorConfig, path: Path, *, keys: bool) -> Iterator[Source]:
    """The configuration file, jobs, golden windows, and signed metadata; with ``keys``, those."""
    folder, state = path.resolve().parent, Path(config.coordinator.state).resolve()
    yield Source("config", path.name, path)
    for job in config.coordinator.jobs:
        yield Source("job", _relative(Path(job), folder), Path(job))
    for golden in config.coordinator.golden.values():
        yield Source("golden", _relative(Path(golden), folder), Path(golden))
    if config.trust is not None:
        yield from _tree("trust", Path(config.trust.folder), state)
        if keys:
            yield from _tree("trust_keys", Path(config.trust.keys), state)
    key = _ca_key(config)
    if keys and key is not None and key.is_file():
        yield Source("ca_key", key.name, key)


def target(member: Member, config: CoordinatorConfig, path: Path) -> Path | None:
    """Where ``member``, which is not of the state folder, goes with ``config`` in ``path``.

    None where that configuration has no such place.

    Raises:
        StoreError: it would lie outside the configuration's folder.
    """
    folder = path.resolve().parent
    match member.place:
        case "config":
            return path
        case "job" | "golden":
            return folder / member.path
        case "trust":
            return Path(config.trust.folder) / member.path if config.trust is not None else None
        case "trust_keys":
            return Path(config.trust.keys) / member.path if config.trust is not None else None
        case "ca_key":
            return _ca_key(config)
        case "state":
            raise StoreError(f"{member.path}: is part of the state folder")


def ca_key(config: CoordinatorConfig) -> Path | None:
    """The file of the authority's key, if there is an authority."""
    return _ca_key(config)


def _ca_key(config: CoordinatorConfig) -> Path | None:
    return key_path(config.pki) if config.pki is not None else None


def _is_key(path: Path, key: Path | None) -> bool:
    """Whether ``path`` holds a private key, whatever it is called."""
    if key is not None and path.resolve() == key.resolve():
        return True
    try:
        with path.open("rb") as file:
            return b"PRIVATE KEY-----" in file.read(200)
    except OSError:
        return False


def _relative(path: Path, folder: Path) -> str:
    """``path`` below ``folder``; one from elsewhere keeps its name only."""
    resolved = path.resolve()
    return str(resolved.relative_to(folder)) if resolved.is_relative_to(folder) else path.name


def _tree(place: Place, folder: Path, state: Path) -> Iterator[Source]:
    if folder.resolve().is_relative_to(state) and place == "trust":
        return  # it comes with the state folder
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.startswith(HIDDEN):
            yield Source(place, str(path.relative_to(folder)), path)
