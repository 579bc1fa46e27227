# SPDX-License-Identifier: Apache-2.0
"""The process itself, with a worker that misbehaves; and once as it really is."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import pytest

from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerAnswered, TrainerDied, TrainerProcess
from fedmill_agent.training.worker import Worker
from fedmill_shared.clock import SystemClock

PATIENCE = 180.0
MISBEHAVING = """
import os, signal, subprocess, sys, types
from fedmill_agent.training import protocol
from fedmill_shared.errors import DataError

class Worker:
    def answer(self, request):
        print("noise of Python", flush=True)
        os.write(1, b"noise of C")
        subprocess.run(["echo", "noise of a child"], check=True)
        os.kill(os.getpid(), signal.SIGINT)
        if request.number == 2:
            raise DataError("no windows")
        if request.number == 3:
            raise ZeroDivisionError
        return protocol.Ready(number=request.number)

worker = types.ModuleType("fedmill_agent.training.worker")
worker.Worker, worker.quiet_torch = Worker, lambda: None
sys.modules[worker.__name__] = worker
from fedmill_agent.training.__main__ import main
main()
"""


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """A training process whose worker prints, is interrupted, and fails in two ways."""
    with subprocess.Popen(
        [sys.executable, "-c", MISBEHAVING, "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.kill()


def warm(number: int) -> protocol.Warm:
    """A small piece of work."""
    return protocol.Warm(number=number, job=b"{}", store="w.sqlite")


class TestMain:
    def test_noise_reaches_the_log_and_not_the_answers(
        self, process: "subprocess.Popen[bytes]"
    ) -> None:
        """Of Python, of C and of children; Ctrl-C is for the daemon; errors are answers."""
        for number in (1, 2, 4):
            protocol.send(process.stdin, warm(number))
        answers = [protocol.receive_answer(process.stdout) for _ in range(3)]
        failed = protocol.Failed(number=2, error="DataError", message="no windows")
        assert answers == [protocol.Ready(number=1), failed, protocol.Ready(number=4)]
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 3
        _, log = process.communicate(timeout=PATIENCE)
        for who in (b"Python", b"C", b"a child"):
            assert log.count(b"noise of " + who) == 3
        assert process.returncode == 0

    def test_an_unexpected_error_ends_it_with_a_traceback(
        self, process: "subprocess.Popen[bytes]"
    ) -> None:
        """The daemon learns of it as of any other death; the interpreter leaves in order."""
        protocol.send(process.stdin, warm(3))
        assert protocol.receive_answer(process.stdout) is None
        assert process.wait(PATIENCE) == 1
        log = process.stderr.read()
        assert b"ZeroDivisionError" in log
        assert b"Fatal" not in log

    @pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n", b"FMT1\x01\x00\x00\x00\xc1"])
    def test_a_foreign_request_ends_it(
        self, process: "subprocess.Popen[bytes]", garbage: bytes
    ) -> None:
        """It cannot know where the next one begins."""
        process.stdin.write(garbage)
        process.stdin.flush()
        assert process.wait(PATIENCE) == 22
        assert b"fedmill-agent training:" in process.stderr.read()


@pytest.mark.system
class TestReal:
    def test_a_life(self, ask: Callable[..., Any]) -> None:
        """Warm, trained as in this process, killed with work in hand, and another one after it."""
        events: SimpleQueue[Any] = SimpleQueue()
        trainer = TrainerProcess(TrainingSection(), events.put, SystemClock())
        try:
            trainer.submit(ask(protocol.Warm, number=1))
            assert events.get(timeout=PATIENCE) == TrainerAnswered(protocol.Ready(number=1))
            first = trainer.pid
            trainer.submit(ask(protocol.Train, number=2))
            answer = events.get(timeout=PATIENCE).answer
            assert trainer.pid == first
            assert answer.frame == Worker().answer(ask(protocol.Train)).frame
            os.kill(first, signal.SIGSTOP)
            trainer.submit(ask(protocol.Train, number=3))
            os.kill(first, signal.SIGKILL)
            assert events.get(timeout=PATIENCE) == TrainerDied(-signal.SIGKILL, (3,))
            trainer.submit(ask(protocol.Evaluate, number=4))
            answer = events.get(timeout=PATIENCE).answer
            assert (answer.number, answer.statistic.count) == (4, 24)
            assert trainer.pid != first
        finally:
            trainer.stop()
