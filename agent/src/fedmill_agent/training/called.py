# SPDX-License-Identifier: Apache-2.0
"""The training process in a service of its own: whoever calls its socket gets one.

The service manager listens (systemd: ``Accept=yes``) and starts a process for each caller, with
the connection as its standard input and output. It lives in a control group of its own: what the
kernel kills there for memory is the training, and nothing else.

The process is no child of ours. Its first bytes come with its process id, which the kernel itself
attaches (``SO_PASSCRED`` of unix(7)); from then on a pidfd stands for it, which never means another
process. Its end is the end of the stream.
"""

import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fedmill_agent.training.memory_events import MemoryEvents, group_of, own_group
from fedmill_agent.training.process import ENDED_BY_US, Ended
from fedmill_shared.errors import TrainerError

HELLO = b"FMTHELLO"
SLICE = "fedmill-train.slice"
_CREDENTIALS = struct.Struct("iII")  # <sys/socket.h>: pid, uid, gid
_REMEDY = (
    "start fedmill-trainer.socket, and have the agent in the group that may use it; or leave "
    "training.socket empty"
)


class CalledProcess:
    """Owns the connection to a training process, and the pidfd that stands for it."""

    def __init__(self, path: str) -> None:
        """Call the socket at ``path``; the process comes some time later.

        Raises:
            TrainerError: nobody listens there, we may not, or it is not the service manager's.
        """
        self._pid: int | None = None
        self._handle: int | None = None
        self._killed = False
        self._memory = MemoryEvents(None)
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._connection.setblocking(False)  # a manager that is busy is not waited for
            self._connection.connect(path)
            self._connection.setblocking(True)
            _check_listener(path, self._connection)
        except OSError as error:
            self._connection.close()
            raise TrainerError(
                f"{path}: training process cannot be called: {error.strerror or error}",
                remedy=_REMEDY,
            ) from error
        except TrainerError:
            self._connection.close()
            raise

    @property
    def pid(self) -> int | None:
        """Process id, as the kernel tells it; None until the process has said hello."""
        return self._pid

    def open(self) -> BinaryIO | None:
        """Its answers, once it has said hello; None if it ended before, or is none of ours."""
        said = b""
        while len(said) < len(HELLO):
            data, extra, _, _ = self._connection.recvmsg(
                len(HELLO) - len(said), socket.CMSG_SPACE(_CREDENTIALS.size)
            )
            if not data:
                return None
            said += data
            if not self._meet(extra):
                return None
        if said != HELLO:
            return None
        return self._connection.makefile("rb")

    def write(self, data: bytes) -> int:
        """Hand over some of ``data``; how many bytes."""
        return self._connection.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def signal(self, number: int) -> bool:
        """Send it a signal, once it is known."""
        if self._handle is None:
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)
        return True

    def kill(self) -> None:
        """End it; one that is not there yet finds nobody to work for."""
        self._killed = True
        self.signal(signal.SIGKILL)
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def wait(self) -> Ended:
        """How it ended, as far as that can be told; let go of everything."""
        killed_for_memory, known = self._memory.killed, self._pid is not None
        self._connection.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if killed_for_memory:
            return Ended(None, "killed for memory: it took more than its service may have")
        if self._killed:
            return Ended(None, ENDED_BY_US)
        if not known:
            return Ended(None, "its service did not start: see the log of fedmill-trainer")
        return Ended(None, "killed, most likely for memory, or broken: see the log of its service")

    def _meet(self, extra: list[tuple[int, int, bytes]]) -> bool:
        """Take a handle on the process that wrote; whether it is there, and of our own user."""
        for level, kind, data in extra:
            if (level, kind) != (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                continue
            pid, user, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
            if user != os.geteuid() or pid <= 0:
                return False
            if self._handle is None:
                self._take(pid)
        return self._handle is not None

    def _take(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            self._handle = os.pidfd_open(pid)
            self._pid = pid
        self._memory = MemoryEvents(_slice(pid))


def _slice(pid: int) -> Path | None:
    """The control group that counts for all trainings: that of one goes with it.

    Where we may not look at the process, it is the one beside ours.
    """
    group = group_of(pid)
    if group is not None:
        return group.parent
    ours = own_group()
    return ours.parent / SLICE if ours is not None else None


def _check_listener(path: str, connection: socket.socket) -> None:
    """Refuse a socket that another user has put there.

    Raises:
        TrainerError: who listens is neither root, as the service manager is, nor ourselves.
        OSError: the kernel does not tell.
    """
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(data)
    if user not in (0, os.geteuid()):
        raise TrainerError(f"{path}: user {user} listens there", remedy=_REMEDY)
