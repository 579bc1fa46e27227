# SPDX-License-Identifier: Apache-2.0
"""Puts together what a job with ``[feedback]`` needs on its agent."""

from pathlib import Path

from fedmill_agent.background import Background
from fedmill_agent.feedback.desk import FeedbackDesk
from fedmill_agent.feedback.head import Head
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.places import windows_file
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import Clock
from fedmill_shared.job import Job
from fedmill_shared.log import Logger


def equip(
    job: Job,
    state: str,
    folder: Path,
    store: WindowStore,
    deployment: Deployment,
    *,
    background: Background,
    clock: Clock,
    log: Logger,
) -> FeedbackDesk:
    """The desk of ``job``, whose files lie in ``folder`` of the agent's ``state``."""
    head = Head(job, folder, windows_file(state, job), load=deployment.read, clock=clock)
    return FeedbackDesk(
        head,
        deployment.installer,
        lambda: store.generation("train"),
        background,
        clock=clock,
        log=log,
    )
