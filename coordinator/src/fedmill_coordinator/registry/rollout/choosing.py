# SPDX-License-Identifier: Apache-2.0
"""Which version deserves a release, and which does not: by what agents evaluated."""

from collections.abc import Collection
from math import sqrt

from fedmill_coordinator.progress import Metric, merged_metric, statistics_of
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import VersionRecord

LOOK_BACK = 12
"""Versions that are looked at; older ones have lost their weights."""
CLEAR_ERRORS = 2.0
"""A version is clearly worse where the difference is larger than so many standard errors."""


def better_version(
    store: Store, job: str, served: str | None, minimum: int, tried: Collection[str] = ()
) -> VersionRecord | None:
    """The version newer than ``served`` that does better by most, on the same agents' windows.

    Without ``served`` it is the newest one that was evaluated. ``minimum`` agents must have
    evaluated both; versions that were ``tried`` before are left out.
    """
    versions = store.versions(job)[-LOOK_BACK:]
    reference = store.version(job, served) if served is not None else None
    newer = [
        each
        for each in versions
        if each.weights is not None
        and each.version not in tried
        and (reference is None or each.number > reference.number)
    ]
    gains = {each.version: _gain(store, job, each, reference, minimum) for each in newer}
    found = [each for each in newer if gains[each.version] is not None]
    if reference is None:
        return found[-1] if found else None
    ahead = [each for each in found if (gains[each.version] or 0.0) > 0]
    return max(ahead, key=lambda each: gains[each.version] or 0.0, default=None)


def clearly_worse(store: Store, job: str, candidate: VersionRecord, served: str | None) -> str:
    """Why ``candidate`` is not to take the place of ``served``, with the figures; empty if it may.

    Both on held-out windows of the same agents. Without such windows nothing is known against it.
    """
    reference = store.version(job, served) if served is not None else None
    if reference is None or reference.version == candidate.version:
        return ""
    agents, new, old = _both(store, job, candidate, reference)
    if new is None or old is None or new.name != old.name:
        return ""
    if -_difference(new, old) <= CLEAR_ERRORS * sqrt(_variance(new) + _variance(old)):
        return ""
    return (
        f"version {candidate.number} does worse than version {reference.number}, which is served: "
        f"{new.name} {new.value:.4g} against {old.value:.4g} on {new.windows} windows of "
        f"{agents} agents"
    )


def _gain(
    store: Store, job: str, candidate: VersionRecord, served: VersionRecord | None, minimum: int
) -> float | None:
    """By how much ``candidate`` does better than ``served``; None where that is not known."""
    if served is None:
        told = statistics_of(store, job, candidate.version).values()
        return 0.0 if sum(bool(each.count) for each in told) >= minimum else None
    agents, new, old = _both(store, job, candidate, served)
    if agents < minimum or new is None or old is None or new.name != old.name:
        return None
    return _difference(new, old)


def _both(
    store: Store, job: str, one: VersionRecord, other: VersionRecord
) -> tuple[int, Metric | None, Metric | None]:
    """How many agents evaluated both versions, and what both do on the windows of these."""
    told = [
        {a: s for a, s in statistics_of(store, job, each.version).items() if s.count}
        for each in (one, other)
    ]
    agents = sorted(told[0].keys() & told[1].keys())
    first, second = (merged_metric(each[a] for a in agents) for each in told)
    return len(agents), first, second


def _difference(new: Metric, old: Metric) -> float:
    return new.value - old.value if new.higher_is_better else old.value - new.value


def _variance(metric: Metric) -> float:
    """Variance of a metric over its windows: of a share as drawn, else as of normal errors."""
    if metric.higher_is_better:
        return metric.value * (1.0 - metric.value) / metric.windows
    of_squares = 2.0 * metric.value**2 / metric.windows
    return of_squares / 4.0 if metric.name == "rmse" else of_squares
