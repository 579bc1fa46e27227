# SPDX-License-Identifier: Apache-2.0
"""Rules that go coordinate by coordinate: all updates side by side, some columns at a time.

Such a rule needs one element of every update at once. Where the opened updates fit into ``HELD``
bytes together they stay open; where they do not, all of them are opened again for every ``TABLE``
bytes of columns. So memory is the larger of the two, whatever the fleet's size; a thousand updates
of a million elements are opened 31 times.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import numpy as np

from fedmill_coordinator.aggregation.base import Vector, check_finite
from fedmill_coordinator.aggregation.summing import Term, open_checked
from fedmill_shared.codec.base import BLOCK, Payload, size_of

HELD = 128 << 20
"""Bytes of opened updates that stay open from one table to the next."""
TABLE = 128 << 20
"""Bytes of float32 columns that stand side by side."""
_AT_ONCE = 4 << 20  # bytes of them that a rule gets at once: they stay in the processor's cache


def by_columns(
    elements: int, terms: Sequence[Term], rule: Callable[[Vector], Vector], *, workers: int = 1
) -> Vector:
    """What ``rule`` makes of ``terms`` (elements,), by ``workers`` threads.

    ``rule`` turns some columns of all the terms, times their coefficients, float32 (n, width), into
    float32 (width,); each of these must follow from its own column.

    Raises:
        ModelError: a term has another length, or a number overflows float32.
    """
    result = np.empty(elements, np.float32)
    payloads = _kept(terms, elements)
    narrow = _columns(_AT_ONCE, len(terms))
    wide = narrow * workers if payloads else max(narrow, _columns(TABLE, len(terms)))
    table = np.empty((len(terms), min(wide, elements)), np.float32)

    def fill(columns: slice, number: int) -> None:
        term, row = terms[number], table[number, : columns.stop - columns.start]
        payload = payloads[number] if payloads else open_checked(term.name, term.open, elements)
        payload.read(columns.start, row)
        row *= np.float32(term.coefficient)

    def judge(start: int, columns: slice) -> None:
        result[columns] = rule(table[:, columns.start - start : columns.stop - start])

    with ExitStack() as stack:
        each: Callable[..., Iterable[None]] = map
        if workers > 1:
            each = stack.enter_context(ThreadPoolExecutor(workers)).map
        for columns in _spans(0, elements, wide):
            deque(each(partial(fill, columns), range(len(terms))), maxlen=0)
            spans = _spans(columns.start, columns.stop, narrow)
            deque(each(partial(judge, columns.start), spans), maxlen=0)
    check_finite(result)
    return result


def _kept(terms: Sequence[Term], elements: int) -> list[Payload]:
    """All of ``terms`` opened if they fit into ``HELD`` bytes, else none."""
    payloads: list[Payload] = []
    held = 0
    for term in terms:
        payloads.append(open_checked(term.name, term.open, elements))
        held += size_of(payloads[-1])
        if held > HELD:
            return []
    return payloads


def _columns(size: int, rows: int) -> int:
    """Columns of ``rows`` float32 in ``size`` bytes, a multiple of ``BLOCK`` and not 0."""
    return max(1, size // (4 * BLOCK * rows)) * BLOCK


def _spans(start: int, stop: int, width: int) -> Iterator[slice]:
    return (slice(at, min(stop, at + width)) for at in range(start, stop, width))
