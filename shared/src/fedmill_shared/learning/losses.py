# SPDX-License-Identifier: Apache-2.0
"""Losses, each a function ``(outputs, targets) -> scalar`` for one batch."""

from collections.abc import Callable

import torch
from torch.nn import functional

from fedmill_shared.job import Job, Learning
from fedmill_shared.learning.focal import focal
from fedmill_shared.learning.logit_adjustment import logit_adjusted
from fedmill_shared.learning.restricted import restricted_cross_entropy

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(job: Job, *, counts: torch.Tensor, scale: float) -> Loss:
    """The loss that the job names.

    Args:
        job: its task and ``learning.loss`` decide; the outputs of a reconstruction are errors.
        counts: int64 (classes,), the agent's examples of each class.
        scale: standard deviation of the regression target; errors count in units of it, so that a
            learning rate means the same in cycles and in microns.
    """
    learning = job.learning
    if job.job.task == "classification":
        return _of_classes(learning, counts)
    if job.job.task == "reconstruction":
        return lambda outputs, _targets: outputs.mean()
    if learning.loss == "huber":
        return lambda outputs, targets: functional.huber_loss(
            outputs[:, 0] / scale, targets / scale
        )
    return lambda outputs, targets: functional.mse_loss(outputs[:, 0] / scale, targets / scale)


def _of_classes(learning: Learning, counts: torch.Tensor) -> Loss:
    if learning.loss == "logit_adjusted":
        return logit_adjusted(counts, learning.adjustment)
    if learning.loss == "focal":
        return focal(learning.focal_gamma)
    if learning.known_classes_only and not bool(counts.all()):
        return restricted_cross_entropy(counts > 0)
    return functional.cross_entropy
