# SPDX-License-Identifier: Apache-2.0
"""Kills a process, by SIGKILL, before each change that it makes to a folder, one after the other.

::

    python -m tests.agent.identity.killing SCENARIO FOLDER

The process that is killed is forked from one that has imported everything, so that a hundred of
them cost a second. It prints the number of kills.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.agent.identity import scenarios

CHANGES = ("os.rename", "os.mkdir", "os.symlink", "os.remove", "os.rmdir", "os.link", "os.chmod")
MOST = 500


def changes(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether what Python is about to do changes something on the disk."""
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in CHANGES


def killed(work: Callable[[], object], at: int) -> bool:
    """Whether a process that does ``work`` made a change number ``at``, before which it dies."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if changes(event, arguments):
                seen += 1
                if seen == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def main(name: str, folder: Path) -> int:
    """Kill the work of the scenario at each step, look each time, and count."""
    scenario = scenarios.SCENARIOS[name]
    for at in range(1, MOST):
        shutil.rmtree(folder, ignore_errors=True)
        scenario.prepare(folder)
        if not killed(lambda: scenario.work(folder), at):
            scenario.look(folder)
            return at - 1
        scenario.look(folder)
        scenario.work(folder)
        scenario.done(folder)
    raise AssertionError(f"{name} does not end")


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2])))
