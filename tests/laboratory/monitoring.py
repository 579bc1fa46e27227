# SPDX-License-Identifier: Apache-2.0
"""Federated principal components in one process, by the functions of agents and coordinator.

Statistics, the agents' passes, frames, the coordinator's mean, and its new version with torch and
ONNX Runtime in agreement: what is left out is what lies between.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tests.laboratory.combining import Coordinator
from tests.laboratory.post import seal

from fedmill_coordinator.registry.versions import Architecture
from fedmill_shared.job import Job
from fedmill_shared.learning import local
from fedmill_shared.learning.examples import make_examples
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.seeds import seed_for
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import collect

Windows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Published:
    """A version of a job: what it is made of, and the bytes of its updates."""

    architecture: Architecture
    vector: Windows
    uplink: int

    def session(self) -> OnnxSession:
        """As an agent serves it."""
        return OnnxSession.from_template(self.architecture.template, self.vector)


def one_round(job: Job, plants: Sequence[Windows]) -> Published:
    """The version after one round of ``plants``, each with windows (n, signals, length).

    Raises:
        FedmillError: what the product would raise.
    """
    told = [collect(windows, job.inputs, [], [], None) for windows in plants]
    normaliser = normaliser_of(job, told)
    architecture = Architecture.create(job, normaliser)
    first = architecture.first(normaliser)
    frames = {
        f"plant-{number:02}": _update(job, architecture.model, first.vector, windows, number)
        for number, windows in enumerate(plants)
    }
    delta = Coordinator.start(job, architecture.learned).combine(frames, 1)
    examples = sum(result.examples for _, result in frames.values())
    made = architecture.next(first.vector, delta, None, 1, examples=examples)
    return Published(architecture, made.vector, sum(len(frame) for frame, _ in frames.values()))


def _update(
    job: Job, model: FlatModel, version: Windows, windows: Windows, number: int
) -> tuple[bytes, local.LocalResult]:
    agent = f"plant-{number:02}"
    model.load(version)
    texts, numbers = [""] * len(windows), np.zeros(len(windows))
    examples = make_examples(job, windows, texts, numbers, [agent] * len(windows))
    result = local.train(model, job, examples, round_=1, seed=seed_for(job.name, 1, agent))
    letter = seal(
        job,
        result.delta,
        None,
        agent=agent,
        round_=1,
        examples=result.examples,
        codec=job.compression.uplink,
    )
    return letter.frame, result
