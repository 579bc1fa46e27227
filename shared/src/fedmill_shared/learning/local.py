# SPDX-License-Identifier: Apache-2.0
"""What an agent does with its windows in one round."""

from dataclasses import dataclass

import numpy as np
import torch

from fedmill_shared.errors import DataError
from fedmill_shared.job import Job, Pca
from fedmill_shared.learning import ditto, nova, scaffold
from fedmill_shared.learning.descent import (
    Amendment,
    Work,
    check_finite,
    descend,
    full_gradient,
    prepare,
)
from fedmill_shared.learning.evaluation import evaluate, predict
from fedmill_shared.learning.examples import Examples, make_examples
from fedmill_shared.learning.fedrep import descend_in_turns
from fedmill_shared.learning.home import NOTHING, Home, Vector, check_home, personalised
from fedmill_shared.learning.proximal import pull
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.sharing import mirrored_roles, personal_roles, shared_roles

__all__ = [
    "NOTHING",
    "Examples",
    "Home",
    "LocalResult",
    "evaluate",
    "make_examples",
    "predict",
    "train",
]


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What one round of local work gave.

    Attributes:
        delta: float32, the change of the elements with ``shared_roles(job)``, in the order of the
            manifest: what travels.
        examples: windows behind it.
        loss: mean loss over the steps.
        steps: local steps.
        steps_weight: FedNova's |a|_1 of them.
        home: what the agent keeps for its next round, in place of what it gave.
    """

    delta: Vector
    examples: int
    loss: float
    steps: int
    steps_weight: float
    home: Home


def train(
    model: FlatModel,
    job: Job,
    examples: Examples,
    *,
    round_: int,
    seed: int,
    home: Home = NOTHING,
) -> LocalResult:
    """One round of local work from the version in ``model``, which is left at the new weights.

    FedAvg's ``ClientUpdate`` (McMahan et al. 2017, algorithm 1): ``epochs`` passes or ``steps``
    steps of the job's optimiser, as the job's methods amend it. Under ``fedsgd`` the delta is minus
    the gradient over all examples.

    Args:
        model: holds a version as distributed; the agent's personal parts are put in here.
        job: names the methods.
        examples: the agent's training windows.
        round_: number of the round, from 1.
        seed: decides the order of windows and the dropout.
        home: ``LocalResult.home`` of the agent's last round that counted; it is not changed.

    Raises:
        DataError: there are no examples.
        ModelError: the loss or a weight became infinite or NaN, or ``home`` does not fit.
    """
    if len(examples) == 0:
        raise DataError(f"job {job.name}: no {job.learns_from}")
    if isinstance(job.model, Pca):
        return _moments(model, job, examples)
    check_home(model.manifest, job, home)
    model.load(personalised(model.manifest, job, model.vector, home))
    work = prepare(model, job, examples, round_=round_, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        by_gradient = job.federation.rule == "fedsgd"
        result = _gradient(work) if by_gradient else _descent(work, home)
    check_finite(job, round_, result.loss, result.delta, model.vector, result.home.own)
    return result


def _moments(model: FlatModel, job: Job, examples: Examples) -> LocalResult:
    """The round of an agent whose model are principal components: nothing is trained."""
    from fedmill_shared.learning.moments_pass import moments_delta  # noqa: PLC0415  few jobs

    delta, spread = moments_delta(model, job, examples)
    return LocalResult(delta, len(examples), spread, 1, 1.0, NOTHING)


def _gradient(work: Work) -> LocalResult:
    """The round of an agent under ``fedsgd``: its weights stay."""
    model, job = work.model, work.job
    loss = full_gradient(work)
    change = np.zeros_like(model.vector)
    change[: len(model.gradient)] = -model.gradient.numpy()
    delta = model.manifest.gather(change, shared_roles(job))
    return LocalResult(delta, len(work.examples), loss, 1, 1.0, NOTHING)


def _descent(work: Work, home: Home) -> LocalResult:
    model, job = work.model, work.job
    before = model.vector.copy()
    loss, steps = _work(work, home)
    weight = nova.steps_weight(job.learning, work.rate, steps)
    change, kept = _outcome(work, before, steps, home)
    delta = model.manifest.gather(change, shared_roles(job))
    return LocalResult(delta, len(work.examples), loss, steps, weight, kept)


def _work(work: Work, home: Home) -> tuple[float, int]:
    """The steps that the delta comes from."""
    model, learning = work.model, work.job.learning
    amendments: list[Amendment] = []
    if learning.proximal:
        anchor = model.learned[: model.trainable].clone()
        amendments.append(pull(anchor, learning.proximal, model.places(shared_roles(work.job))))
    if work.job.federation.rule == "scaffold":
        places = model.places(mirrored_roles(work.job))
        amendments.append(scaffold.correction(model.control, _variate(model, home), places))
    if learning.head_epochs:
        return descend_in_turns(work, amendments)
    return descend(work, amendments)


def _outcome(work: Work, before: Vector, steps: int, home: Home) -> tuple[Vector, Home]:
    """The change of every element (size,), and what the agent keeps."""
    model, job = work.model, work.job
    with np.errstate(invalid="ignore", over="ignore"):  # divergence is told in one place
        change = model.vector - before
    personal = control = own = None
    if personal_roles(job):
        personal = model.manifest.gather(model.vector, personal_roles(job))
    if job.federation.rule == "scaffold":
        moved = torch.from_numpy(change)
        mirrored = torch.cat([moved[place] for place in model.places(mirrored_roles(job))])
        counts = nova.accumulation(job.learning, work.rate, steps)
        variate = _variate(model, home)
        next_ = scaffold.renewed(model.control, variate, mirrored, float(counts.sum()), work.rate)
        change = model.manifest.scatter(change, (next_ - variate).numpy(), ("control",))
        control = next_.numpy()
    if job.learning.ditto:
        anchor = torch.from_numpy(before[: len(model.learned)])
        own = ditto.own_model(work, anchor, home.own)
    return change, Home(personal, control, own)


def _variate(model: FlatModel, home: Home) -> torch.Tensor:
    """This agent's c_i, zero before its first round."""
    if home.control is None:
        return torch.zeros_like(model.control)
    return torch.from_numpy(home.control)
