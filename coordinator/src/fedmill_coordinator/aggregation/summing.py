# SPDX-License-Identifier: Apache-2.0
"""The weighted sum of any number of updates, in the memory of one model and a few updates.

The sum is float32, one term after the other in their order. Nothing else decides a bit of it: not
how many updates are open at a time, not the number of workers, each of which has elements of its
own, and not the number of BLAS threads, for no BLAS is called. With coefficients that sum to 1, n
terms are off from the exact sum by at most n + 3 times 6e-8 of the largest value, and in practice
by about the root of that many.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fedmill_coordinator.aggregation.adding import Opened, Part
from fedmill_coordinator.aggregation.base import Vector, check_finite
from fedmill_shared.codec.base import BLOCK, Payload, blocks_of, size_of
from fedmill_shared.errors import ModelError

HELD = 32 << 20
"""Bytes of opened updates after which those are added before another one is opened."""
_MOST = 64  # updates that are open at a time


@dataclass(frozen=True, slots=True)
class Term:
    """One summand: ``coefficient`` times what ``open`` gives; ``name`` is for people."""

    name: str
    open: Callable[[], Payload]
    coefficient: float


def weighted_sum(elements: int, terms: Sequence[Term], *, workers: int = 1) -> Vector:
    """Sum of ``terms`` (elements,), by ``workers`` threads; those with coefficient 0 stay closed.

    Raises:
        ModelError: a term has another length, or the sum overflows float32.
    """
    total = np.zeros(elements, np.float32)
    used = [term for term in terms if np.float32(term.coefficient)]
    if workers > 1 and used:
        with ThreadPoolExecutor(workers) as pool:
            _add_parallel(total, used, pool, workers)
    else:
        part = Part(total, 0)
        for group in _groups(_opened(term, elements) for term in used):
            part.add(group)
    check_finite(total)
    return total


def open_checked(name: str, opener: Callable[[], Payload], elements: int) -> Payload:
    """What ``opener`` gives; ``name`` is for people.

    Raises:
        ModelError: it is no update of a model of ``elements``.
    """
    payload = opener()
    if payload.elements != elements:
        raise ModelError(
            f"aggregation: delta of {name!r} has {payload.elements} elements, the model {elements}",
            remedy="the agent and the coordinator disagree on the architecture",
        )
    return payload


def _add_parallel(
    total: Vector, terms: Sequence[Term], pool: ThreadPoolExecutor, workers: int
) -> None:
    """Each worker adds to blocks of its own; the next updates are opened meanwhile."""
    share = max(1, -(-blocks_of(total.size) // workers)) * BLOCK
    parts = [Part(total[at : at + share], at) for at in range(0, total.size, share)]
    for group in _groups(_ahead(terms, total.size, pool, workers)):
        for done in [pool.submit(part.add, group) for part in parts]:
            done.result()


def _ahead(
    terms: Iterable[Term], elements: int, pool: ThreadPoolExecutor, count: int
) -> Iterator[Opened]:
    """The opened ``terms`` in order, ``count`` of them being opened while one is used."""
    waiting: deque[Future[Opened]] = deque()
    for term in terms:
        waiting.append(pool.submit(_opened, term, elements))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _opened(term: Term, elements: int) -> Opened:
    payload = open_checked(term.name, term.open, elements)
    return Opened(payload, np.float32(term.coefficient))


def _groups(opened: Iterable[Opened]) -> Iterator[list[Opened]]:
    """As many at a time as memory may hold."""
    group: list[Opened] = []
    held = 0
    for each in opened:
        group.append(each)
        held += size_of(each.payload)
        if held >= HELD or len(group) == _MOST:
            yield group
            # Whoever got the list still has it.
            group.clear()
            held = 0
    if group:
        yield group
