# SPDX-License-Identifier: Apache-2.0
"""From a backup to a coordinator that can be started."""

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from fedmill_coordinator.backup import applying, contents
from fedmill_coordinator.backup.manifest import Manifest, damaged
from fedmill_coordinator.backup.reading import configuration, manifest_of, unpack
from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.store.schema import VERSION
from fedmill_shared.errors import ConfigError, StoreError
from fedmill_shared.files import make_folder, state_folder


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it.

    Attributes:
        manifest: what the backup held.
        kept: files that were there already and stay as they are.
        replaced: folder with what the state folder had before; None where it was empty.
        homeless: files of the backup that this configuration has no place for.
        keys: private keys in ``replaced`` that the backup has not.
    """

    manifest: Manifest
    kept: list[Path]
    replaced: Path | None
    homeless: list[str]
    keys: list[Path]


def restore(backup: Path, path: Path, *, replace: bool, mark: str) -> Restored:
    """Put the coordinator in ``backup`` where the configuration ``path`` says.

    Of the files outside the state folder (configuration, jobs, metadata, keys) those that are
    there stay, unless ``replace``; what the state folder had goes into a folder named by ``mark``.

    Raises:
        StoreError: the backup is damaged, the coordinator runs, its state folder is not empty, or
            there is no room; nothing has changed.
        ConfigError: the configuration is wrong, or there is none here and in the backup.
    """
    made, new = _manifest(backup), applying.missing(path.parent)
    config = _configured(made, backup, path)
    state = Path(config.coordinator.state)
    outer = dict(_outer(made, config, path))
    make_folder(state)
    with state_folder(state, "coordinator"):
        used = _used(state, replace=replace)
        replaced = _place_for_old(state, mark) if used else None
        goals = {name: goal for name, goal in outer.items() if replace or not goal.exists()}
        leap = contents.leap(config)
        _unpack(backup, made, state, goals | leap)
        for name in leap:
            (state / applying.STAGE / name).touch(0o600)
        applying.decide(state, goals | leap, mark)
        applying.finish(state)
        applying.own_as(state, *new)
    return Restored(
        manifest=made,
        kept=[goal for name, goal in outer.items() if name not in goals],
        replaced=replaced,
        homeless=[m.name for m in made.members if m.place != "state" and m.name not in outer],
        keys=list(_left_keys(replaced, state)),
    )


def _manifest(backup: Path) -> Manifest:
    """What the backup says of itself, if nothing of it would get in the way of the restore."""
    made = manifest_of(backup)
    for member in made.members:
        if member.place == "state" and contents.is_passing(Path(member.path)):
            raise damaged(str(backup), f"no backup holds {member.path!r}")
    return made


def _used(state: Path, *, replace: bool) -> bool:
    """Whether the state folder has something; what a killed restore has left is done first.

    Raises:
        StoreError: it has, and that is not to be replaced.
    """
    finished, names = applying.finish(state), applying.is_used(state)
    if finished and not replace:
        raise StoreError(
            f"{state}: the restore before this one was not at its end, and is now",
            remedy="start the coordinator; --replace restores once more",
        )
    if names and not replace:
        raise StoreError(
            f"{state}: is not empty: {', '.join(names[:5])}",
            remedy="--replace puts what is there into a folder beside it",
        )
    return bool(names)


def _place_for_old(state: Path, mark: str) -> Path:
    """The folder for what is replaced: new, so that all of it moves there and mixes with nothing.

    Raises:
        StoreError: there is one of that name.
    """
    folder = state / f"{contents.REPLACED}{mark}"
    if os.path.lexists(folder):
        raise StoreError(f"{folder}: is there already", remedy="restore again; nothing was changed")
    return folder


def _unpack(backup: Path, made: Manifest, state: Path, goals: Mapping[str, Path]) -> None:
    """Unpack all into the stage; nothing is left there if that fails, as on a full disk."""
    for goal in goals.values():
        applying.check_place(goal)
    disk = os.statvfs(state)
    free = disk.f_bavail * disk.f_frsize
    if made.size > free:
        raise StoreError(
            f"{state}: {made.size / 1e6:.0f} MB are to be unpacked, {free / 1e6:.0f} MB are free",
            remedy="free some space; nothing was changed",
        )
    stage = applying.stage(state)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, stage, ignore_errors=True)
        unpack(backup, made, lambda member: stage / member.place / member.path)
        _check_database(stage / "state" / contents.DATABASE, made, backup)
        undo.pop_all()


def _check_database(path: Path, made: Manifest, backup: Path) -> None:
    """Return if this software can read the database in the backup."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as rows:
            (schema,) = rows.execute("SELECT max(version) FROM schema_version").fetchone()
    except sqlite3.Error as error:
        raise damaged(str(backup), f"has no database that can be read: {error}") from error
    if not isinstance(schema, int) or schema > VERSION:
        raise StoreError(
            f"{backup}: has tables of version {schema}, this fedmill knows up to {VERSION}",
            remedy=f"restore it with fedmill {made.software}; nothing was changed",
        )


def _configured(made: Manifest, backup: Path, path: Path) -> CoordinatorConfig:
    """The configuration that is there, or the one in the backup as if it were."""
    if path.exists():
        return load(path)
    member = next((each for each in made.members if each.place == "config"), None)
    if member is None:
        raise ConfigError(f"{path}: no such file", remedy="write one; the backup has none")
    trial = make_folder(path.parent) / f".{path.name}.restoring"
    trial.unlink(missing_ok=True)
    try:
        trial.write_bytes(configuration(backup, member))
        return load(trial)
    finally:
        trial.unlink(missing_ok=True)


def _outer(made: Manifest, config: CoordinatorConfig, path: Path) -> Iterator[tuple[str, Path]]:
    """Where the files outside the state folder go, by their names in the stage."""
    for member in made.members:
        goal = contents.target(member, config, path) if member.place != "state" else None
        if goal is not None:
            yield member.name, goal


def _left_keys(replaced: Path | None, state: Path) -> Iterator[Path]:
    """Private keys that are nowhere but in ``replaced`` now."""
    if replaced is None:
        return
    for path in sorted(replaced.rglob("*")):
        at = path.relative_to(replaced)
        gone = at.parts[0] != contents.BLOBS and path.is_file() and not (state / at).exists()
        if gone and contents.is_key(path):
            yield path
