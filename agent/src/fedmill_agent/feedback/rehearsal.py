# SPDX-License-Identifier: Apache-2.0
"""What keeps a head from forgetting the classes that nobody labels.

Li & Hoiem, "Learning without Forgetting", ECCV 2016, arXiv:1606.09282: examples without a label
hold the model to what it said of them before. People label what is unusual, and a head that saw
nothing but cracks would soon call everything a crack. So the agent's own unlabelled windows count
for the classes that the federated head sees in them, as much as a labelled class does; and no
single class outweighs all others by its mere number.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Classes = NDArray[np.intp]

ALWAYS = 0.3
"""Examples that the unlabelled windows of a class count for, however many labels there are."""
CROWD = 20.0
"""Examples of one class that count in full, beside twice the mean over all classes."""


def totals(classes: Classes, weights: Matrix, outputs: int) -> Matrix:
    """Weight of the examples of each class (outputs,)."""
    return np.bincount(classes, weights, outputs).astype(np.float64)


def evened(classes: Classes, weights: Matrix, outputs: int) -> Matrix:
    """``weights`` (n,), less where a class has far more of them than the others."""
    known = totals(classes, weights, outputs)
    most = CROWD + 2.0 * known.mean()
    return np.asarray(weights * np.minimum(1.0, most / np.maximum(known, 1e-12))[classes])


def rehearsed(seen: Classes, labelled: Matrix) -> Matrix:
    """Weights (m,) of unlabelled windows that the federated head calls ``seen`` (m,).

    ``labelled`` (outputs,) is the weight of the labels of each class. None counts more than one
    example.
    """
    known = labelled[labelled > 0.0]
    usual = known.mean() if len(known) else 0.0
    wanted = ALWAYS + np.maximum(0.0, usual - labelled)
    counts = np.bincount(seen, minlength=len(labelled))
    return np.minimum(1.0, (wanted / np.maximum(counts, 1))[seen])
