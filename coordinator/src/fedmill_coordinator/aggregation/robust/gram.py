# SPDX-License-Identifier: Apache-2.0
"""Inner products of all updates of a round, block by block, whatever codec they came in.

Blocks are float32 and so are the products within one; their sum over the blocks is float64. A
product is off by about 4e-7 of |x| |y|. The same updates in the same order give the same bits for
any number of BLAS threads: a block has at least two rows and whole multiples of ``BLOCK`` columns,
padded with zeros, where OpenBLAS adds in one order however it shares the work. Another kind of
processor may differ in the last digits.

Memory: the numbers (n, n), two groups of opened payloads of about 128 MiB each, and 32 MiB. Where
everything fits one group each update is opened once, else once for each pair of groups it is in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fedmill_coordinator.aggregation.robust.base import Block, Numbers, einsum
from fedmill_shared.codec.base import BLOCK, Payload, Sparse, blocks_of, size_of
from fedmill_shared.errors import ModelError

_HELD = 128 << 20  # bytes of opened payloads of one group
_ROWS = 1024  # most updates of one group
_BLOCK_BYTES = 32 << 20
_WIDEST = 8 * BLOCK  # of ten rows of it, the processor's cache holds all
_FEWEST = 2  # with one row BLAS takes another way, where threads change the last digits

Opener = Callable[[], Payload]


@dataclass(frozen=True, slots=True)
class _Group:
    """Opened updates; ``first`` is the number of the first one."""

    first: int
    payloads: list[Payload]
    factors: Block

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + len(self.payloads))


def gram(openers: Sequence[Opener], factors: Numbers, extra: Payload | None = None) -> Numbers:
    """Inner products (n, n) of the updates that ``openers`` open, each times its factor.

    ``factors`` (n,) are those of the clip. With ``extra``, one more vector that is not clipped,
    the result is (n + 1, n + 1) and ``extra`` is its last row.

    Raises:
        FrameError: an update cannot be opened.
        ModelError: the updates differ in length, or their products overflow.
    """
    if extra is not None:
        openers, factors = [*openers, lambda: extra], np.append(factors, 1.0)
    total = np.zeros((len(openers), len(openers)))
    for group in _groups(openers, factors, 0):
        total[group.rows, group.rows] = _products(group, group)
        for other in _groups(openers, factors, group.rows.stop):
            between = _products(group, other)
            total[group.rows, other.rows] = between
            total[other.rows, group.rows] = between.T
    return _finite(total)


def products(openers: Sequence[Opener], factors: Numbers, vector: Payload) -> Numbers:
    """Inner products (n + 1,) of ``vector`` with each update times its factor, and with itself.

    One pass over the updates, n times cheaper than ``gram``.

    Raises:
        FrameError: an update cannot be opened.
        ModelError: the updates differ in length, or their products overflow.
    """
    openers, factors = [*openers, lambda: vector], np.append(factors, 1.0)
    single = _Group(len(factors) - 1, [vector], np.ones(1, np.float32))
    groups = _groups(openers, factors, 0)
    return _finite(np.concatenate([_products(group, single)[:, 0] for group in groups]))


def _groups(openers: Sequence[Opener], factors: Numbers, first: int) -> Iterator[_Group]:
    """The updates from ``first`` on, as many at a time as memory holds."""
    while first < len(openers):
        payloads: list[Payload] = []
        held = 0
        while first + len(payloads) < len(openers) and held < _HELD and len(payloads) < _ROWS:
            payloads.append(openers[first + len(payloads)]())
            held += size_of(payloads[-1])
        stop = first + len(payloads)
        yield _Group(first, payloads, factors[first:stop].astype(np.float32))
        first = stop


def _products(left: _Group, right: _Group) -> Numbers:
    """Inner products (left, right) of two groups; ``right`` may be ``left`` itself."""
    groups = [left] if right is left else [left, right]
    packed = _sparse(groups)
    total = np.zeros((len(left.payloads), len(right.payloads)))
    rows, columns = total.shape
    for blocks in _blocks(groups) if packed is None else _packed_blocks(groups, packed):
        # One and the same array on both sides: BLAS then makes half of it.
        with np.errstate(over="ignore", invalid="ignore"):
            total += (blocks[0] @ blocks[-1].T)[:rows, :columns]
    if packed is not None and right is left:
        squares = map(_square, packed[0], left.factors)
        np.fill_diagonal(total, np.fromiter(squares, np.float64, rows))
    return total


def _sparse(groups: Sequence[_Group]) -> list[list[Sparse]] | None:
    """The payloads of ``groups`` if all of them are sparse."""
    found = [[each for each in group.payloads if isinstance(each, Sparse)] for group in groups]
    lengths = [len(group.payloads) for group in groups]
    return found if [len(kept) for kept in found] == lengths else None


def _buffers(groups: Sequence[_Group], elements: int, widest: int) -> list[Block]:
    """A block of zeros for each group."""
    rows = [max(_FEWEST, len(group.payloads)) for group in groups]
    width = min(widest, _BLOCK_BYTES // (4 * BLOCK * sum(rows)), blocks_of(elements))
    return [np.zeros((count, BLOCK * max(1, width)), np.float32) for count in rows]


def _elements(groups: Sequence[_Group]) -> int:
    lengths = {payload.elements for group in groups for payload in group.payloads}
    if len(lengths) > 1:
        raise ModelError(
            f"aggregation: updates of {min(lengths)} and of {max(lengths)} elements in one round",
            remedy="the agents and the coordinator disagree on the architecture",
        )
    return lengths.pop()


def _blocks(groups: Sequence[_Group]) -> Iterator[list[Block]]:
    """Columns of the groups, one block for each, the same memory every time."""
    elements = _elements(groups)
    buffers = _buffers(groups, elements, _WIDEST)
    width = buffers[0].shape[1]
    for start in range(0, elements, width):
        size = min(width, elements - start)
        used = BLOCK * blocks_of(size)
        for group, buffer in zip(groups, buffers, strict=True):
            buffer[:, size:used] = 0
            for row, payload, factor in zip(buffer, group.payloads, group.factors, strict=False):
                payload.read(start, row[:size])
                if factor != 1:
                    row[:size] *= factor
        yield [buffer[:, :used] for buffer in buffers]


def _packed_blocks(
    groups: Sequence[_Group], packed: Sequence[Sequence[Sparse]]
) -> Iterator[list[Block]]:
    """As ``_blocks``, of sparse updates, without the columns that fewer than two of them touch."""
    elements = _elements(groups)
    buffers = _buffers(groups, elements, blocks_of(elements))
    width = buffers[0].shape[1]
    for start in range(0, elements, width):
        touched = np.zeros(min(width, elements - start), np.int32)
        for payload in chain.from_iterable(packed):
            touched[_part(payload, start, width)[0]] += 1
        shared = touched > 1
        places = np.cumsum(shared) - 1
        used = BLOCK * blocks_of(int(np.count_nonzero(shared)))
        for group, payloads, buffer in zip(groups, packed, buffers, strict=True):
            buffer[:, :used] = 0
            for row, payload, factor in zip(buffer, payloads, group.factors, strict=False):
                columns, values = _part(payload, start, width)
                kept = shared[columns]
                row[places[columns[kept]]] = values[kept] * factor
        yield [buffer[:, :used] for buffer in buffers]


def _part(payload: Sparse, start: int, width: int) -> tuple[NDArray[np.int32], Block]:
    """Columns from ``start`` on, counted from there, and their values."""
    first, last = np.searchsorted(payload.indices, (start, start + width))
    return payload.indices[first:last] - np.int32(start), payload.values[first:last]


def _square(payload: Sparse, factor: np.float32) -> float:
    values = payload.values.astype(np.float64) * float(factor)
    return float(einsum("i,i->", values, values))


def _finite(total: Numbers) -> Numbers:
    if not np.isfinite(total).all():
        raise ModelError(
            "aggregation: the inner products of the updates overflow",
            remedy="lower robustness.clip or the learning rate of the agents",
        )
    return total
