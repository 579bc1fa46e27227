# SPDX-License-Identifier: Apache-2.0
"""Runs a daemon on a machine whose wall clock is wrong.

::

    python -m tests.faults.clock SECONDS -- fedmill_agent run agent.toml
"""

import runpy
import sys
import time
from collections.abc import Sequence

NANOSECONDS = 10**9


def set_clock(seconds: int) -> None:
    """Let the wall clock of this process be ``seconds`` ahead, or behind if negative."""
    told_ns, told = time.time_ns, time.time
    time.time_ns = lambda: told_ns() + seconds * NANOSECONDS
    time.time = lambda: told() + seconds


def main(arguments: Sequence[str]) -> None:
    """Set the clock and run the program."""
    set_clock(int(arguments[0]))
    sys.argv = list(arguments[2:])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
