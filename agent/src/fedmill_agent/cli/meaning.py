# SPDX-License-Identifier: Apache-2.0
"""What a model's outputs say, in the words of its job."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities
from fedmill_agent.sources.timeline import utc

__all__ = ["meaning", "quantity", "utc"]


def meaning(
    outputs: NDArray[np.float32], classes: Sequence[str], unit: str
) -> dict[str, str | float]:
    """``outputs`` (k,) as ``class`` and ``probability``, or as ``value`` and ``unit``.

    Args:
        outputs: one logit for each class, or one number.
        classes: meaning of the logits; empty for a regression.
        unit: unit of a regression's number.
    """
    if not classes:
        return {"value": float(outputs[0]), "unit": unit}
    best = int(outputs.argmax())
    return {"class": classes[best], "probability": float(probabilities(outputs)[best])}


def quantity(value: float, unit: str) -> str:
    """``value`` with its unit, for people; the unit 1 is none."""
    return f"{value:.6g} {unit}" if unit != "1" else f"{value:.6g}"
