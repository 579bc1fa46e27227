# SPDX-License-Identifier: Apache-2.0
"""What a model's outputs say, in the words of its job."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
    shares = np.exp(outputs - outputs.max())
    best = int(outputs.argmax())
    return {"class": classes[best], "probability": float(shares[best] / shares.sum())}


def utc(time_ns: int) -> str:
    """``time_ns``, ns UTC, as ISO 8601 to the millisecond."""
    return f"{np.datetime_as_string(np.datetime64(time_ns, 'ns'), unit='ms')}Z"
