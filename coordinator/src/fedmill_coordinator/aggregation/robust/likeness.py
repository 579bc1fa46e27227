# SPDX-License-Identifier: Apache-2.0
"""Who stands apart in a round.

What a rule gives an update is no measure of trust: Krum takes one update and means no harm to the
others, and the geometric median gives a shortened update that points backwards almost its full
share. What tells is the cosine between an update and what the others came to. Alone it says little:
among honest plants that differ it is often negative, for what one of them learns the others forget,
and towards the end of a training it is negative for most. So it is compared with the cosines of the
round: an update stands apart as far as its cosine is below the middle one, counted in their spread
(1.4826 times the median absolute deviation: the standard deviation of a normal distribution).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedmill_coordinator.aggregation.robust.base import Judgement, Numbers, Scene, einsum

_FITS = 2.0  # spreads below the middle up to which an update is trusted in full
_STRANGE = 4.0  # and from which on it is not at all
_LEAST_SPREAD = 0.05


def with_likeness(scene: Scene, judgement: Judgement) -> Judgement:
    """``judgement`` of ``scene`` with likeness and trust, unless the rule told them itself."""
    if judgement.likeness is not None and judgement.trust is not None:
        return judgement
    coefficients, anchor = judgement.coefficients, judgement.anchor
    products = einsum("ij,j->i", scene.gram, coefficients)
    square = float(einsum("i,i->", coefficients, products))
    if scene.anchor is not None:
        between = float(einsum("i,i->", coefficients, scene.anchor[:-1]))
        square += 2 * anchor * between + anchor**2 * float(scene.anchor[-1])
        products += anchor * scene.anchor[:-1]
    cosines = likeness(np.append(products, square), np.diagonal(scene.gram), coefficients)
    return replace(judgement, likeness=cosines, trust=trust_of(cosines, scene.weights > 0))


def compared(products: Numbers, squares: Numbers, weights: Numbers) -> Judgement:
    """What can be said of the updates where the rule works by columns, and judges nobody.

    Args:
        products: (n + 1,) inner products of the result with each update, and with itself, such as
            ``gram.products`` gives.
        squares: (n,) squared lengths of the updates, after the clip.
        weights: (n,) as of a scene.
    """
    # Nobody's own part in the result can be told.
    cosines = likeness(products, squares, np.zeros_like(weights))
    told = np.nan_to_num(cosines)
    trust = trust_of(cosines, weights > 0)
    return Judgement(weights, told, "cosine to the others", likeness=cosines, trust=trust)


def likeness(products: Numbers, squares: Numbers, coefficients: Numbers) -> Numbers:
    """Cosine (n,) of each update to what the others brought to a sum; parameters as ``compared``.

    NaN where the others brought nothing, 0 where the update itself is zero.
    """
    own = coefficients**2 * squares
    rest = products[-1] - 2 * coefficients * products[:-1] + own
    # What rounding leaves of a sum that was one update alone points nowhere.
    rest[rest <= 1e-6 * (products[-1] + own)] = np.nan
    lengths = np.sqrt(squares * rest)
    dots = products[:-1] - coefficients * squares
    cosines = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths != 0)
    return np.asarray(np.clip(cosines, -1.0, 1.0))


def trust_of(cosines: Numbers, counts: NDArray[np.bool_]) -> Numbers:
    """Trust (n,) from 0 to 1 that follows from the ``cosines`` (n,) of those that count.

    1 where there is nothing to compare with.
    """
    told = cosines[counts & ~np.isnan(cosines)]
    if told.size == 0:
        return np.ones_like(cosines)
    middle = float(np.median(told))
    spread = max(_LEAST_SPREAD, 1.4826 * float(np.median(np.abs(told - middle))))
    gaps = np.nan_to_num((middle - cosines) / spread, nan=0.0)
    return np.asarray(np.clip((_STRANGE - gaps) / (_STRANGE - _FITS), 0.0, 1.0))
