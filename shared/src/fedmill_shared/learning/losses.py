# SPDX-License-Identifier: Apache-2.0
"""Losses, each a function ``(outputs, targets) -> scalar`` for one batch."""

from collections.abc import Callable

import torch
from torch.nn import functional

from fedmill_shared.job import Job

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
UNKNOWN = -1e9


def make_loss(job: Job, *, known: torch.Tensor, scale: float) -> Loss:
    """The loss that the job names.

    Args:
        job: its task and ``learning.loss`` decide.
        known: bool (classes,), the classes the agent has labels for.
        scale: standard deviation of the regression target; errors count in units of it, so that a
            learning rate means the same in cycles and in microns.
    """
    if job.job.task == "classification":
        if job.learning.known_classes_only and not bool(known.all()):
            return restricted_cross_entropy(known)
        return functional.cross_entropy
    if job.learning.loss == "huber":
        return lambda outputs, targets: functional.huber_loss(
            outputs[:, 0] / scale, targets / scale
        )
    return lambda outputs, targets: functional.mse_loss(outputs[:, 0] / scale, targets / scale)


def restricted_cross_entropy(known: torch.Tensor) -> Loss:
    """Cross entropy over the classes the agent knows.

    An agent without examples of a class would otherwise push its logit down in every step and
    undo what another plant has taught: Li & Zhan, "FedRS", KDD 2021, with restriction 0.

    Args:
        known: bool (classes,), the classes that have local labels.
    """
    mask = torch.where(known, 0.0, UNKNOWN)
    return lambda outputs, targets: functional.cross_entropy(outputs + mask, targets)
