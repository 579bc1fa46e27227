# SPDX-License-Identifier: Apache-2.0
"""Metrics of jobs: their rounds and updates, the versions these make, and releases of them."""

from collections.abc import Iterator
from typing import get_args

from fedmill_coordinator.exposition.metric import Known, Sample, metric, one_of
from fedmill_coordinator.progress import metric_of
from fedmill_coordinator.store.records import JobRecord, JobState
from fedmill_coordinator.store.records_releases import ReleaseState
from fedmill_shared.messages import Reason

LATE = (Reason.TOO_STALE, Reason.OLD_PROTOCOL, Reason.NOT_ASKED, Reason.ABANDONED, Reason.ENDED)
FATES = (
    ("received", ""),
    *(("late", reason.value) for reason in LATE),
    *(("refused", reason.value) for reason in Reason if reason not in LATE),
)
"""What may become of an update at reception, and why."""
OVER = ("done", "aborted", "superseded")
LOOK_BACK = 20
"""Rounds among which the last that closed is looked for, and versions of which one was scored."""

STATE = metric("job_state", "1 for how far the job is.", "job", "state")
PAUSED = metric("job_paused", "Whether an operator holds the job.", "job")
ROUNDS = metric("rounds_total", "Rounds that have ended, closed or abandoned.", "job")
ABANDONED = metric("rounds_abandoned_total", "Rounds that came to nothing.", "job")
OPEN = metric("round_open", "Whether a round is open.", "job")
WAITING = metric("round_updates_waiting", "Updates that wait for the next close.", "job")
DEADLINE = metric(
    "round_deadline_timestamp_seconds", "When the open round closes at the latest.", "job"
)
SECONDS = metric("round_duration_seconds", "How long the last round took that closed.", "job")
INCLUDED = metric("round_included", "Agents whose updates went into that round.", "job")
SUCCESS = metric(
    "round_last_success_timestamp_seconds", "When a round last closed with a version.", "job"
)
UPDATES = metric(
    "updates_total",
    "Updates that agents offered, by what became of them at reception, and why.",
    "job",
    "fate",
    "reason",
)
UP = metric(
    "uplink_bytes_total", "Bytes of MQTT packets that an agent sent to the broker.", "job", "agent"
)
DOWN = metric(
    "downlink_bytes_total",
    "Bytes of MQTT packets that the broker sent to an agent.",
    "job",
    "agent",
)
VERSIONS = metric("versions", "Number of the newest version, which has 0 before it.", "job")
MADE = metric("version_timestamp_seconds", "When the newest version was made.", "job")
QUALITY = metric(
    "model_quality",
    "What the newest version that was scored reaches on held-out windows of all agents.",
    "job",
    "metric",
)
RELEASE = metric("release_state", "1 for how far the newest release is.", "job", "state")
RINGS = metric("release_rings", "Rings that the newest release goes through.", "job")
OPENED = metric("release_rings_opened", "How many of them are open.", "job")
ENDED = metric(
    "release_ended_timestamp_seconds", "When a release last ended, by how.", "job", "state"
)
BEGUN = metric("release_timestamp_seconds", "When the newest release began.", "job")

METRICS = (
    *(STATE, PAUSED, ROUNDS, ABANDONED, OPEN, WAITING, DEADLINE, SECONDS, INCLUDED, SUCCESS),
    *(UPDATES, UP, DOWN, VERSIONS, MADE, QUALITY, RELEASE, RINGS, OPENED, BEGUN, ENDED),
)


def read(known: Known) -> Iterator[Sample]:
    """Values of all metrics of jobs.

    Raises:
        StoreError: the database cannot be read.
    """
    for job in known.jobs:
        name = (job.name,)
        yield from one_of(STATE, name, get_args(JobState), job.state)
        yield PAUSED, name, job.paused
        yield from _rounds(known, job)
        yield from _models(known, job)
        yield from _release(known, job)
        for agent, (up, down) in sorted(known.store.traffic_by_agent(job.name).items()):
            yield UP, (job.name, agent), up
            yield DOWN, (job.name, agent), down
    yield from _counted(known)


def _counted(known: Known) -> Iterator[Sample]:
    """What the daemon counts: 0 before the first, so that this one is seen as an increase."""
    names = {job.name for job in known.jobs}
    updates = {(name, *kind): 0 for name in names for kind in FATES}
    updates |= {labels: count for labels, count in known.counts.of("updates") if len(labels) == 3}
    for (name, fate, reason), count in sorted(updates.items()):
        yield UPDATES, (name, fate, reason), count
    abandoned = dict.fromkeys(names, 0) | {
        labels[0]: count for labels, count in known.counts.of("rounds_abandoned") if labels
    }
    for name, count in sorted(abandoned.items()):
        yield ABANDONED, (name,), count


def _rounds(known: Known, job: JobRecord) -> Iterator[Sample]:
    name, rounds = (job.name,), known.store.rounds(job.name, last=LOOK_BACK)
    if not rounds:
        return
    newest = rounds[-1]
    is_open = newest.state == "open"
    yield ROUNDS, name, newest.round - is_open
    yield OPEN, name, is_open
    yield WAITING, name, len(known.store.pending(job.name))
    if is_open:
        yield DEADLINE, name, newest.deadline_ns / 1e9
    closed = next((each for each in reversed(rounds) if each.state == "closed"), None)
    if closed is not None:
        yield SECONDS, name, closed.seconds or 0.0
        yield INCLUDED, name, len(closed.included)
        yield SUCCESS, name, (closed.closed_ns or 0) / 1e9


def _models(known: Known, job: JobRecord) -> Iterator[Sample]:
    name, versions = (job.name,), known.store.versions(job.name)
    if not versions:
        return
    yield VERSIONS, name, versions[-1].number
    yield MADE, name, versions[-1].created_ns / 1e9
    for version in reversed(versions[-LOOK_BACK:]):
        quality = metric_of(known.store, job.name, version.version)
        if quality is not None:
            yield QUALITY, (job.name, quality.name), quality.value
            return


def _release(known: Known, job: JobRecord) -> Iterator[Sample]:
    releases, name = known.store.releases(job.name), (job.name,)
    ended = {each.state: each.ended_ns for each in releases if each.ended_ns is not None}
    for state in OVER:
        if state in ended:
            yield ENDED, (job.name, state), ended[state] / 1e9
    for release in releases[-1:]:
        yield from one_of(RELEASE, name, get_args(ReleaseState), release.state)
        yield RINGS, name, len(release.rings)
        yield OPENED, name, release.opened
        yield BEGUN, name, release.created_ns / 1e9
