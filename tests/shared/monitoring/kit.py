# SPDX-License-Identifier: Apache-2.0
"""A job of principal components and its versions, as agents and coordinator make them."""

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.learning import local
from fedmill_shared.learning.examples import make_examples
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.models.sharing import shared_roles
from fedmill_shared.monitoring.version import completed

TEXT = """
[job]
name = "pumps"
task = "reconstruction"
[[signals]]
name = "pressure"
[[signals]]
name = "flow"
[[signals]]
name = "current"
[window]
length = 4
[model]
architecture = "pca"
"""
NORMALISER = Normaliser(mean=((10.0, 40.0, 3.0),), scale=((1.5, 1.0, 0.5),))


def job_of(**model: object) -> Job:
    """Three signals in windows of four samples."""
    job = decode_job(TEXT, "pumps.toml")
    return replace(job, model=replace(job.model, **model))


def windows_of(seed: int, count: int, noise: float = 0.1) -> np.ndarray:
    """Windows (count, 3, 4): all three signals follow a load that drifts."""
    generator = np.random.default_rng(seed)
    load = generator.standard_normal((count, 1, 1)) + 0.3 * generator.standard_normal((count, 1, 4))
    own = noise * generator.standard_normal((count, 3, 4))
    follow = np.array([1.0, 0.7, -0.4])[:, None] * load
    return np.asarray(np.array([10.0, 40.0, 3.0])[:, None] + follow + own, np.float32)


@dataclass
class Line:
    """A job's model, its newest version, and rounds of it."""

    job: Job
    model: FlatModel
    vector: np.ndarray

    @classmethod
    def start(cls, job: Job, normaliser: Normaliser = NORMALISER) -> "Line":
        """Version 0."""
        model = FlatModel(build(job, 1, regimes=normaliser.regimes))
        return cls(job, model, initial_vector(job, normaliser, 1))

    def delta(self, windows: np.ndarray, round_: int = 1) -> local.LocalResult:
        """What an agent with these windows sends."""
        texts, numbers, runs = [""] * len(windows), np.zeros(len(windows)), ["a"] * len(windows)
        examples = make_examples(self.job, windows, texts, numbers, runs)
        self.model.load(self.vector)
        return local.train(self.model, self.job, examples, round_=round_, seed=1)

    def round(self, *plants: np.ndarray) -> None:
        """The next version, from the windows of several plants."""
        told = [self.delta(windows) for windows in plants]
        total = sum(each.examples for each in told)
        delta = np.zeros(self.model.manifest.count(shared_roles(self.job)))
        for each in told:
            delta += each.delta.astype(np.float64) * (each.examples / total)
        manifest, roles = self.model.manifest, shared_roles(self.job)
        delta = completed(self.job, manifest, self.vector, delta.astype(np.float32), total)
        moved = manifest.gather(self.vector, roles) + delta
        self.vector = manifest.scatter(self.vector, moved, roles)

    def outputs(self, windows: np.ndarray) -> np.ndarray:
        """What the network says of them."""
        self.model.load(self.vector)
        return np.asarray(self.model.predict(windows)[:, 0])
