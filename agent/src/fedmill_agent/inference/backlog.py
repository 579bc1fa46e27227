# SPDX-License-Identifier: Apache-2.0
"""Windows that wait for their turn: scored a few at a time, or passed over where it comes too late.

A gateway that is too slow for what its sources deliver falls behind for ever. What comes out of it
then is not late but wrong: it tells of a machine as it was minutes ago. So the oldest give way.
"""

from collections import deque
from collections.abc import Sequence
from math import inf

from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.store.predictions import Prediction
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger
from fedmill_shared.signals.windows import Window

TOLD_SECONDS = 60.0
"""How often it is told that windows are passed over."""


class Backlog:
    """Owns what waits to be scored, in the order in which it came.

    Attributes:
        skipped: windows that were passed over.
    """

    def __init__(
        self, scorer: Scorer, options: InferenceSection, clock: Clock, log: Logger
    ) -> None:
        """Nothing waits yet."""
        self._scorer = scorer
        self._options = options
        self._clock = clock
        self._log = log
        self._waiting: deque[tuple[Window, float, bool]] = deque()
        self._told_due = -inf
        self._told = 0
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(
        self, windows: Sequence[Window], handed: float | None, *, history: bool = False
    ) -> None:
        """Have ``windows`` wait that were handed in at ``handed`` (monotonic seconds).

        None: they are scored however long they wait. Nobody watches what is ``history``.
        """
        deadline = self._options.deadline_seconds
        due = handed + deadline if handed is not None and deadline else inf
        self._waiting.extend((window, due, history) for window in windows)

    def score(self) -> list[Prediction]:
        """Predictions for what waits; nothing does then, whatever happens.

        Raises:
            ModelError: some cannot be scored; those behind them are not.
        """
        said: list[Prediction] = []
        try:
            while self._waiting:
                history = self._waiting[0][2]
                said += self._scorer.score(self._turn(history=history), watched=not history)
        finally:
            self._waiting.clear()
        return said

    def _turn(self, *, history: bool) -> list[Window]:
        """The next windows of a kind that are not too late, as many as are scored in one call."""
        now, latest = self._clock.monotonic(), 0.0
        chosen: list[Window] = []
        skipped = 0
        while self._waiting and len(chosen) < self._options.batch:
            if self._waiting[0][2] != history:
                break
            window, due, _ = self._waiting.popleft()
            if due < now:
                skipped += 1
                latest = max(latest, now - due)
            else:
                chosen.append(window)
        if skipped:
            self._pass_over(skipped, latest, now)
        return chosen

    def _pass_over(self, number: int, latest: float, now: float) -> None:
        self.skipped += number
        if now < self._told_due:  # an overloaded machine passes over a thousand a second
            return
        new, self._told = self.skipped - self._told, self.skipped
        self._told_due = now + TOLD_SECONDS
        self._log.warning(
            "windows.skipped",
            windows=new,
            waited=round(self._options.deadline_seconds + latest, 3),
            deadline=self._options.deadline_seconds,
            remedy="give the machine less to do: a larger window.stride, fewer sources or jobs; or "
            "raise inference.deadline_seconds",
        )
