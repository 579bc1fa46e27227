# SPDX-License-Identifier: Apache-2.0
"""A class that the federated head does not know yet, from a few labels: the mean of its windows.

Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017,
arXiv:1703.05175: the squared distance to a class's mean is a linear layer, with weights 2 mu and
bias -|mu|^2. Such rows put beside the rows of a head that was trained otherwise: Qi, Brown & Lowe,
"Low-Shot Learning with Imprinted Weights", CVPR 2018, arXiv:1712.07136. Their logits have another
size than the head's, so one scale and one offset are fitted, by the labels and by what the head
says of unlabelled windows: two numbers, however wide the features are.
"""

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.probabilities import probabilities

Matrix = NDArray[np.float64]
Classes = NDArray[np.intp]

KNOWN = 0.5
"""A class is known where the head is right on so much of its labels; its row stays as it is."""
SHRINKAGE = 1.0
"""Labels that the mean of the windows counts for which the head itself calls this class."""
SCALES = np.exp(np.linspace(-3.0, 1.5, 10))
OFFSETS = np.linspace(-30.0, 30.0, 31)


def unknown(seen: Classes, classes: Classes, outputs: int) -> Classes:
    """The classes (k,) with labels most of which the head, which says ``seen`` (n,), misses."""
    labelled = np.bincount(classes, minlength=outputs)
    right = np.bincount(classes[seen == classes], minlength=outputs)
    return np.flatnonzero((labelled > 0) & (right < KNOWN * labelled))


def fit(rows: Matrix, targets: Matrix, weights: Matrix, *, labelled: int, anchor: Matrix) -> Matrix:
    """The layer (d, classes): ``anchor`` with rows of prototypes for classes that it misses.

    Args:
        rows: (n, d), scaled, the last column 1.
        targets: (n, classes): of a labelled window its class, else what the head says.
        weights: (n,), how many examples each row counts.
        labelled: how many of the rows, the first ones, have labels.
        anchor: (d, classes), the head.
    """
    logits = rows @ anchor
    seen, classes = logits.argmax(1), targets[:labelled].argmax(1)
    new = unknown(seen[:labelled], classes, anchor.shape[1])
    if not len(new):
        return anchor
    named = np.concatenate([classes, np.full(len(rows) - labelled, -1)])
    layers = np.stack(
        [_prototype(rows, weights, named == each, (named < 0) & (seen == each)) for each in new], 1
    )
    scale, offset = _size(logits, rows @ layers, new, targets * weights[:, None])
    fitted = anchor.copy()
    fitted[:, new] = scale * layers
    fitted[-1, new] += offset
    return fitted


def _size(logits: Matrix, distances: Matrix, new: Classes, wanted: Matrix) -> tuple[float, float]:
    """Scale and offset of ``distances`` (n, k) in place of the logits of the classes ``new``.

    ``wanted`` (n, classes) are targets times weights.
    """
    spread = float(np.std(distances))
    usual = float(np.std(logits)) / spread if spread > 0.0 else 1.0
    candidate, best, least = logits.copy(), (usual, 0.0), np.inf
    for scale in usual * SCALES:
        for offset in OFFSETS:
            candidate[:, new] = scale * distances + offset
            told = np.log(np.maximum(probabilities(candidate), 1e-300))
            missed = -float((wanted * told).sum())
            if missed < least:
                best, least = (float(scale), float(offset)), missed
    return best


def _prototype(
    rows: Matrix, weights: Matrix, named: NDArray[np.bool_], seen: NDArray[np.bool_]
) -> Matrix:
    """The layer (d,) of the mean of the rows ``named`` so, drawn to the mean of those ``seen`` so.

    What does not look the same to every class, |x|^2, falls out of the comparison.
    """
    mean, count = rows[named, :-1].mean(0), float(weights[named].sum())
    if seen.any():
        mean = (count * mean + SHRINKAGE * rows[seen, :-1].mean(0)) / (count + SHRINKAGE)
    return np.append(2.0 * mean, -float(mean @ mean))
