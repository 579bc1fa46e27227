# SPDX-License-Identifier: Apache-2.0
"""Error feedback: what a lossy codec drops from one delta is added to the next.

Without it, small but steady components of the delta are rounded away in every round and never
reach the model; with it, a biased codec converges at the rate of uncompressed SGD. Introduced by
Seide et al. 2014 ("1-bit stochastic gradient descent", Interspeech), proved by Karimireddy et al.
2019 ("Error feedback fixes SignSGD", arXiv:1901.09847).

The residual is a transaction of two steps, because an update that was sent may still be refused::

    compensated = compensate(delta, residual)      # send its encoding, keep decoded = decode(...)
    residual = carry(compensated, decoded)         # on disk, before the next training

If the round's result lists the update as included, that was all. An update that was late, lost or
refused changed no model: what was sent, ``decoded``, is added back to the residual, and nothing
that was learned is lost. A change of schema drops the residual. Error feedback and differential
privacy exclude each other: the residual would leak past the clipping bound.
"""

import numpy as np

from fedmill_shared.codec.base import Vector
from fedmill_shared.errors import ModelError


def compensate(delta: Vector, residual: Vector | None) -> Vector:
    """``delta`` (n,) plus what earlier rounds dropped, (n,); ``None`` means nothing.

    Raises:
        ModelError: the residual belongs to a model of another size.
    """
    return delta.copy() if residual is None else _combined(np.add, delta, residual)


def carry(compensated: Vector, decoded: Vector) -> Vector:
    """What the codec dropped: ``compensated`` (n,) minus what the receiver ``decoded`` (n,).

    Raises:
        ModelError: the two differ in size.
    """
    return _combined(np.subtract, compensated, decoded)


def _combined(operation: np.ufunc, left: Vector, right: Vector) -> Vector:
    if left.shape != right.shape:
        raise ModelError(
            f"error feedback: {left.shape} and {right.shape} elements belong to different models",
            remedy="drop the stored residual when the model changes",
        )
    # An overflow becomes infinity here, and encode_frame refuses it with a remedy.
    with np.errstate(over="ignore"):
        result: Vector = operation(left, right)
    return result
