# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning the common version to one agent: a candidate for what the agent scores with.

Yu, Bagdasaryan & Shmatikov, "Salvaging Federated Learning by Local Adaptation", 2020,
arXiv:2002.04758: most participants gain by it.
"""

import torch

from fedmill_shared.errors import DataError
from fedmill_shared.job import Job
from fedmill_shared.learning.descent import check_finite, descend, prepare
from fedmill_shared.learning.examples import Examples
from fedmill_shared.learning.home import NOTHING, Home, Vector, check_home, personalised
from fedmill_shared.models.flat import FlatModel


def tune(
    model: FlatModel,
    job: Job,
    examples: Examples,
    *,
    round_: int,
    seed: int,
    home: Home = NOTHING,
) -> Vector:
    """The version in ``model``, fitted to this agent by one round's worth of work: (size,).

    All parameters move, those that stay home too, by the job's optimiser alone: nothing pulls them
    back. ``model`` is left at the result. Arguments as of ``local.train``.

    Raises:
        DataError: there are no examples.
        ModelError: the loss or a weight became infinite or NaN, or ``home`` does not fit.
    """
    if len(examples) == 0:
        raise DataError(f"job {job.name}: no {job.learns_from}")
    check_home(model.manifest, job, home)
    model.load(personalised(model.manifest, job, model.vector, home))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        value, _ = descend(prepare(model, job, examples, round_=round_, seed=seed))
    check_finite(job, round_, value, model.vector)
    return model.vector.copy()
