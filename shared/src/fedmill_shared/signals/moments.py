# SPDX-License-Identifier: Apache-2.0
"""Standardisation agreed by a whole fleet from counts, means and squared deviations alone.

Agents ``collect`` moments of their training windows, one set for each cell of a grid over the
signals that tell the operating condition; the coordinator ``validate``s, ``merge``s and ``agree``s.
The result equals the statistics of the pooled samples. Pairs of moments combine as in Chan, Golub
and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fedmill_shared.errors import DataError, FrameError
from fedmill_shared.signals.cells import FLOOR, LARGEST, Cells, connected, fold, gather, pool

CELLS = 256
# Cells x signals of one message: 9 bytes for each mean and M2, below the packet limit.
_NUMBERS = 15_000
_MOST = 1 << 40
_BLOCK = 1 << 20  # values handled at a time

Numbers = Annotated[list[float], Meta(max_length=256)]


class Cell(Struct, frozen=True):
    """The samples of one grid cell: how many, and mean and M2 of each signal (signals,).

    ``key`` is round(value / resolution) of each regime signal. M2 is the sum of squared deviations
    from the mean.
    """

    key: Annotated[tuple[int, ...], Meta(max_length=256)]
    count: int
    mean: Numbers
    m2: Numbers


class Moments(Struct, frozen=True):
    """What an agent tells about its training windows, and what several of them come to."""

    cells: Annotated[list[Cell], Meta(max_length=CELLS)]
    target_count: int = 0
    target_mean: float = 0.0
    target_m2: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """The standardisation of a fleet: R regimes, S input signals, K regime signals, all float64.

    Attributes:
        mean: (R, S), canonical units.
        scale: (R, S) population standard deviation, 1 where a signal is constant.
        centroids: (R, K) mean of the regime signals, in the order of the cells' keys.
        resolution: (K,) as the job gives it.
        counts: (R,) samples behind each regime.
        target_offset: mean of the target.
        target_scale: population standard deviation of the target, 1 where it is constant.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    centroids: NDArray[np.float64]
    resolution: NDArray[np.float64]
    counts: NDArray[np.float64]
    target_offset: float
    target_scale: float


def collect(
    inputs: NDArray[np.float32],
    input_positions: Sequence[int],
    regime_positions: Sequence[int],
    resolution: Sequence[float],
    targets: NDArray[np.float64] | None = None,
) -> Moments:
    """Moments of windows ``inputs`` (n, signals, length), and of ``targets`` (n,) if there are any.

    At most 256 cells, fewer for very many signals; what is left over, and every cell with fewer
    than 8 samples, is folded into the nearest other cell. A sample counts where all its input and
    regime signals are finite. Fewer than 8 samples or targets are not told at all: so few would
    give single values away.
    """
    needed = [*input_positions, *regime_positions]
    windows, signals, length = inputs.shape
    block = max(1, _BLOCK // max(1, signals * length))
    found = Cells.empty(len(regime_positions), signals)
    for first in range(0, windows, block):
        samples = inputs[first : first + block].transpose(0, 2, 1).reshape(-1, signals)
        whole = (np.abs(samples[:, needed]) <= LARGEST).all(axis=1)
        part = gather(samples[whole].astype(np.float64), regime_positions, resolution)
        found = fold(pool([found, part]), 4 * CELLS, floor=1)
    found = fold(found, min(CELLS, max(1, _NUMBERS // max(1, signals))), floor=FLOOR)
    if found.count.sum() < FLOOR:
        found = Cells.empty(len(regime_positions), signals)
    numbers = np.zeros(0) if targets is None else targets[np.abs(targets) <= LARGEST]
    if len(numbers) < FLOOR:
        return Moments(_from_table(found))
    target = pool([gather(numbers[:, None].astype(np.float64), [], [])])
    return Moments(
        _from_table(found), len(numbers), float(target.mean[0, 0]), float(target.m2[0, 0])
    )


def merge(reports: Sequence[Moments]) -> Moments:
    """The moments of all samples behind ``reports``, the same in any order up to rounding.

    Raises:
        DataError: reports differ in their number of signals or regime signals.
    """
    told = [cell for report in reports for cell in report.cells]
    cells = _from_table(pool([_to_table(told)])) if told else []
    targets = [
        Cell((), report.target_count, [report.target_mean], [report.target_m2])
        for report in reports
        if report.target_count
    ]
    if not targets:
        return Moments(cells)
    target = pool([_to_table(targets)])
    return Moments(cells, int(target.count[0]), float(target.mean[0, 0]), float(target.m2[0, 0]))


def agree(
    moments: Moments,
    resolution: Sequence[float],
    input_positions: Sequence[int],
    regime_positions: Sequence[int],
) -> Agreement:
    """The standardisation that follows from merged ``moments``.

    Cells that touch (no coordinate of their keys differs by more than 1) are one regime; regimes
    stand in the order of their lowest key. Without regime signals there is one regime.

    Raises:
        DataError: no agent told anything.
    """
    if not moments.cells:
        raise DataError(
            "no agent has enough training windows to agree on a standardisation",
            remedy=f"wait until the agents have at least {FLOOR} samples, or set window.normalise "
            "to none",
        )
    table = fold(pool([_to_table(moments.cells)]), CELLS, floor=FLOOR)
    regimes = table.grouped(connected(table.keys))
    deviation = np.sqrt(regimes.m2 / regimes.count[:, None])
    offset, spread = 0.0, 0.0
    if moments.target_count:
        offset = moments.target_mean
        spread = float(np.sqrt(moments.target_m2 / moments.target_count))
    return Agreement(
        mean=regimes.mean[:, list(input_positions)],
        scale=_scale(regimes.mean, deviation)[:, list(input_positions)],
        centroids=regimes.mean[:, list(regime_positions)],
        resolution=np.array(resolution, np.float64)[: len(regime_positions)],
        counts=regimes.count,
        target_offset=offset,
        target_scale=float(_scale(np.array(offset), np.array(spread))),
    )


def validate(moments: Moments, *, signals: int, regimes: int) -> None:
    """Check what came over the wire, before anything is done with it.

    Raises:
        FrameError: a width, count, number or key that no honest agent sends.
    """
    cells = moments.cells
    limit = CELLS if regimes else 1
    if len(cells) > limit:
        raise FrameError(f"moments: {len(cells)} cells, at most {limit} are allowed")
    if len({cell.key for cell in cells}) != len(cells):
        raise FrameError("moments: a cell stands twice")
    for cell in cells:
        if len(cell.key) != regimes or any(abs(part) > 1 << 31 for part in cell.key):
            raise FrameError(f"moments: cell {cell.key[:8]} does not fit {regimes} regime signals")
        if len(cell.mean) != signals or len(cell.m2) != signals:
            raise FrameError(f"moments: a cell has not {signals} signals as the job has")
        _validate_numbers(cell.count, cell.mean, cell.m2)
    if moments.target_count:
        _validate_numbers(moments.target_count, [moments.target_mean], [moments.target_m2])
    elif moments.target_mean != 0 or moments.target_m2 != 0:
        raise FrameError("moments: statistics of a target without a count")


def _validate_numbers(count: int, mean: list[float], m2: list[float]) -> None:
    if not FLOOR <= count <= _MOST:
        raise FrameError(f"moments: count is {count}, allowed are {FLOOR} to {_MOST}")
    means, deviations = np.array(mean, np.float64), np.array(m2, np.float64)
    if not (np.abs(means) <= LARGEST).all():
        raise FrameError(f"moments: a mean is not a number of at most {LARGEST:g}")
    if not ((deviations >= 0) & (deviations <= count * LARGEST**2)).all():
        raise FrameError("moments: a squared deviation is negative, too large or not a number")


def _scale(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    # Below the resolution of float32 samples a deviation is rounding; dividing by it would turn
    # the next rounding error into the largest signal of all.
    constant = deviation <= np.finfo(np.float32).eps * np.abs(mean)
    return np.where(constant, 1.0, deviation)


def _to_table(cells: list[Cell]) -> Cells:
    widths = {(len(cell.key), len(cell.mean), len(cell.m2)) for cell in cells}
    if len(widths) != 1:
        raise DataError("moments of different jobs cannot be merged")
    return Cells(
        keys=np.array([cell.key for cell in cells], np.int64).reshape(
            len(cells), len(cells[0].key)
        ),
        count=np.array([cell.count for cell in cells], np.float64),
        mean=np.array([cell.mean for cell in cells], np.float64),
        m2=np.array([cell.m2 for cell in cells], np.float64),
    )


def _from_table(table: Cells) -> list[Cell]:
    return [
        Cell(tuple(key), int(count), mean, m2)
        for key, count, mean, m2 in zip(
            table.keys.tolist(),
            table.count,
            table.mean.tolist(),
            table.m2.tolist(),
            strict=True,
        )
    ]
