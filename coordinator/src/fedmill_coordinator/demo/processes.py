# SPDX-License-Identifier: Apache-2.0
"""Child processes of the demo: started as programs, watched, and always ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fedmill_shared.errors import FedmillError

STOP_SECONDS = 0.9


def program(module: str, *arguments: str | Path) -> list[str]:
    """Command line of one of our programs, run by this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


class Processes:
    """Owns child processes; leaving the context ends them all."""

    def __init__(self, logs: Path) -> None:
        """``logs`` is the folder where each writes its events."""
        self._logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._dismissed: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start ``command``; a Ctrl-C in the terminal reaches only us, and we end it in order."""
        self._dismissed.discard(name)
        with (self._logs / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pid(self, name: str) -> int:
        """Process id of a child."""
        return self._children[name].pid

    def begin(self, name: str) -> None:
        """Tell a child that has waited for it to begin (SIGUSR1)."""
        self._children[name].send_signal(signal.SIGUSR1)

    def dismiss(self, names: Iterable[str]) -> None:
        """Ask these to end, by SIGTERM, and return at once; the others go on."""
        for name in names:
            self._dismissed.add(name)
            if self._children[name].poll() is None:
                self._children[name].terminate()

    def working(self, names: Iterable[str]) -> bool:
        """Whether any of these has not ended yet."""
        return any(self._children[name].poll() is None for name in names)

    def check(self) -> None:
        """Raise FedmillError if a child has ended unasked, with the last line it wrote."""
        for name, child in self._children.items():
            if name not in self._dismissed and child.poll() is not None:
                log = self._logs / f"{name}.log"
                lines = log.read_text(errors="replace").strip().splitlines()
                raise FedmillError(
                    f"{name} ended with exit code {child.returncode}: "
                    f"{lines[-1] if lines else 'no output'}",
                    remedy=f"see {log}",
                )

    def stop(self) -> None:
        """End all children: SIGTERM, and SIGKILL for those that are too slow."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                # It leads a group of its own: what it started must not outlive it.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        self._children.clear()
