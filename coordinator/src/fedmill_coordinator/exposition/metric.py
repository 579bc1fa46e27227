# SPDX-License-Identifier: Apache-2.0
"""What a metric is: declared once, collected from where it is known.

Names follow Prometheus' own rules: base units, ``_total`` for what only goes up, ``_info`` for
what is text, ``_timestamp_seconds`` instead of an age. A label has few values: an agent, a job, a
word of a fixed set; numbers of rounds and digests are values, or nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.counts import Counts
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import AgentRecord, JobRecord

PREFIX = "fedmill_"
Kind = Literal["counter", "gauge"]
Sample = tuple["Metric", tuple[str, ...], float]
"""A metric, the values of its labels, and its own."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One name.

    Attributes:
        name: whole name.
        help: what it counts or measures; a sentence.
        labels: names of its labels.
        kind: whether it only goes up.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What only goes up is called so."""
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True, slots=True)
class Live:
    """What only the running daemon knows.

    Attributes:
        started_ns: when it was started.
        connected: whether the broker is there.
        counts: what happened so far.
    """

    started_ns: int
    connected: bool
    counts: Counts


@dataclass(frozen=True, slots=True)
class Known:
    """Where values come from, at one moment.

    Attributes:
        config: of the coordinator.
        store: its rows.
        counts: what happened, as the daemon last said.
        now_ns: when that moment is, ns UTC.
        live: None where the daemon is not asked.
        jobs: all jobs.
        agents: all agents.
    """

    config: CoordinatorConfig
    store: Store
    counts: Counts
    now_ns: int
    live: Live | None = None
    jobs: list[JobRecord] = field(default_factory=list)
    agents: list[AgentRecord] = field(default_factory=list)


Reader = Callable[[Known], Iterator[Sample]]


def metric(name: str, told: str, *labels: str) -> Metric:
    """The metric called ``fedmill_`` and ``name``."""
    return Metric(PREFIX + name, told, labels)


def one_of(
    of: Metric, before: tuple[str, ...], states: Iterable[str], now: str
) -> Iterator[Sample]:
    """A sample for each of ``states``: 1 for the one that holds ``now``, 0 for the others."""
    for state in states:
        yield of, (*before, state), float(state == now)
