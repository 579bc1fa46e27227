# SPDX-License-Identifier: Apache-2.0
"""Principal components, and how far a row lies from what they say: T2 within them, Q beside them.

Hotelling, "Analysis of a complex of statistical variables into principal components", J. Educ.
Psych. 24 (1933) 417; T2 and Q in monitoring: Jackson & Mudholkar, "Control Procedures for Residuals
Associated With Principal Component Analysis", Technometrics 21 (1979) 341. Inputs are scaled to
unit variance first, so that the components are those of the correlations.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import DataError
from fedmill_shared.monitoring.scatter import Numbers, Scatter

ROUNDING = 1e-6
"""Share of the variance of one input below which an eigenvalue is rounding (of float32 moments)."""
_CONSTANT = 1e-9  # variance of an input, in fleet deviations, that is rounding as well


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """A fitted model of d inputs.

    Attributes:
        mean: float64 (d,).
        loadings: float64 (d, d), a component in each row, largest variance first: the scores of x
            are ``loadings @ (x - mean)``. The scaling to unit variance is in them; an input that is
            constant has none.
        eigenvalues: float64 (d,), variances of the scores, not negative.
        kept: components that T2 is made of, at least 1; Q is made of the others.
        count: rows that it was fitted to; 0: not known, and many.
    """

    mean: Numbers
    loadings: Numbers
    eigenvalues: Numbers
    kept: int
    count: int

    @property
    def t2_weights(self) -> Numbers:
        """Float64 (d,): T2 is the sum of the squared scores, each times its weight."""
        weights = np.zeros_like(self.eigenvalues)
        weights[: self.kept] = 1.0 / np.maximum(self.eigenvalues[: self.kept], ROUNDING)
        return weights

    @property
    def q_weights(self) -> Numbers:
        """Float64 (d,): Q is the sum of the squared scores, each times its weight."""
        return (np.arange(self.eigenvalues.size) >= self.kept).astype(np.float64)

    def scores(self, rows: NDArray[np.floating]) -> Numbers:
        """Float64 (n, d) of ``rows`` (n, d)."""
        scores: Numbers = (rows.astype(np.float64) - self.mean) @ self.loadings.T
        return scores

    def t2(self, rows: NDArray[np.floating]) -> Numbers:
        """Hotelling's T2 (n,) of ``rows`` (n, d): how far within the kept components."""
        total: Numbers = self.scores(rows) ** 2 @ self.t2_weights
        return total

    def q(self, rows: NDArray[np.floating]) -> Numbers:
        """Q, or SPE (n,), of ``rows`` (n, d): the squared length of what the kept ones leave."""
        total: Numbers = self.scores(rows) ** 2 @ self.q_weights
        return total


def fit(scatter: Scatter, *, explained: float = 0.9, kept: int = 0) -> Components:
    """Principal components of what ``scatter`` was made of.

    Args:
        scatter: statistics of the rows.
        explained: as few components are kept as have this share of the variance, 0 < e <= 1.
        kept: so many are kept instead; 0: by ``explained``. Never more than vary at all.

    Raises:
        DataError: there are fewer than two rows, or nothing varies.
    """
    covariance = scatter.covariance()
    variances = np.diag(covariance)
    varies = variances > np.maximum(_CONSTANT, ROUNDING * scatter.mean**2)
    if not varies.any():
        raise DataError(
            "monitoring: no input varies, so there is nothing to compare with",
            remedy="look at the signals with `fedmill-agent check`",
        )
    scale = np.where(varies, 1.0 / np.sqrt(np.where(varies, variances, 1.0)), 0.0)
    eigenvalues, vectors = np.linalg.eigh(covariance * np.outer(scale, scale))
    eigenvalues = np.maximum(eigenvalues[::-1], 0.0)
    loadings = _signed(vectors[:, ::-1].T) * scale
    most = max(1, int((eigenvalues > ROUNDING).sum()))
    wanted = kept or enough(eigenvalues, explained)
    return Components(scatter.mean, loadings, eigenvalues, min(wanted, most), scatter.count)


def enough(eigenvalues: Numbers, explained: float) -> int:
    """The fewest of the sorted ``eigenvalues`` (d,) whose sum is the share ``explained`` of all."""
    shares = np.cumsum(eigenvalues) / eigenvalues.sum()
    return min(int(np.searchsorted(shares, explained - 1e-12)) + 1, eigenvalues.size)


def _signed(rows: Numbers) -> Numbers:
    """``rows`` (d, d), each with the sign that makes its largest element positive."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return rows * np.where(largest < 0, -1.0, 1.0)
