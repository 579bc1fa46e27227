# SPDX-License-Identifier: Apache-2.0
"""Thresholds that keep a wanted run length, from the reference itself.

Windows that follow each other resemble each other. So each column is freed of its dependence on the
window before, blocks of what is left are drawn, with the reference closed to a circle (Politis and
Romano 1992, "A circular block-resampling procedure for stationary data"), and the dependence is put
back (post-blackening; Davison and Hinkley 1997, "Bootstrap Methods and their Application", 8.2).

A path is a reference and a stream drawn anew (Gandy and Kvaloey 2013, "Guaranteed conditional
performance of control charts via bootstrap methods"). The largest statistics of paths follow
Gumbel's law where single ones have an exponential tail, and that is how run lengths are reached
that are longer than any path.
"""

import math
from collections.abc import Iterator
from random import Random

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LONGEST_MEMORY = 0.98
PATHS = 200
"""Paths that a threshold is computed from."""
_EULER = 0.5772156649015329
_SHORTEST = 1
_SHARE = 5
"""A block is at most this part of the reference."""


class Draws:
    """Owns the random numbers that paths are made of; the same ``seed`` makes the same."""

    def __init__(self, seed: int, *, discrete: bool = False, least: int = 1) -> None:
        """Columns that are ``discrete``, such as classes, depend on each other in blocks only.

        Blocks have at least ``least`` rows, as far as a fifth of the reference allows.
        """
        self._random = Random(seed)
        self._discrete = discrete
        self._least = least

    def walk(self, rows: Array, paths: int, count: int) -> Iterator[Array]:
        """``count`` rows after each other, (paths, columns) each, of streams like ``rows``."""
        mean = rows.mean(0)
        memory = np.zeros(mean.shape) if self._discrete else recollection(rows)
        centred = rows - mean
        news = centred - memory * np.concatenate((centred[:1], centred[:-1]))
        news[0] = centred[0] * np.sqrt(1.0 - memory**2)
        news -= news.mean(0)
        row = centred[self._positions(len(rows), 1, paths, 1)[:, 0]]
        length = max(block_length(news), min(self._least, len(rows) // _SHARE))
        for positions in self._positions(len(rows), length, paths, count).T:
            row = memory * row + news[positions]
            yield row + mean

    def _positions(self, size: int, length: int, paths: int, count: int) -> NDArray[np.int64]:
        """Positions (paths, count) in ``size`` rows, ``length`` after each other."""
        blocks = -(-count // length)
        words = np.frombuffer(self._random.randbytes(4 * paths * blocks), np.uint32)
        starts = (words % size).astype(np.int64).reshape(paths, blocks, 1)
        found = (starts + np.arange(length)) % size
        return found.reshape(paths, -1)[:, :count]


def recollection(rows: Array) -> Array:
    """How much (columns,) of each row of ``rows`` (n, columns) is in the next: 0 to 0.98.

    The autocorrelation at one step, freed of the bias (1 + 3 rho) / n that it has where the mean is
    estimated, too (Kendall 1954); 0 where it could be chance.
    """
    count = len(rows)
    centred = rows - rows.mean(0)
    power = np.maximum((centred * centred).sum(0), np.finfo(np.float64).tiny)
    rho = (centred[1:] * centred[:-1]).sum(0) / power
    rho = np.where(rho < 2.0 / math.sqrt(count), 0.0, rho + (1.0 + 3.0 * rho) / count)
    found: Array = np.clip(rho, 0.0, LONGEST_MEMORY)
    return found


def block_length(rows: NDArray[np.float64]) -> int:
    """How long blocks of ``rows`` (n, columns) must be for what follows to hang together.

    Three times the autocorrelation time 1 + 2 sum of rho_k of the column with the longest memory,
    summed up to the first that is within two standard errors of nothing (Sokal 1997), and at least
    the cube root of n.
    """
    count = len(rows)
    centred = rows - rows.mean(0)
    power = np.mean(centred**2, 0)
    centred, power = centred[:, power > 0], power[power > 0]
    longest = 1.0
    if power.size and count > 2 * _SHARE:
        size = 1 << (2 * count - 1).bit_length()
        for column, own in zip(centred.T, power, strict=True):
            spectrum = np.fft.rfft(column, size)
            rho = np.fft.irfft(np.abs(spectrum) ** 2, size)[: count // 2] / (count * own)
            small = np.flatnonzero(rho < 2.0 / math.sqrt(count))
            end = int(small[0]) if small.size else len(rho)
            longest = max(longest, 1.0 + 2.0 * float(rho[1:end].sum()))
    wanted = max(3.0 * longest if longest > 1.0 else 0.0, math.cbrt(count))
    return max(_SHORTEST, min(math.ceil(wanted), max(1, count // _SHARE)))


def threshold(maxima: NDArray[np.float64], span: int, run_length: float) -> float:
    """What a statistic exceeds once in ``run_length`` rows, from its largest of ``span`` rows.

    Gumbel's law by its moments: P(largest of ``span`` <= h) = exp(-exp(-(h - m) / b)), which is
    exp(-span / run_length) for false alarms that come at random.

    Args:
        maxima: (paths,), the largest statistic of each path.
        span: rows of a path.
        run_length: rows between two false alarms, on average.
    """
    spread = float(maxima.std()) * math.sqrt(6.0) / math.pi
    middle = float(maxima.mean()) - _EULER * spread
    return middle + spread * math.log(run_length / span)
