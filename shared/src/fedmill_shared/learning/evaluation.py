# SPDX-License-Identifier: Apache-2.0
"""How an agent scores a model on its windows."""

import numpy as np
import torch
from numpy.typing import NDArray

from fedmill_shared.job import Job
from fedmill_shared.learning.descent import EVALUATION_BATCH
from fedmill_shared.learning.examples import Examples
from fedmill_shared.metrics import Statistic, of_classes, of_errors, of_numbers
from fedmill_shared.models.flat import FlatModel


def predict(model: FlatModel, inputs: torch.Tensor) -> NDArray[np.float32]:
    """Outputs (examples, outputs) in evaluation mode."""
    parts = torch.split(inputs, EVALUATION_BATCH)
    return np.concatenate([model.predict(part.numpy()) for part in parts])


def evaluate(model: FlatModel, job: Job, examples: Examples) -> tuple[Statistic, Statistic]:
    """Sufficient statistics on all ``examples``, and on the last one of each run; both may be 0."""
    if len(examples) == 0:
        outputs = np.zeros((0, job.outputs), np.float32)
    else:
        outputs = predict(model, examples.inputs)
    targets, last = examples.targets.numpy(), examples.last.numpy()
    return _score(job, outputs, targets), _score(job, outputs[last], targets[last])


def _score(job: Job, outputs: NDArray[np.float32], targets: NDArray[np.generic]) -> Statistic:
    if job.job.task == "classification":
        return of_classes(outputs, targets.astype(np.int64))
    if job.job.task == "reconstruction":
        return of_errors(outputs[:, 0])
    return of_numbers(outputs[:, 0], targets.astype(np.float64))
