# SPDX-License-Identifier: Apache-2.0
"""Whether int8 outputs are as good as those of float32: one rule, and its figures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.job import Job

LEAST_GAIN = 0.1
"""Share of the time that int8 must save."""
LEAST_AGREEMENT = 0.995
"""Share of windows of which both must name the same class, where no truth is known."""
MOST_DEVIATION = 0.05
"""Root mean square of the difference of outputs, over the standard deviation of float32's."""
MOST_LOSS = 0.005
"""Share of labelled windows by which int8 may be worse; of numbers, of the mean error."""

Outputs = NDArray[np.float32]
Errors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """``reason`` says why int8 is not taken, with the figures; empty where it may be."""

    reason: str
    figures: dict[str, float]


def of_speed(plain_ms: float, int8_ms: float, batch: int) -> Judgement:
    """By the medians of how long both take for ``batch`` windows, in milliseconds."""
    figures = {"plain_ms": plain_ms, "int8_ms": int8_ms, "batch": float(batch)}
    if int8_ms <= (1.0 - LEAST_GAIN) * plain_ms:
        return Judgement("", figures)
    reason = (
        f"{int8_ms:.4g} ms for {batch} windows, float32 {plain_ms:.4g} ms: less than "
        f"{100 * LEAST_GAIN:g} % faster"
    )
    return Judgement(reason, figures)


def of_outputs(
    job: Job, plain: Outputs, int8: Outputs, errors: tuple[Errors, Errors] | None
) -> Judgement:
    """By outputs (n, k) for the same windows, and ``errors`` (n,) of both where truth is known."""
    figures = {"windows": float(len(plain))}
    if not np.isfinite(int8).all():
        return Judgement("an output is no number", figures)
    spread = float(plain.astype(np.float64).std())
    difference = float(np.sqrt(np.mean((int8.astype(np.float64) - plain) ** 2)))
    figures["deviation"] = difference / spread if spread else float(difference > 0.0)
    if figures["deviation"] > MOST_DEVIATION:
        reason = (
            f"outputs differ by {figures['deviation']:.3g} of their spread on {len(plain)} "
            f"windows, at most {MOST_DEVIATION:g}"
        )
        return Judgement(reason, figures)
    if job.job.task == "classification":
        figures["agreement"] = float(np.mean(int8.argmax(1) == plain.argmax(1)))
    if errors is not None:
        return _of_errors(job, *errors, figures)
    if figures.get("agreement", 1.0) < LEAST_AGREEMENT:
        reason = (
            f"it names another class for {1.0 - figures['agreement']:.2%} of {len(plain)} "
            f"windows, at most {1.0 - LEAST_AGREEMENT:.2%}"
        )
        return Judgement(reason, figures)
    return Judgement("", figures)


def _of_errors(job: Job, plain: Errors, int8: Errors, figures: dict[str, float]) -> Judgement:
    figures |= {"plain_error": float(plain.mean()), "int8_error": float(int8.mean())}
    allowed = MOST_LOSS * (1.0 if job.job.task == "classification" else figures["plain_error"])
    if figures["int8_error"] - figures["plain_error"] <= allowed:
        return Judgement("", figures)
    reason = (
        f"its error on {len(plain)} labelled windows is {figures['int8_error']:.4g}, that of "
        f"float32 {figures['plain_error']:.4g}: worse by more than {allowed:.3g}"
    )
    return Judgement(reason, figures)
