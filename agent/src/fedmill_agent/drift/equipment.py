# SPDX-License-Identifier: Apache-2.0
"""A watch with the parts of the agent that it acts by."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fedmill_agent import home, kept
from fedmill_agent.drift.actions import Acting, Vector
from fedmill_agent.drift.signals import Submit
from fedmill_agent.drift.watch import Watch
from fedmill_agent.election import ALONE_FILE
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.installing.around import Proposal
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import Intake
from fedmill_agent.kept import Kept
from fedmill_agent.store.reader import WindowReader
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError, ModelError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.log import Logger
from fedmill_shared.models.manifest import LEARNED, Manifest

ALONE = "alone"


def equipped(
    job: Job,
    folder: Path,
    store: WindowReader,
    scorer: Scorer,
    deployment: Deployment,
    *,
    intake: Intake,
    send: Callable[[str, Struct | bytes], None],
    clock: Clock,
    log: Logger,
    submit: Submit,
) -> Watch:
    """A watch that observes ``scorer``; ``folder`` is the job's, ``send`` tells the coordinator.

    ``submit`` has something done beside the loop.

    Raises:
        StoreError: the disk fails.
    """

    def propose(origin: str, vector: Vector, reason: str) -> bool:
        return deployment.installer.propose(Proposal(origin, vector, reason))

    def own() -> Vector | None:
        model = deployment.model()
        return None if model is None else own_model(job, folder, *model)

    acting = Acting(
        wish=lambda wish: send("wish", wish),
        propose=propose,
        roll_back=deployment.installer.roll_back,
        keep=intake.collect,
        left=lambda: intake.collecting,
        model=deployment.model,
        own=own,
    )
    watch = Watch(job, folder, store, scorer.look, acting, clock=clock, log=log, submit=submit)
    scorer.observe(watch.observe)
    return watch


def own_model(job: Job, folder: Path, manifest: Manifest, vector: Vector) -> Vector | None:
    """The weights (size,) that the agent has tuned to itself, of a model laid out as ``vector``.

    That is its model of Ditto, otherwise the one that it has trained alone; None: there is none.
    """
    mine = home.current(folder / home.HOME_FILE, manifest, job).own
    if mine is not None:
        return manifest.scatter(vector, mine, LEARNED)
    try:
        state = kept.look(folder / ALONE_FILE, Kept, manifest.digest)
        alone = None if state is None else state.vector(ALONE)
        if alone is None:
            return None
        manifest.check(alone)
    except (DataError, ModelError, StoreError):
        return None  # whoever trains it says what is wrong with it
    return alone.copy()
