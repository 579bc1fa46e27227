# SPDX-License-Identifier: Apache-2.0
"""What the daemon says of itself on disk, so that ``fedmill-agent status`` needs no open port."""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from fedmill_shared.errors import StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.messages import AgentState


class Status(Struct, frozen=True, kw_only=True):
    """The daemon's last word."""

    pid: int
    connected: bool
    trainer_pid: int | None
    state: AgentState


def write_status(
    folder: Path, state: AgentState, *, connected: bool, trainer_pid: int | None
) -> None:
    """Leave the daemon's state in ``folder``."""
    status = Status(pid=os.getpid(), connected=connected, trainer_pid=trainer_pid, state=state)
    write_atomic(folder / "status.json", msgspec.json.encode(status))


def read_status(folder: Path) -> Status:
    """The last word of the daemon whose state folder this is.

    Raises:
        StoreError: it never ran here, or the file is damaged.
    """
    path = folder / "status.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}",
            remedy="has the agent been started with this configuration?",
        ) from error
    except msgspec.DecodeError as error:
        raise StoreError(f"{path}: damaged: {error}", remedy="it is rewritten every 5 s") from error


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    return Path(f"/proc/{pid}").exists()


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
