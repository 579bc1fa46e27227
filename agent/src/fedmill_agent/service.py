# SPDX-License-Identifier: Apache-2.0
"""What a run of the agent is to its service manager, and to the starts after it."""

from collections import Counter
from collections.abc import Callable, Mapping

from fedmill_agent.sources.state import Standing
from fedmill_agent.starts import Starts
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger
from fedmill_shared.messages import AgentState
from fedmill_shared.notify import Notifier
from fedmill_shared.vigil import Look, Vigil

GOOD_SECONDS = 300.0
"""A start that has lasted as long, with all parts advancing, has not failed."""
_TOLD = 3
_SHORT = 8


class Service:
    """Owns the daemon's word to the service manager; without one, and without starts, nothing."""

    def __init__(
        self,
        clock: Clock,
        log: Logger,
        *,
        notifier: Notifier | None = None,
        starts: Starts | None = None,
    ) -> None:
        """Nothing is said before ``begin``."""
        self._clock = clock
        self._vigil = Vigil(notifier or Notifier(), clock, log)
        self._starts = starts
        self._good_at = float("inf")

    def begin(self) -> None:
        """The daemon is ready: sources are open, and the broker is being looked for."""
        self._good_at = self._clock.monotonic() + GOOD_SECONDS
        self._vigil.begin()

    def turn(self, status: Callable[[], str], look: Look) -> None:
        """The loop has come round once more; see :class:`~fedmill_shared.vigil.Vigil`."""
        self._vigil.turn(status, look)
        if self._clock.monotonic() >= self._good_at and not look():
            self._good_at = float("inf")
            if self._starts is not None:
                self._starts.good()

    def step(self) -> None:
        """Something that takes long advances; see :class:`~fedmill_shared.vigil.Vigil`."""
        self._vigil.step()

    def end(self) -> None:
        """The daemon was asked to end, or cannot go on."""
        self._vigil.end()


def in_words(state: AgentState, sources: Mapping[str, Standing], *, connected: bool) -> str:
    """What the daemon does, on one line: ``2 jobs: press (joined, model 1a2b3c4d), ...``."""
    jobs = [
        f"{name} ({each.phase}, model {each.version[:_SHORT] or 'none yet'})"
        for name, each in sorted(state.jobs.items())
    ]
    more = f" and {len(jobs) - _TOLD} more" if len(jobs) > _TOLD else ""
    count = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"
    told = f"{count}: {', '.join(jobs[:_TOLD])}{more}" if jobs else "no job yet"
    phases = Counter(each.phase for each in sources.values())
    lines = [f"{number} {phase}" for phase, number in sorted(phases.items())]
    plant = f"; sources: {', '.join(lines)}" if lines else ""
    return f"{told}{plant}; broker {'connected' if connected else 'not connected'}"
