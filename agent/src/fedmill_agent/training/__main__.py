# SPDX-License-Identifier: Apache-2.0
"""Entry point of the training process: requests on standard input, answers on standard output."""

import ctypes
import fcntl
import os
import signal
import stat
import sys
import threading
from queue import SimpleQueue
from typing import BinaryIO

from fedmill_agent.training import protocol
from fedmill_agent.training.called import HELLO
from fedmill_shared.errors import FedmillError, TrainerError

_SET_PARENT_DEATH_SIGNAL = 1  # <linux/prctl.h>
F_SETSIG = 10  # <asm-generic/fcntl.h>; Python has no name for it


def main() -> int:
    """Serve requests until standard input ends; then leave at once, whatever is in hand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which ends us
    called = stat.S_ISSOCK(os.fstat(sys.stdin.fileno()).st_mode)
    if called:
        _wake_at_the_end(sys.stdin.fileno())
    else:
        _end_with_parent()
    os.nice(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    if called:
        answers.write(HELLO)
        answers.flush()
    # Nothing that a library prints, in Python, C or a child of its own, may reach the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: SimpleQueue[protocol.Request] = SimpleQueue()
    # A stream of its own: at exit the interpreter aborts if a thread holds the lock of sys.stdin.
    stream = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    threading.Thread(target=_read, args=(stream, requests), daemon=True).start()
    from fedmill_agent.training.worker import Worker, quiet_torch  # noqa: PLC0415  torch is slow

    quiet_torch()
    worker = Worker()
    while True:
        request = requests.get()
        try:
            answer = worker.answer(request)
        except FedmillError as error:
            answer = protocol.Failed(
                number=request.number, error=type(error).__name__, message=str(error)
            )
        try:
            protocol.send(answers, answer)
        except BrokenPipeError:
            os._exit(0)  # as in _read: the daemon is gone


def _end_with_parent() -> None:
    """Have the kernel end us with the daemon (prctl(2)): while paused we would not notice."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _wake_at_the_end(connection: int) -> None:
    """Have the kernel wake us when the daemon hangs up: while paused we would not notice.

    It sends the signal, in place of SIGIO (fcntl(2)), whenever something comes or the other end is
    closed. To a process that is not stopped SIGCONT does nothing.
    """
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, F_SETSIG, signal.SIGCONT)
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)


def _read(stream: BinaryIO, requests: SimpleQueue[protocol.Request]) -> None:
    try:
        while (request := protocol.receive_request(stream)) is not None:
            requests.put(request)
    except TrainerError as error:
        print(f"fedmill-agent training: {error}", flush=True)
        os._exit(TrainerError.exit_code)
    os._exit(0)  # the daemon is gone: a training in hand has nobody to report to


if __name__ == "__main__":
    sys.exit(main())
