# SPDX-License-Identifier: Apache-2.0
"""What a job wants of a live source: tags, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedmill_agent.sources.base import SourceOptions
from fedmill_shared.errors import SchemaError

_TOLERANCE = 0.01
MOST_FACTOR = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job wants of a live source.

    Attributes:
        tags: one for each of its signals.
        rate_hz: samples per second.
        factors: how many times as fast as that each tag comes.
    """

    tags: Sequence[str]
    rate_hz: float
    factors: Sequence[int]


def wanted_of(
    source: SourceOptions, names: Sequence[str], tags: Sequence[str], rate_hz: float
) -> Wanted:
    """What a job with signals ``names`` at ``rate_hz`` wants of ``source``, which maps ``tags``.

    Raises:
        SchemaError: a signal comes at a rate that is no whole multiple of the job's.
    """
    rates: dict[str, float] = getattr(source, "rates", {})
    factors = []
    for name in names:
        ratio = rates.get(name, rate_hz) / rate_hz
        factor = max(1, round(ratio))
        if abs(ratio / factor - 1) > _TOLERANCE or factor > MOST_FACTOR:
            raise SchemaError(
                f"source {source.name!r}: signal {name!r} comes at {rates[name]:g} Hz, the job "
                f"wants {rate_hz:g} Hz",
                remedy="let the source sample at the job's rate or at a whole multiple of it, at "
                f"most {MOST_FACTOR} times, and say so under `rates`",
            )
        factors.append(factor)
    return Wanted(tuple(tags), rate_hz, tuple(factors))
