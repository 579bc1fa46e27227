# SPDX-License-Identifier: Apache-2.0
"""What a job wants of a live source: tags, and how fast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmill_agent.sources.base import SourceOptions
from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Signal
from fedmill_shared.job.data import window_rate

_TOLERANCE = 0.01
MOST_FACTOR = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job wants of a live source.

    Attributes:
        tags: one for each of its signals.
        rate_hz: samples per second.
        factors: how many times as fast as that each tag comes.
        sampled: whether each tag is told as samples at a known rate: what is lacking between them
            is missing, and no value is held.
    """

    tags: Sequence[str]
    rate_hz: float
    factors: Sequence[int]
    sampled: Sequence[bool]


def wanted_of(source: SourceOptions, signals: Sequence[Signal], tags: Sequence[str]) -> Wanted:
    """What a job with these ``signals`` wants of ``source``, which maps ``tags`` to them.

    Signals that are slower than the job's windows may come as slowly as the job says. What tells a
    state is picked and not filtered.

    Raises:
        SchemaError: a signal comes at a rate that is no whole multiple of the job's.
    """
    told = getattr(source, "told_rates", None)
    named = {signal.name: tag for signal, tag in zip(signals, tags, strict=True)}
    rates: Mapping[str, float] = told(named) if told is not None else {}
    rate_hz = window_rate(signals)
    factors = []
    for signal in signals:
        comes = rates.get(signal.name, signal.rate_hz)
        factor = max(1, round(comes / rate_hz))
        slow = signal.rate_hz * (1 - _TOLERANCE) <= comes <= rate_hz
        if factor > MOST_FACTOR or not (slow or abs(comes / rate_hz / factor - 1) <= _TOLERANCE):
            raise SchemaError(
                f"source {source.name!r}: signal {signal.name!r} comes at {comes:g} Hz, the job "
                f"wants {signal.rate_hz:g} Hz",
                remedy="let the source sample at the job's rate or at a whole multiple of it, at "
                f"most {MOST_FACTOR} times, and say so under `rates`",
            )
        factors.append(1 if signal.role == "regime" else factor)
    sampled = tuple(signal.name in rates for signal in signals)
    return Wanted(tuple(tags), rate_hz, tuple(factors), sampled)
