# SPDX-License-Identifier: Apache-2.0
"""Runs a daemon that fails at a named point: killed, copied as a power cut leaves it, or refused.

::

    python -m tests.faults.launch POINT[:N] [--then kill|copy:FOLDER|cut:FOLDER|fail:ENOSPC] --
        fedmill_coordinator serve coordinator.toml

The N-th call of the point (by default the first) ends the process by SIGKILL, copies its state
folder and goes on, copies it and ends the process, or raises OSError. Nothing of this is in the
programs: one function is replaced before they are imported.
"""

import argparse
import errno
import os
import runpy
import shutil
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

Moment = Literal["before", "after"]
Action = Callable[[tuple[Any, ...]], None]

TARGETS = {
    "write": "fedmill_shared.files:write_atomic",
    "fsync": "os:fsync",
    "rename": "pathlib:Path.replace",
    "publish": "fedmill_shared.link.mqtt:MqttLink.publish",
    "commit": "sqlalchemy.engine.default:DefaultDialect.do_commit",
    "round-close": "fedmill_coordinator.store.sql:SqlStore.close_round",
    "round-open": "fedmill_coordinator.store.sql:SqlStore.open_round",
    "update-add": "fedmill_coordinator.store.sql:SqlStore.add_update",
    "version-add": "fedmill_coordinator.store.sql_models:SqlModels.add_version",
    "window-commit": "fedmill_agent.store.database:transact",
    "outbox-put": "fedmill_shared.link.outbox:Outbox.put",
    "outbox-take": "fedmill_shared.link.outbox:Outbox.take",
    "residual-save": "fedmill_agent.residual:Residual._save",
    "shelf-activate": "fedmill_agent.inference.shelf:VersionShelf.activate",
    "trainer-submit": "fedmill_agent.training.child:TrainerProcess.submit",
}
"""Functions to fail at. Renaming is how every file of ours becomes the new one; ``commit`` is of
the coordinator's database, ``window-commit`` of the agent's."""


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of one function: ``target`` is its module and qualified name."""

    target: str
    moment: Moment


_MOMENTS: tuple[Moment, Moment] = ("before", "after")
ACTIONS = "kill, copy:FOLDER, cut:FOLDER or fail:ENOSPC"
POINTS = {
    f"{moment}-{name}": Point(target, moment)
    for name, target in TARGETS.items()
    for moment in _MOMENTS
}


@dataclass(slots=True)
class Trigger:
    """Counts the calls of a point, in any thread, and acts at one of them."""

    at: int
    act: Action
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, arguments: tuple[Any, ...]) -> None:
        """One more call, with its ``arguments``."""
        with self._lock:
            self._seen += 1
            due = self._seen == self.at
        if due:
            self.act(arguments)


def install(point: Point, trigger: Trigger) -> None:
    """Replace the function of ``point`` by one that calls ``trigger`` too."""
    module_name, _, name = point.target.partition(":")
    owner_name, _, attribute = name.rpartition(".")
    module = import_module(module_name)
    owner = attrgetter(owner_name)(module) if owner_name else module
    original = getattr(owner, attribute)

    @wraps(original)
    def replaced(*arguments: Any, **options: Any) -> Any:
        if point.moment == "before":
            trigger(arguments)
        result = original(*arguments, **options)
        if point.moment == "after":
            trigger(arguments)
        return result

    setattr(owner, attribute, replaced)


def action(text: str, state: Path) -> Action:
    """What ``--then`` asks for, for a process with this ``state`` folder."""
    kind, _, value = text.partition(":")
    if kind == "kill":
        return lambda _arguments: os.kill(os.getpid(), signal.SIGKILL)
    if kind == "copy" and value:
        return lambda arguments: copy_state(state, Path(value), arguments)
    if kind == "cut" and value:
        return lambda arguments: _cut(state, Path(value), arguments)
    if kind == "fail" and value in errno.errorcode.values():
        return lambda _arguments: _refuse(getattr(errno, value))
    raise argparse.ArgumentTypeError(f"{text!r} is not {ACTIONS}")


def copy_state(state: Path, target: Path, arguments: Sequence[object] = ()) -> None:
    """Copy ``state`` as a power cut now would leave it.

    The caller is about to sync the file of ``arguments``, if that is one: half of it is lost.
    """
    torn = _unsynced(state, arguments)
    partial = target.with_name(f"{target.name}.partial")
    shutil.copytree(state, partial)
    if torn is not None:
        path = partial / torn
        os.truncate(path, path.stat().st_size // 2)
    partial.rename(target)  # whoever waits for it finds it whole


def state_of(config: Path) -> Path:
    """State folder in a configuration file of an agent or a coordinator."""
    body = tomllib.loads(config.read_text())
    section = body.get("coordinator", body.get("agent", {}))
    return config.resolve().parent / section.get("state", "state")


def main(arguments: Sequence[str]) -> None:
    """Install the fault and run the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.launch", description=__doc__)
    parser.add_argument("point", type=_point, help=f"POINT[:N], a point is {', '.join(POINTS)}")
    parser.add_argument("--then", default="kill", help=ACTIONS)
    parser.add_argument("--keep-blobs", action="store_true", help="the coordinator prunes none")
    parser.add_argument("program", nargs="+", help="module, command and configuration file")
    options = parser.parse_args(arguments)
    point, number = options.point
    try:
        act = action(options.then, state_of(Path(options.program[-1])))
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    install(point, Trigger(number, act))
    if options.keep_blobs:
        keep_blobs()
    sys.argv = options.program
    runpy.run_module(options.program[0], run_name="__main__", alter_sys=True)


def _point(text: str) -> tuple[Point, int]:
    name, _, number = text.partition(":")
    if name not in POINTS or not (number or "1").isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(POINTS)}, with :N or not")
    return POINTS[name], int(number or "1")


def keep_blobs() -> None:
    """Let the coordinator forget no weights and no updates, so that all can be replayed."""
    module = import_module("fedmill_coordinator.registry.newest")
    module.Versions._prune = lambda _self: None


def _cut(state: Path, target: Path, arguments: Sequence[object]) -> None:
    copy_state(state, target, arguments)
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


def _unsynced(state: Path, arguments: Sequence[object]) -> Path | None:
    if not arguments or not isinstance(arguments[0], int):
        return None
    path = Path(f"/proc/self/fd/{arguments[0]}").readlink()
    inside = path.is_file() and path.is_relative_to(state)
    return path.relative_to(state) if inside else None


if __name__ == "__main__":
    main(sys.argv[1:])
