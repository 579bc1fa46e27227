# SPDX-License-Identifier: Apache-2.0
"""What the store says of a job's progress: for listings, the live view and reports."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from msgspec import Struct, json, msgpack

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import RoundRecord, VersionRecord
from fedmill_shared.errors import DataError
from fedmill_shared.metrics import Statistic, merge_all, primary

TEST, SERVED = "test", "served"
"""Splits are ``test``, ``test-last`` for the last window of each run alone, and where agents choose
what they serve ``test-`` with the name of a candidate: ``global``, ``personal``, ``local``, and
``served`` for the one that was chosen."""
CANDIDATES = ("global", "personal", "local")


@dataclass(frozen=True, slots=True)
class Metric:
    """The metric a job is judged by, over all agents' held-out windows."""

    name: str
    value: float
    higher_is_better: bool
    windows: int


def statistics_of(store: Store, job: str, version: str, split: str = TEST) -> dict[str, Statistic]:
    """Sufficient statistics of ``version`` on each agent's held-out windows."""
    return {
        record.agent: msgpack.decode(record.statistic, type=Statistic)
        for record in store.evaluations(job, version)
        if record.split == split
    }


def metric_of(store: Store, job: str, version: str) -> Metric | None:
    """The merged metric of ``version``; None while nobody has scored it on any window."""
    return merged_metric(statistics_of(store, job, version).values())


def latest_metric(store: Store, job: str) -> Metric | None:
    """The metric of the newest version that anybody has scored."""
    for record in reversed(store.versions(job)):
        metric = metric_of(store, job, record.version)
        if metric is not None:
            return metric
    return None


def metrics_by_agent(
    store: Store, job: str, agents: Collection[str]
) -> dict[str, tuple[VersionRecord, Metric]]:
    """Of each of ``agents`` the newest version that it has scored, and its own metric of it.

    An agent that has scored none on any window is left out.
    """
    found: dict[str, tuple[VersionRecord, Metric]] = {}
    for record in reversed(store.versions(job)):
        if len(found) == len(agents):
            break
        for agent, statistic in statistics_of(store, job, record.version).items():
            metric = merged_metric([statistic])
            if metric is not None and agent in agents:
                found.setdefault(agent, (record, metric))
    return found


def candidates_by_agent(
    store: Store, job: str, agents: Collection[str]
) -> dict[str, dict[str, Metric]]:
    """Of each of ``agents`` the metric of every candidate at its newest choice, by name."""
    found: dict[str, dict[str, Metric]] = {}
    for record in reversed(store.versions(job)):
        if len(found) == len(agents):
            break
        told: dict[str, dict[str, Metric]] = {}
        for name in CANDIDATES:
            for agent, statistic in statistics_of(
                store, job, record.version, f"{TEST}-{name}"
            ).items():
                metric = merged_metric([statistic])
                if metric is not None and agent in agents:
                    told.setdefault(agent, {})[name] = metric
        found = told | found
    return found


def loss_of(record: RoundRecord) -> float | None:
    """Mean training loss of a closed round."""
    return json.decode(record.report.encode(), type=_Told).loss


class _Told(Struct):
    loss: float | None = None


def merged_metric(statistics: Iterable[Statistic]) -> Metric | None:
    """The metric over all of ``statistics``; None where none of them counts a window."""
    told = [statistic for statistic in statistics if statistic.count]
    if not told:
        return None
    try:
        merged = merge_all(told)
        name, value, higher_is_better = primary(merged)
    except DataError:  # sums that no float holds: somebody reported nonsense
        return None
    return Metric(name, value, higher_is_better, merged.count)
