# SPDX-License-Identifier: Apache-2.0
"""Principal components in a model version's vector: written on the coordinator, read by everybody.

Dunia & Qin's "combined" index is in Yue & Qin, "Reconstruction-Based Fault Identification Using a
Combined Index", Ind. Eng. Chem. Res. 40 (2001) 4403, with its limit by Box.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import DataError, ModelError
from fedmill_shared.job import Job, Pca
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.sharing import shared_roles
from fedmill_shared.monitoring.components import ROUNDING, Components, fit
from fedmill_shared.monitoring.contributions import decomposed, index_matrix
from fedmill_shared.monitoring.limits import box_limit, t2_limit
from fedmill_shared.monitoring.scatter import Numbers, of_moments

Vector = NDArray[np.float32]

MANY = 1 << 40
"""Rows where nobody says how many there were: the limits are those of theory."""


@dataclass(frozen=True, slots=True, eq=False)
class Monitor:
    """What a version says of rows of d inputs; ``Components`` as the coordinator rounded them.

    Attributes:
        mean: float64 (d,).
        loadings: float64 (d, d), a component in each row.
        weights: float64 (2, d), of the squared scores in T2 and in Q, each over its limit.
        eigenvalues: float64 (d,).
        limits: of T2 and of Q; with ``statistic = "combined"`` of their sum and nothing.
        kept: components in T2; 0 before the first round.
    """

    mean: Numbers
    loadings: Numbers
    weights: Numbers
    eigenvalues: Numbers
    limits: tuple[float, float]
    kept: int

    def distances(self, rows: NDArray[np.floating]) -> Numbers:
        """Float64 (n, 2) of standardised ``rows`` (n, d): T2 and Q over their limits."""
        scores = (rows.astype(np.float64) - self.mean) @ self.loadings.T
        distances: Numbers = scores**2 @ self.weights.T
        return distances

    def contributions(self, rows: NDArray[np.floating]) -> Numbers:
        """Float64 (n, d): what each input gives to the larger of both; rows sum to it."""
        deviations = rows.astype(np.float64) - self.mean
        within, beside = (
            decomposed(index_matrix(self.loadings, weights), deviations) for weights in self.weights
        )
        larger = self.distances(rows).argmax(1) == 0
        return np.where(larger[:, None], within, beside)


def completed(
    job: Job, manifest: Manifest, base: Vector, delta: Vector, examples: int = 0
) -> Vector:
    """``delta`` (learned,) of moments with the change of all that follows from them.

    Args:
        job: its model says how many components are kept, ``[monitoring]`` what the limits are.
        manifest: layout of ``base``.
        base: float32 (size,), the version that ``delta`` is against.
        delta: the round's weighted mean; zero but for the moments.
        examples: windows behind it; 0: not known.

    Raises:
        ModelError: the moments are none of numbers that vary.
    """
    roles = shared_roles(job)
    before = manifest.gather(base, roles)
    moved = manifest.scatter(base, before + delta, roles)
    tensors = manifest.views(moved)
    mean, second = (tensors[name].astype(np.float64) for name in ("backbone.mean", _SECOND))
    model = job.model
    if not isinstance(model, Pca):
        raise ModelError(f"job {job.name!r}: its model has no principal components")
    try:
        scatter = of_moments(examples or MANY, mean, second)
        found = fit(scatter, explained=model.explained, kept=model.components)
        limits, weights = _weighed(model, found, job.monitoring.false_alarms)
    except DataError as error:
        raise ModelError(f"job {job.name!r}: {error.message}", remedy=error.remedy) from error
    tensors["head.loadings"][:] = found.loadings
    tensors["head.weights"][:] = weights
    tensors["head.eigenvalues"][:] = found.eigenvalues
    tensors["head.limits"][:] = limits
    tensors["head.kept"][:] = found.kept
    after = manifest.gather(moved, roles).astype(np.float64)
    return (after - before).astype(np.float32)


def read(manifest: Manifest, vector: Vector) -> Monitor:
    """The principal components in ``vector`` (size,).

    Raises:
        ModelError: it is not the vector of such a model.
    """
    tensors = {name: view.astype(np.float64) for name, view in manifest.views(vector).items()}
    inputs = tensors["backbone.mean"].size if "backbone.mean" in tensors else 0
    shapes = {name: view.shape for name, view in tensors.items()}
    if not _shapes(inputs).items() <= shapes.items():
        raise ModelError("this version has no principal components in it")
    first, second = tensors["head.limits"]
    return Monitor(
        mean=tensors["backbone.mean"],
        loadings=tensors["head.loadings"],
        weights=tensors["head.weights"],
        eigenvalues=tensors["head.eigenvalues"],
        limits=(float(first), float(second)),
        kept=int(tensors["head.kept"][0]),
    )


_SECOND = "backbone.second"


def _shapes(inputs: int) -> Mapping[str, tuple[int, ...]]:
    """Tensors of such a version that are read here, with their shapes."""
    return {
        "backbone.mean": (inputs,),
        "head.loadings": (inputs, inputs),
        "head.weights": (2, inputs),
        "head.eigenvalues": (inputs,),
        "head.limits": (2,),
        "head.kept": (1,),
    }


def _weighed(
    model: Pca, found: Components, false_alarms: float
) -> tuple[tuple[float, float], Numbers]:
    """Limits of both distances, and the weights (2, d) that bring them to 1 at their limits."""
    each = false_alarms / 2 if model.statistic == "larger" else false_alarms
    left = found.eigenvalues[found.kept :]
    count = found.count if found.count < MANY else 0
    t2 = t2_limit(found.kept, each, count)
    # What is left of inputs that go exactly together is rounding, and no reason for an alarm.
    q = max(box_limit(left, each), ROUNDING * found.eigenvalues.size)
    within, beside = found.t2_weights / t2, found.q_weights / q
    nothing = np.zeros_like(within)
    match model.statistic:
        case "t2":
            return (t2, 0.0), np.stack([within, nothing])
        case "q":
            return (0.0, q), np.stack([nothing, beside])
        case "combined":
            limit = box_limit((within + beside) * found.eigenvalues, each)
            return (limit, 0.0), np.stack([(within + beside) / limit, nothing])
        case _:
            return (t2, q), np.stack([within, beside])
