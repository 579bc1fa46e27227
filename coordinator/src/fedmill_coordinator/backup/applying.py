# SPDX-License-Identifier: Apache-2.0
"""Puts an unpacked backup in the place of what is there; a kill at any point is made good.

Everything is unpacked and checked below ``.restoring`` in the state folder. A plan beside it, once
it is on the disk, is the decision: from then on it is carried out to its end, by the next restore
or the next start of the coordinator if need be. Before, nothing has changed.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from fedmill_coordinator.backup.contents import REPLACED
from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder, sync_folder, write_atomic

STAGE = ".restoring"
PLAN = ".restore-plan.json"
LOCK = "lock"


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """What is still to be done.

    Attributes:
        entries: names in the state folder that the backup has.
        replaced: folder there that takes what it had before; empty where it had nothing.
        outer: for files elsewhere, where each goes, by its name in the stage.
    """

    entries: list[str]
    replaced: str
    outer: dict[str, str]


def stage(state: Path) -> Path:
    """An empty folder to unpack into; what a killed restore has left is gone.

    Raises:
        StoreError: the folder cannot be used.
    """
    path = state / STAGE
    if path.is_symlink():  # it would lead root, who restores, wherever the daemon's user likes
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
    return make_folder(path)


def is_used(state: Path) -> list[str]:
    """Names in ``state`` that a restore would replace."""
    own = (LOCK, STAGE, PLAN, "lost+found")
    return sorted(
        path.name
        for path in state.iterdir()
        if path.name not in own and not path.name.startswith(REPLACED)
    )


def decide(state: Path, outer: Mapping[str, Path], mark: str) -> None:
    """Everything is in the stage and checked: from now on it holds, whatever happens.

    Raises:
        StoreError: the plan cannot be written; nothing has changed.
    """
    entries = sorted(path.name for path in (state / STAGE / "state").iterdir())
    replaced = f"{REPLACED}{mark}" if is_used(state) else ""
    plan = Plan(entries, replaced, {name: str(path) for name, path in outer.items()})
    own_as(state, state / STAGE)
    write_atomic(state / PLAN, msgspec.json.encode(plan))
    (state / PLAN).chmod(0o644)  # the daemon may have to carry it out


def check_place(goal: Path) -> None:
    """Return if a file can be put to ``goal``.

    Raises:
        StoreError: it cannot, by this user.
    """
    above = next(each for each in goal.parents if each.exists())
    if goal.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise StoreError(
            f"{goal}: cannot be written by this user",
            remedy="run this as root, or put that file back by hand; nothing was changed",
        )


def missing(folder: Path) -> list[Path]:
    """``folder`` and those above it, as far as they are not there yet."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def finish(state: Path) -> bool:
    """Carry out what was decided, also what a killed restore has left; False if nothing was.

    Raises:
        StoreError: a file cannot be moved; the next call goes on from there.
    """
    try:
        data = _read_plan(state / PLAN)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failed(state / PLAN, error) from error
    try:
        plan = msgspec.json.decode(data, type=Plan)
        _apply(state, plan)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreError(
            f"{state / PLAN}: damaged: {error}", remedy="remove it, restore again"
        ) from error
    except OSError as error:
        raise _failed(state, error) from error
    return True


def _read_plan(path: Path) -> bytes:
    """The plan, if it was made by who is to carry it out: it names places outside the folder.

    Raises:
        StoreError: root is to, and another user made it.
        OSError: it cannot be read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        if os.geteuid() == 0 and os.fstat(file.fileno()).st_uid != 0:
            raise StoreError(
                f"{path}: was not written by root, who carries out no other's plan",
                remedy="start the coordinator, which does, or remove the file",
            )
        return file.read()


def _apply(state: Path, plan: Plan) -> None:
    staged = state / STAGE / "state"
    for name in is_used(state):
        if name in plan.entries and not (staged / name).exists():
            continue  # it has come in already
        folder = make_folder(state / plan.replaced)
        if not os.path.lexists(folder / name):  # else it went there before a kill, and this is new
            (state / name).rename(folder / name)
    for name in plan.entries:
        if (staged / name).exists():
            (staged / name).rename(state / name)
    for name, path in plan.outer.items():
        new = missing(Path(path).parent)
        _place(state / STAGE / name, Path(path))
        own_as(state, Path(path), *new)
    own_as(state, state / LOCK)
    sync_folder(state)
    (state / PLAN).unlink()
    sync_folder(state)
    shutil.rmtree(state / STAGE, ignore_errors=True)


def _place(source: Path, goal: Path) -> None:
    """Write a file that may be a key: for its owner alone from the first byte on."""
    make_folder(goal.parent)
    temporary = goal.with_name(f".{goal.name}.restoring")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(goal)
    sync_folder(goal.parent)


def own_as(state: Path, *paths: Path) -> None:
    """Give what root has unpacked or made to the owner of the state folder."""
    if os.geteuid() != 0:
        return
    owner = state.stat()
    for path in paths:
        for each in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
            os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{error.filename or path}: {error.strerror or error}",
        remedy="mend that and give the command again, or start the coordinator: it goes on",
    )
