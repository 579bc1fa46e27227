# SPDX-License-Identifier: Apache-2.0
"""Everything that is known, in the text format of Prometheus. Imports prometheus_client."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.counts import Counts, load_counts
from fedmill_coordinator.exposition import agents, jobs, plant, security
from fedmill_coordinator.exposition.metric import Known, Live, Metric, Reader
from fedmill_coordinator.store.base import Store

PARTS: tuple[tuple[tuple[Metric, ...], Reader], ...] = (
    (plant.METRICS, plant.read),
    (agents.METRICS, agents.read),
    (jobs.METRICS, jobs.read),
    (security.METRICS, security.read),
)
METRICS = tuple(metric for metrics, _ in PARTS for metric in metrics)
"""All there are, in the order they are told and documented."""
Family = CounterMetricFamily | GaugeMetricFamily


class FleetCollector(Collector):
    """Collects what the store and the daemon know at the moment it is asked."""

    def __init__(
        self,
        config: CoordinatorConfig,
        store: Store,
        counts: Counts,
        live: Live | None,
        *,
        now_ns: int,
    ) -> None:
        """Nothing is read yet."""
        self._known = Known(
            config=config,
            store=store,
            counts=counts,
            now_ns=now_ns,
            live=live,
            jobs=store.jobs(),
            agents=store.agents(),
        )

    def collect(self) -> Iterator[Family]:
        """Every metric that has a value, with all of them.

        Raises:
            StoreError: the database cannot be read.
        """
        for metrics, read in PARTS:
            families = {metric: _family(metric) for metric in metrics}
            for metric, labels, value in read(self._known):
                families[metric].add_metric(labels, value)
            yield from (family for family in families.values() if family.samples)


def exposition(
    config: CoordinatorConfig,
    store: Store,
    counts: Counts,
    live: Live | None = None,
    *,
    now_ns: int,
) -> bytes:
    """The text format, version 0.0.4, of what is known at ``now_ns`` (ns UTC).

    Raises:
        StoreError: the database cannot be read.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(config, store, counts, live, now_ns=now_ns))
    return generate_latest(registry)


def stored_exposition(config: CoordinatorConfig, store: Store, now_ns: int) -> bytes:
    """The same without a daemon: what it counted as it last saved it.

    Raises:
        StoreError: the state folder cannot be read.
    """
    return exposition(config, store, load_counts(Path(config.coordinator.state)), now_ns=now_ns)


def _family(metric: Metric) -> Family:
    of = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return of(metric.name, metric.help, labels=metric.labels)
