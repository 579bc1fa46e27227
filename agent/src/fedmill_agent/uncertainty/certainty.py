# SPDX-License-Identifier: Apache-2.0
"""Keeps what is known of how sure the serving version is up to date, beside its work.

A version is calibrated on the agent's own validation windows, by one sweep over them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store.portions import Labelled
from fedmill_agent.store.reader import WindowReader
from fedmill_agent.sweep import SPLIT, Run, Said, Sweep
from fedmill_agent.uncertainty.calibration import Calibration, Sureness, calibrate, describe
from fedmill_agent.uncertainty.known import Known
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.log import Logger

FILE = "certainty.msgpack"
MOST_WINDOWS = 2000
"""Of which a version is calibrated, evenly over all that are labelled."""


class Certainty:
    """Owns the calibrations of one job's versions; a job without labels has none."""

    def __init__(
        self,
        job: Job,
        store: WindowReader,
        folder: Path,
        serving: Callable[[], str],
        run: Run,
        *,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Know what was known before a restart; ``serving`` tells the version that ``run`` runs."""
        self._job = job
        self._store = store
        self._known = Known(folder / FILE)
        self._log = log
        self._sweep = Sweep(
            store,
            serving,
            run,
            known=self._known.generation,
            choose=self._choose,
            learn=self._learn,
            clock=clock,
        )

    def describe(self, version: str, outputs: NDArray[np.float32]) -> list[Sureness]:
        """How sure ``version`` is of each of its ``outputs`` (n, outputs)."""
        return describe(self._job, outputs, self._known.get(version))

    def calibration(self, version: str) -> Calibration | None:
        """What is known of ``version``."""
        return self._known.get(version)

    def tick(self) -> None:
        """Look about once a second whether something is to be calibrated, and do a little of it."""
        try:
            self._sweep.tick()
        except FedmillError as error:
            self._log.error("certainty.failed", kind=type(error).__name__, error=str(error))

    def _choose(self) -> Labelled | None:
        task = self._job.job.task
        return self._store.labelled_windows(SPLIT, task=task, most=MOST_WINDOWS) or None

    def _learn(self, said: Said[Labelled]) -> bool:
        texts = [said.windows.texts[place] for place in said.places]
        numbers = said.windows.numbers[said.places]
        made = calibrate(self._job, said.outputs, texts, numbers, said.generation)
        if made is None:
            return False
        self._log.info(
            "certainty.calibrated",
            version=said.version[:12],
            windows=made.windows,
            temperature=round(made.temperature, 4),
        )
        try:
            self._known.put(said.version, made)
        except StoreError as error:
            self._log.warning("certainty.not_kept", error=str(error))
        return True
