# SPDX-License-Identifier: Apache-2.0
"""Learning without a federation: what the federated model must be better than.

``fit_alone`` is one agent by itself; ``fit_pooled`` is a federation of one over many agents'
windows.
"""

from collections.abc import Iterable

import torch
from msgspec.structs import replace

from fedmill_shared.job import Job, Pca
from fedmill_shared.learning import local
from fedmill_shared.learning.examples import Examples
from fedmill_shared.learning.home import Vector
from fedmill_shared.models import build
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.manifest import LEARNED, Manifest
from fedmill_shared.seeds import seed_for

_FACTOR_ON_THE_DELTA = frozenset({"fedavg", "fedsgd", "fednova", "scaffold", "fedavgm"})


def unfederated(job: Job) -> Job:
    """``job`` without what only makes sense among others: pulls, personal parts, variates."""
    learning = replace(job.learning, proximal=0.0, personal="none", head_epochs=0, ditto=0.0)
    rule = "fedsgd" if job.federation.rule == "fedsgd" else "fedavg"
    return replace(job, learning=learning, federation=replace(job.federation, rule=rule))


def starting_vector(job: Job, manifest: Manifest, vector: Vector) -> Vector:
    """The weights (size,) of a version 0 of the job's own, and the statistics of ``vector``.

    Fresh ones, also where the job started from another's version: others trained that.

    Args:
        job: decides the initial weights.
        manifest: layout of ``vector``.
        vector: float32 (size,), any version of the job.

    Raises:
        ModelError: ``vector`` does not fit the manifest, or the manifest the job.
    """
    regimes = max(t.shape[0] for t in manifest.tensors if t.name == "standardise.mean")
    first = FlatModel(build(job, seed_for(job.name, "model"), regimes=regimes))
    first.manifest.check(vector)
    return manifest.scatter(vector, first.learned.numpy(), LEARNED)


def fit_alone(
    model: FlatModel, job: Job, examples: Examples, *, rounds: Iterable[int], agent: str
) -> None:
    """Go on with a model that only this agent trains, for the work of ``rounds`` (from 1).

    The work of rounds 1 to 10 gives the same weights in one call as in ten. ``model`` is left at
    the result. No server optimiser takes part, except that under ``fedsgd`` the server's rate is
    the size of a step.

    Raises:
        DataError: there are no examples.
        ModelError: the training diverged.
    """
    if isinstance(job.model, Pca):
        _fit_components(model, job, examples)
        return
    job = unfederated(job)
    for round_ in rounds:
        seed = seed_for(job.name, round_, agent, "alone")
        result = local.train(model, job, examples, round_=round_, seed=seed)
        if job.federation.rule == "fedsgd":
            step = torch.from_numpy(result.delta)
            model.learned.add_(step, alpha=job.federation.server_learning_rate)


def fit_pooled(model: FlatModel, job: Job, examples: Examples, *, agents: int) -> None:
    """All rounds of a federation of one over ``examples``, the windows of ``agents`` agents.

    Where the job counts steps, there are as many times more of them as there are agents, so that
    each window is seen as often as in the federation. The server's rate and plain momentum count;
    its adaptive optimisers do not, and running statistics are taken as they are. ``model`` is left
    at the result.

    Raises:
        DataError: there are no examples.
        ModelError: the training diverged.
    """
    if isinstance(job.model, Pca):
        _fit_components(model, job, examples)
        return
    federation, rounds = job.federation, job.federation.rounds
    momentum = federation.server_momentum if federation.rule == "fedavgm" else 0.0
    factor = federation.server_learning_rate if federation.rule in _FACTOR_ON_THE_DELTA else 1.0
    job = unfederated(job)
    job = replace(job, learning=replace(job.learning, steps=job.learning.steps * agents))
    weights = model.learned[: model.trainable]
    velocity = torch.zeros_like(weights)
    for round_ in range(1, rounds + 1):
        before = weights.clone()
        seed = seed_for(job.name, round_, "fit")
        result = local.train(model, job, examples, round_=round_, seed=seed)
        velocity.mul_(momentum).add_(torch.from_numpy(result.delta[: model.trainable]))
        weights.copy_(before).add_(velocity, alpha=factor)


def _fit_components(model: FlatModel, job: Job, examples: Examples) -> None:
    """Principal components of ``examples``: more rounds of the same windows change nothing."""
    from fedmill_shared.learning.moments_pass import moments_delta  # noqa: PLC0415  few jobs
    from fedmill_shared.monitoring.version import completed  # noqa: PLC0415

    delta, _ = moments_delta(model, job, examples)
    delta = completed(job, model.manifest, model.vector, delta, len(examples))
    model.learned.add_(torch.from_numpy(delta))
