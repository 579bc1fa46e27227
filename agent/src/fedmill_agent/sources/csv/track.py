# SPDX-License-Identifier: Apache-2.0
"""Turns the rows of one run into events, holding no more than one chunk of them."""

from collections.abc import Iterable, Iterator

import numpy as np

from fedmill_agent.sources.base import Event, LabelInterval, Samples
from fedmill_agent.sources.csv.grid import Stamped
from fedmill_agent.sources.replay import CHUNK

Label = str | float | None


def track(run: str, unit: str, period_ns: int, rows: Iterable[Stamped]) -> Iterator[Event]:
    """Samples of one run, each followed by the labels that ended in them."""
    buffer: list[list[float]] = []
    ended: list[LabelInterval] = []
    current: LabelInterval | None = None
    start = 0
    for stamped in rows:
        if buffer and (not stamped.joined or len(buffer) == CHUNK):
            yield _samples(run, unit, start, period_ns, buffer)
            buffer = []
            yield from ended
            ended = []
        start = start if buffer else stamped.time_ns
        buffer.append(stamped.row.values)
        label = stamped.row.label
        longer = extended(current, stamped.time_ns, label) if stamped.joined else None
        if longer is None:
            ended += [current] if current else []
            longer = None if label is None else single(run, stamped.time_ns, label)
        current = longer
    yield _samples(run, unit, start, period_ns, buffer)
    yield from ended
    if current:
        yield current


def _samples(
    run: str, unit: str, start_ns: int, period_ns: int, buffer: list[list[float]]
) -> Samples:
    values = np.ascontiguousarray(np.array(buffer, np.float64).T)
    return Samples(run, unit, start_ns, period_ns, values)


def single(run: str, time_ns: int, label: str | float) -> LabelInterval:
    """The label of one moment."""
    if isinstance(label, str):
        return LabelInterval(run, time_ns, time_ns, text=label)
    return LabelInterval(run, time_ns, time_ns, start_value=label, end_value=label)


def extended(current: LabelInterval | None, time_ns: int, label: Label) -> LabelInterval | None:
    """``current`` up to ``time_ns``: the same class, or a number on its line; else None."""
    if current is None or label is None:
        return None
    start, end = current.start_ns, current.end_ns
    if isinstance(label, str):
        if label != current.text:
            return None
        return LabelInterval(current.run, start, time_ns, text=label)
    if end > start:
        slope = (current.end_value - current.start_value) / (end - start)
        expected = current.start_value + slope * (time_ns - start)
        if abs(label - expected) > 1e-9 * max(1.0, abs(label)):
            return None
    return LabelInterval(
        current.run, start, time_ns, start_value=current.start_value, end_value=label
    )
