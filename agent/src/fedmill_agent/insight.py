# SPDX-License-Identifier: Apache-2.0
"""What an agent knows of its predictions beyond the number: how sure it is, and when to alarm whom.

Nothing of this is imported by a job that asks for none of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Job, Pca
from fedmill_shared.log import Logger

if TYPE_CHECKING:
    from fedmill_agent.alarms.watch import AlarmWatch, Explains
    from fedmill_agent.uncertainty.certainty import Certainty


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a job, what insight is made of.

    Attributes:
        job: the job.
        folder: its folder.
        scorer: what predicts.
        store: its windows, labels and alarms.
        deployment: its versions.
        clock: tells the time.
        log: is told what happens.
    """

    job: Job
    folder: Path
    scorer: Scorer
    store: WindowStore
    deployment: Deployment
    clock: Clock
    log: Logger


class Insight:
    """Owns the calibrations and the alarms of one job, as far as it has any."""

    def __init__(self, parts: Parts) -> None:
        """Describe and watch what the scorer says from now on."""
        job, scorer = parts.job, parts.scorer
        self._certainty = _certainty(parts) if job.needs_labels else None
        if self._certainty is not None:
            scorer.describe(self._certainty.describe)
        self._alarms = _alarms(parts) if job.alarms else None
        if self._alarms is not None:
            scorer.observe(self._alarms.observe)

    @property
    def alarms_raised(self) -> int:
        """Alarms that stand now."""
        return self._alarms.raised if self._alarms is not None else 0

    def tick(self) -> None:
        """Do a little about once a second."""
        if self._certainty is not None:
            self._certainty.tick()
        if self._alarms is not None:
            self._alarms.tick()

    def close(self) -> None:
        """Keep what has changed."""
        if self._alarms is not None:
            self._alarms.close()


def _certainty(parts: Parts) -> "Certainty":
    from fedmill_agent.uncertainty.certainty import Certainty  # noqa: PLC0415  not for all jobs

    scorer = parts.scorer
    return Certainty(
        parts.job,
        parts.store,
        parts.folder,
        lambda: scorer.version,
        scorer.run,
        clock=parts.clock,
        log=parts.log,
    )


def _alarms(parts: Parts) -> "AlarmWatch":
    from fedmill_agent.alarms.watch import AlarmWatch, Tools  # noqa: PLC0415  few jobs have alarms

    tools = Tools(_explainer(parts), parts.store)
    return AlarmWatch(parts.job, parts.folder, tools, clock=parts.clock, log=parts.log)


def _explainer(parts: Parts) -> "Explains":
    """Principal components tell their parts; any other model is asked about changed windows."""
    job, deployment = parts.job, parts.deployment
    if isinstance(job.model, Pca):
        from fedmill_agent.monitoring.explaining import ComponentsExplainer  # noqa: PLC0415

        return ComponentsExplainer(job, deployment.model)
    from fedmill_agent.explaining.explainer import Explainer  # noqa: PLC0415  few jobs have alarms

    return Explainer(job, parts.scorer.run, lambda values: _levels(job, deployment, values))


def _levels(
    job: Job, deployment: Deployment, values: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """The usual window by the normaliser of the version that is trained from; it is that of all.

    Raises:
        ModelError: no version is here.
        StoreError: it cannot be read.
    """
    from fedmill_agent.explaining.levels import usual_levels  # noqa: PLC0415  see Insight

    path = deployment.weights_path()
    manifest = deployment.manifest()
    try:
        vector = np.fromfile(path, "<f4")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    manifest.check(vector)
    return usual_levels(job, manifest, vector, values)
