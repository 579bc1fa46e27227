# SPDX-License-Identifier: Apache-2.0
"""What the store says of a job's progress: for listings, the live view and reports."""

from dataclasses import dataclass

from msgspec import json, msgpack

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.errors import DataError
from fedmill_shared.metrics import Statistic, merge_all, primary


@dataclass(frozen=True, slots=True)
class Metric:
    """The metric a job is judged by, over all agents' held-out windows."""

    name: str
    value: float
    higher_is_better: bool
    windows: int


def statistics_of(
    store: Store, job: str, version: str, split: str = "test"
) -> dict[str, Statistic]:
    """Sufficient statistics of ``version`` on each agent's held-out windows.

    ``split`` is ``test``, or ``test-last`` for the last window of each run alone.
    """
    return {
        record.agent: msgpack.decode(record.statistic, type=Statistic)
        for record in store.evaluations(job, version)
        if record.split == split
    }


def metric_of(store: Store, job: str, version: str) -> Metric | None:
    """The merged metric of ``version``; None while nobody has scored it on any window."""
    told = [s for s in statistics_of(store, job, version).values() if s.count]
    if not told:
        return None
    try:
        merged = merge_all(told)
        name, value, higher_is_better = primary(merged)
    except DataError:  # sums that no float holds: somebody reported nonsense
        return None
    return Metric(name, value, higher_is_better, merged.count)


def latest_metric(store: Store, job: str) -> Metric | None:
    """The metric of the newest version that anybody has scored."""
    for record in reversed(store.versions(job)):
        metric = metric_of(store, job, record.version)
        if metric is not None:
            return metric
    return None


def loss_of(record: RoundRecord) -> float | None:
    """Mean training loss of a closed round."""
    return json.decode(record.report.encode(), type=dict[str, object]).get("loss")  # type: ignore[return-value]
