# SPDX-License-Identifier: Apache-2.0
"""What the daemon says of itself on disk, so that ``fedmill-agent status`` needs no open port."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from fedmill_agent.drift.told import DriftTold
from fedmill_agent.identity.term import IdentityTold
from fedmill_agent.reloading import Reloaded
from fedmill_agent.sources.state import Standing
from fedmill_agent.store.space import DiskStatus
from fedmill_shared.errors import StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.link.rights import RightsTold
from fedmill_shared.messages import UNREADABLE, AgentState


class Status(Struct, frozen=True, kw_only=True):
    """The daemon's last word.

    Attributes:
        pid: its process.
        started: when that was started, in clock ticks since the machine's own start: process ids
            are used again.
        connected: whether the broker had it.
        trainer_pid: its training process, if there is one.
        state: what it tells the coordinator.
        disk: the disk that it writes to; None where that does not tell.
        sources: its live sources, by name.
        drift: of each job that watches for it.
        config: what became of its configuration file since.
        rights: what the broker lets it do; None for a link in the clear.
        identity: where it stands with its certificate; None where it needs none.
        audit_lost: records of its audit log that could not be written since its start.
    """

    pid: int
    started: int = 0
    connected: bool
    trainer_pid: int | None
    state: AgentState
    disk: DiskStatus | None = None
    sources: dict[str, Standing] = {}
    drift: dict[str, DriftTold] = {}
    config: Reloaded = Reloaded()
    rights: RightsTold | None = None
    identity: IdentityTold | None = None
    audit_lost: int = 0


def write_status(folder: Path, status: bytes) -> None:
    """Leave the daemon's state in ``folder``, as ``status_of`` gives it.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_atomic(folder / "status.json", status)


def status_of(
    state: AgentState,
    *,
    connected: bool,
    trainer_pid: int | None,
    disk: DiskStatus | None = None,
    sources: Mapping[str, Standing] | None = None,
    drift: Mapping[str, DriftTold] | None = None,
    config: Reloaded = Reloaded(),  # noqa: B008  it cannot change
    rights: RightsTold | None = None,
    identity: IdentityTold | None = None,
    audit_lost: int = 0,
) -> bytes:
    """What the daemon leaves of itself."""
    pid = os.getpid()
    status = Status(
        pid=pid,
        started=_started(pid),
        connected=connected,
        trainer_pid=trainer_pid,
        state=state,
        disk=disk,
        sources=dict(sources or {}),
        drift=dict(drift or {}),
        config=config,
        rights=rights,
        identity=identity,
        audit_lost=audit_lost,
    )
    return msgspec.json.encode(status)


def read_status(folder: Path) -> Status:
    """The last word of the daemon whose state folder this is.

    Raises:
        StoreError: it never ran here, or the file is damaged.
    """
    path = folder / "status.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except PermissionError as error:
        told = f"{path}: {error.strerror}"
        raise StoreError(told, remedy="run this as the user of the agent") from error
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}",
            remedy="has the agent been started with this configuration?",
        ) from error
    except UNREADABLE as error:
        raise StoreError(f"{path}: damaged: {error}", remedy="it is rewritten every 5 s") from error


def is_alive(status: Status) -> bool:
    """Whether the daemon that left ``status`` still runs."""
    started = _started(status.pid)
    return started == status.started if started else _is_hidden(status.pid)


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _is_hidden(pid: int) -> bool:
    """Whether a process of ours runs that we may not look at.

    So it is between two processes of one service with user namespaces of their own, as with
    ``PrivateUsers=`` and ``ProtectProc=`` of systemd: a signal passes, and ``/proc`` shows nothing.
    """
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _started(pid: int) -> int:
    """When a process was started (``/proc/<pid>/stat``, field 22 of proc(5)); 0 if none runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()  # the name before may hold anything
    return 0 if fields[0] == "Z" else int(fields[19])
