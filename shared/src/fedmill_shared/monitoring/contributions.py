# SPDX-License-Identifier: Apache-2.0
"""Which inputs a statistic comes from.

Alcala & Qin, "Reconstruction-based contribution for process monitoring", Automatica 45 (2009) 1593,
and "Analysis and generalization of fault diagnosis methods for process monitoring", Journal of
Process Control 21 (2011) 322. Every statistic is x^T M x with a matrix of its own: here that of
``loadings`` and one weight for each component, M = L^T W L.
"""

import numpy as np

from fedmill_shared.monitoring.scatter import Numbers


def index_matrix(loadings: Numbers, weights: Numbers) -> Numbers:
    """M (d, d) of the statistic that is the weighted sum of squared scores; both by component."""
    matrix: Numbers = (loadings.T * weights) @ loadings
    return matrix


def decomposed(matrix: Numbers, deviations: Numbers) -> Numbers:
    """Complete decomposition (n, d): what each input gives, never negative; rows sum to x^T M x.

    ``deviations`` (n, d) are x less the mean. Of input i it is the square of row i of M^(1/2) x.
    """
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T
    parts: Numbers = (deviations @ root) ** 2
    return parts


def reconstruction_based(matrix: Numbers, deviations: Numbers) -> Numbers:
    """By how much the statistic falls (n, d) where input i is set to what suits the others best.

    A fault of one input that is large enough is always largest here, which the decomposition does
    not promise. 0 for inputs that the statistic does not look at.
    """
    own = np.diag(matrix)
    looked_at = own > 0
    fall: Numbers = (deviations @ matrix) ** 2 / np.where(looked_at, own, 1.0)
    return np.where(looked_at, fall, 0.0)
