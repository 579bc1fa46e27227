# SPDX-License-Identifier: Apache-2.0
"""What an agent does with its windows in one round, and how it scores a version on them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from fedmill_shared.errors import DataError, ModelError
from fedmill_shared.job import Job
from fedmill_shared.learning.losses import Loss, make_loss
from fedmill_shared.learning.optimisers import learning_rate, make_optimiser
from fedmill_shared.metrics import Statistic, of_classes, of_numbers
from fedmill_shared.models.flat import FlatModel

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows with their ground truth.

    Attributes:
        inputs: float32 (examples, signals, length), canonical units.
        targets: int64 (examples,) class positions, or float32 (examples,) numbers.
        last: bool (examples,), whether it is the last window of its run.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    last: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What one round of local work gave: a delta (elements,), its weight, mean loss, steps."""

    delta: NDArray[np.float32]
    examples: int
    loss: float
    steps: int


def make_examples(
    job: Job,
    inputs: NDArray[np.float32],
    texts: list[str],
    numbers: NDArray[np.float64],
    runs: list[str],
) -> Examples:
    """Examples from stored windows, run after run; numbers are capped as the job says.

    Raises:
        DataError: a label is not one of the job's classes.
    """
    if job.job.task == "regression":
        values = np.minimum(numbers, job.labels.cap) if job.labels.cap else numbers
        targets = torch.from_numpy(values.astype(np.float32))
    else:
        position = {name: i for i, name in enumerate(job.labels.classes)}
        foreign = sorted(set(texts) - position.keys())
        if foreign:
            raise DataError(
                f"job {job.name}: label {foreign[0]!r} is not one of labels.classes "
                f"({', '.join(job.labels.classes)})",
                remedy="add the class to the job file or correct the label at its source",
            )
        targets = torch.tensor([position[text] for text in texts], dtype=torch.int64)
    last = [run != following for run, following in pairwise([*runs, None])]
    return Examples(torch.from_numpy(inputs), targets, torch.tensor(last, dtype=torch.bool))


def train(model: FlatModel, job: Job, examples: Examples, *, round_: int, seed: int) -> LocalResult:
    """One round of local work from the weights in ``model``, which is left at the new weights.

    FedAvg's ``ClientUpdate`` (McMahan et al. 2017, algorithm 1): ``epochs`` passes or ``steps``
    steps of the job's optimiser. Under ``fedsgd`` the delta is minus the gradient over all
    examples.

    Raises:
        DataError: there are no examples.
        ModelError: the loss or a weight became infinite or NaN.
    """
    if len(examples) == 0:
        raise DataError(f"job {job.name}: no labelled training windows")
    model.module.train()
    loss = make_loss(job, known=_known(job, examples), scale=_scale(model))
    before = model.learned.clone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        if job.federation.rule == "fedsgd":
            value, steps = _full_gradient(model, examples, loss), 1
            delta = -model.gradient
        else:
            value, steps = _descend(model, job, examples, loss, round_=round_, seed=seed)
            delta = model.learned - before
    array: NDArray[np.float32] = delta.detach().numpy().copy()
    if not (math.isfinite(value) and np.isfinite(array).all()):
        raise ModelError(
            f"job {job.name}: round {round_} diverged, the loss or a weight is no longer finite",
            remedy="lower learning.learning_rate",
        )
    return LocalResult(array, len(examples), value, steps)


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
    return of_numbers(outputs[:, 0], targets.astype(np.float64))


def _descend(
    model: FlatModel, job: Job, examples: Examples, loss: Loss, *, round_: int, seed: int
) -> tuple[float, int]:
    learning = job.learning
    optimiser = make_optimiser(learning)
    weights = model.learned[: model.trainable]
    gradient = model.gradient[: model.trainable]
    state = optimiser.init(weights)
    rate = learning_rate(learning, round_, job.federation.rounds)
    total = torch.zeros(())
    steps = 0
    for batch in _batches(job, len(examples), seed):
        model.gradient.zero_()
        value = loss(model.module(examples.inputs[batch]), examples.targets[batch])
        value.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            optimiser.step(weights, gradient, state, rate)
        total += value.detach()
        steps += 1
    return float(total) / max(1, steps), steps


def _batches(job: Job, examples: int, seed: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size, left = job.learning.batch_size, job.learning.steps
    epochs = job.learning.epochs if not left else left * size // examples + 1
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(examples, generator=generator), size):
            yield batch
            left -= 1
            if left == 0:
                return


def _full_gradient(model: FlatModel, examples: Examples, loss: Loss) -> float:
    model.gradient.zero_()
    total = 0.0
    for inputs, targets in zip(
        torch.split(examples.inputs, EVALUATION_BATCH),
        torch.split(examples.targets, EVALUATION_BATCH),
        strict=True,
    ):
        value = loss(model.module(inputs), targets) * (len(inputs) / len(examples))
        value.backward()  # type: ignore[no-untyped-call]
        total += float(value.detach())
    return total


def _known(job: Job, examples: Examples) -> torch.Tensor:
    known = torch.zeros(max(1, job.outputs), dtype=torch.bool)
    if job.job.task == "classification":
        known[examples.targets] = True
    return known


def _scale(model: FlatModel) -> float:
    return float(getattr(model.module, "target_scale", 1.0))
