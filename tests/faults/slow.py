# SPDX-License-Identifier: Apache-2.0
"""Runs an agent on a slow device: a training takes so many seconds, however fast this machine is.

::

    python -m tests.faults.slow SECONDS run agent.toml

Nothing of this is in the programs: the daemon starts this file in place of its training process,
which then really trains, and sleeps for the rest of the time.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import structs

from fedmill_agent.cli import main as agent
from fedmill_agent.training import process, protocol

HERE = Path(__file__).resolve()
TRAINER = "--trainer"
WORK = "_train"

Train = Callable[[Any, protocol.Train], protocol.Trained]


def slowed(
    train: Train,
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Train:
    """``train`` that takes ``seconds``, or as long as it needs, and says how long that was."""

    @wraps(train)
    def slow(worker: object, request: protocol.Train) -> protocol.Trained:
        started = clock()
        answer = train(worker, request)
        sleep(max(0.0, seconds - (clock() - started)))
        return structs.replace(answer, seconds=clock() - started)

    return slow


def trainer_command(seconds: float, command: Sequence[str]) -> list[str]:
    """The slow form of ``command``, by which the daemon starts its training process.

    ``command`` is ``python -P -m fedmill_agent.training`` and what it is to be told.
    """
    python, _safe, _m, _module, *rest = command
    return [python, str(HERE), TRAINER, str(seconds), *rest]


def run_agent(seconds: float, arguments: Sequence[str]) -> int:
    """Be ``fedmill-agent`` with a slow training process; its exit code."""

    def start(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(trainer_command(seconds, command), **options)

    vars(process)["subprocess"] = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)
    return agent(list(arguments))


def run_trainer(seconds: float, arguments: Sequence[str]) -> int:
    """Be the training process of an agent, but slow; its exit code."""
    from fedmill_agent.training.__main__ import main as serve
    from fedmill_agent.training.worker import Worker

    setattr(Worker, WORK, slowed(getattr(Worker, WORK), seconds))
    sys.argv = [sys.argv[0], *arguments]
    return serve()


def main(arguments: Sequence[str]) -> int:
    """Run the agent, or its training process if the first argument says so."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.slow", description=__doc__)
    parser.add_argument(TRAINER, action="store_true", help="be the training process")
    parser.add_argument("seconds", type=float, help="how long a training takes")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="what the program is told")
    options = parser.parse_args(arguments)
    return (run_trainer if options.trainer else run_agent)(options.seconds, options.rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
