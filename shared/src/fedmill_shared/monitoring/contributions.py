# SPDX-License-Identifier: Apache-2.0
"""Which inputs a statistic comes from.

Alcala & Qin, "Analysis and generalization of fault diagnosis methods for process monitoring",
Journal of Process Control 21 (2011) 322. Every statistic is x^T M x with a matrix of its own: here
that of ``loadings`` and one weight for each component, M = L^T W L.
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
