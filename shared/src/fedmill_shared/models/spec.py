# SPDX-License-Identifier: Apache-2.0
"""What an architecture must know of a job: how wide, how long, how many outputs. No torch."""

from dataclasses import dataclass

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape of a job's windows and outputs.

    Attributes:
        signals: rows of the model's input, for the network and for the regime together: signals, or
            features of them.
        inputs: positions of the rows that feed the network.
        regime_signals: positions of the rows that choose the operating condition; empty unless
            the job normalises by regime.
        regimes: operating conditions of the normaliser, 1 where it has only one.
        length: values of each row.
        outputs: logits, one per class, or 1 for a regression or the error of a reconstruction.
        regression: whether the output is a number in the label's unit.
    """

    signals: int
    inputs: tuple[int, ...]
    regime_signals: tuple[int, ...]
    regimes: int
    length: int
    outputs: int
    regression: bool


def spec_of(job: Job, regimes: int = 1) -> ModelSpec:
    """The spec of ``job`` whose normaliser knows ``regimes`` operating conditions.

    Raises:
        ModelError: the job has nothing to learn from, nothing to predict, or no such regimes.
    """
    name = f"job {job.name!r}"
    by_regime = job.window.normalise == "regime"
    if not job.inputs:
        raise ModelError(
            f"{name}: no signal has role 'input'", remedy="give at least one signal that role"
        )
    if job.outputs == 0:
        raise ModelError(
            f"{name}: labels.classes is empty",
            remedy="list the classes, or set task = 'regression'",
        )
    if by_regime and not job.regimes:
        raise ModelError(
            f"{name}: window.normalise is 'regime', but no signal has role 'regime'",
            remedy="mark the signals that tell the operating condition, or use 'global'",
        )
    if regimes < 1 or (regimes > 1 and not by_regime):
        raise ModelError(
            f"{name}: {regimes} operating conditions do not fit window.normalise = "
            f"{job.window.normalise!r}",
            remedy="only 'regime' knows more than one",
        )
    return ModelSpec(
        signals=len(job.channels),
        inputs=tuple(job.inputs),
        regime_signals=tuple(job.regimes) if by_regime else (),
        regimes=regimes,
        length=job.input_length,
        outputs=job.outputs,
        regression=job.job.task == "regression",
    )
