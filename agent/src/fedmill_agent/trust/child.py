# SPDX-License-Identifier: Apache-2.0
"""Runs the child that checks what has come: bounded in time, with nothing to read, one at a time.

It runs on the background thread, never on the loop; killed at whatever point, it leaves the word
of before, and the next one begins anew.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import Verified, read_verified
from fedmill_shared.errors import TrustError

TIMEOUT_SECONDS = 60.0
LONGEST_TOLD = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom the child checks for: the state folder, the shipped root, and the agent's id."""

    state: Path
    root: Path
    agent: str


Run = Callable[[Asked], Verified]


def run_child(asked: Asked, *, seconds: float = TIMEOUT_SECONDS) -> Verified:
    """Have what has come checked, and return what is signed.

    Raises:
        TrustError: the child failed, or took longer than ``seconds``.
    """
    # -P: nothing is imported from the folder that the daemon happens to run in
    command = [sys.executable, "-P", "-m", "fedmill_agent.trust"]
    try:
        done = subprocess.run(
            [*command, str(asked.state), str(asked.root), asked.agent],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise TrustError(f"metadata was not checked within {seconds:g} s") from error
    except OSError as error:
        raise TrustError(f"the process that checks metadata cannot be started: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        told = said[-1][:LONGEST_TOLD] if said else f"it ended with {done.returncode}"
        raise TrustError(f"metadata could not be checked: {told}")
    return read_verified(TrustPlaces(asked.state).verified)
