# SPDX-License-Identifier: Apache-2.0
"""Windows with their ground truth, as tensors."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.job import Job


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows with their ground truth.

    Attributes:
        inputs: float32 (examples, signals, length), canonical units.
        targets: int64 (examples,) class positions, or float32 (examples,) numbers: zeros where
            there is nothing to learn but the inputs.
        last: bool (examples,), whether it is the last window of its run.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    last: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)


def make_examples(
    job: Job,
    inputs: NDArray[np.float32],
    texts: list[str],
    numbers: NDArray[np.float64],
    runs: list[str],
) -> Examples:
    """Examples from stored windows, run after run; numbers are capped as the job says.

    A reconstruction looks at neither texts nor numbers.

    Raises:
        DataError: a label is not one of the job's classes.
    """
    if not job.needs_labels:
        targets = torch.zeros(len(inputs))
    elif job.job.task == "regression":
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


def label_counts(job: Job, examples: Examples) -> torch.Tensor:
    """int64 (classes,) examples of each class, (1,) without classes. It never leaves the agent."""
    if job.job.task == "classification":
        return torch.bincount(examples.targets, minlength=job.outputs)
    return torch.tensor([len(examples)])
