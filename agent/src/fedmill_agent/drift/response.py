# SPDX-License-Identifier: Apache-2.0
"""From charts that change to what is said and done about it: once for one shift, not too often."""

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.drift.actions import RECALIBRATED, Acting, offered, perform
from fedmill_agent.drift.charts import RANK, Change, Standing, sigmas
from fedmill_agent.drift.detector import Array
from fedmill_agent.drift.normaliser import Normaliser, Tally
from fedmill_agent.drift.told import Acted
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError
from fedmill_shared.job import Job
from fedmill_shared.log import Logger

MOST_ACTED = 10


class Response:
    """Owns what was done, and a recalibration that waits for its windows.

    Attributes:
        acted: the last that was done, the newest last.
        reached: the most serious standing that was acted on, since all was less serious.
        recent: samples since a recalibration was wanted.
        recent_left: windows that it still waits for; 0: none is wanted.
    """

    def __init__(self, job: Job, acting: Acting, clock: Clock, log: Logger) -> None:
        """Nothing was done yet."""
        self._job = job
        self._acting = acting
        self._clock = clock
        self._log = log
        self.acted: list[Acted] = []
        self.reached: Standing = "quiet"
        self.recent: Tally | None = None
        self.recent_left = 0

    def changed(self, change: Change, column: str) -> None:
        """Say that a chart changed, and act if it is more serious than all that was before."""
        self._tell(change, column)
        if RANK[change.now] <= RANK[self.reached]:
            return
        self.reached = change.now
        drift = self._job.drift
        for action in drift.on_alarm if change.now == "alarmed" else drift.on_warning:
            self._act(action, change, column)

    def settled(self, standing: Standing) -> None:
        """The most serious standing now: what was acted on before may be acted on again."""
        if RANK[standing] < RANK[self.reached]:
            self.reached = standing

    def saw(
        self,
        conditions: NDArray[np.intp] | None,
        values: Array,
        normaliser: Normaliser,
        past: Tally,
    ) -> None:
        """A standardised window (S, L) came; it may be the last that a recalibration waits for."""
        if not self.recent_left:
            return
        if self.recent is None:
            self.recent = Tally.empty(normaliser.mean.shape)
        self.recent.add(conditions, values)
        self.recent_left -= 1
        if self.recent_left:
            return
        recent, self.recent = self.recent, None
        try:
            refused = self._recalibrate(normaliser, past, recent)
        except FedmillError as error:
            self._log.error("drift.failed", action="recalibrate", error=str(error))
            return
        if refused:
            self._log.warning("drift.refused", action="recalibrate", reason=refused)

    def forget(self) -> None:
        """Another model scores: what a recalibration waited for no longer fits."""
        self.recent, self.recent_left = None, 0

    def _tell(self, change: Change, column: str) -> None:
        told = _told(change, column)
        if change.now == "alarmed":
            self._log.warning("drift.alarmed", **told)
        elif change.now == "warned":
            self._log.warning("drift.warned", **told)
        else:
            self._log.info("drift.ended", **told)

    def _act(self, action: str, change: Change, column: str) -> None:
        now_ns = self._clock.now_ns()
        last = max((done.at_ns for done in self.acted if done.action == action), default=None)
        if last is not None and 0 <= now_ns - last < self._job.drift.pause_seconds * 1e9:
            self._log.info("drift.paused", action=action, chart=change.chart)
            return
        try:
            refused = self._perform(action, change, column)
        except FedmillError as error:
            self._log.error("drift.failed", action=action, error=str(error))
            return
        if refused:
            self._log.warning("drift.refused", action=action, reason=refused)
            return
        done = Acted(
            action=action,
            at_ns=now_ns,
            chart=change.chart,
            statistic=sigmas(change.chart, change.statistic),
            limit=sigmas(change.chart, change.limit),
            windows=change.windows,
        )
        self.acted = [*self.acted, done][-MOST_ACTED:]
        self._log.warning("drift.acted", action=action, **_told(change, column))

    def _perform(self, action: str, change: Change, column: str) -> str:
        if action != "recalibrate":
            return perform(action, self._job, self._acting, change, column)
        self.recent, self.recent_left = None, self._job.drift.collect_windows
        return ""

    def _recalibrate(self, normaliser: Normaliser, past: Tally, recent: Tally) -> str:
        """Offer the model with the standardisation set anew; why not, or nothing."""
        model = self._acting.model()
        if model is None:
            return "no model scores"
        made, conditions = normaliser.anew(past, recent)
        if not conditions:
            return "too few samples of the reference, or since"
        windows = self._job.drift.collect_windows
        reason = f"drift: standardisation set anew by {windows} windows"
        return offered(self._acting, RECALIBRATED, made.placed(*model), reason)


def _told(change: Change, column: str) -> dict[str, str | float]:
    return {
        "chart": change.chart,
        "column": column,
        "statistic": round(sigmas(change.chart, change.statistic), 4),
        "limit": round(sigmas(change.chart, change.limit), 4),
        "windows": change.windows,
    }
