# SPDX-License-Identifier: Apache-2.0
"""The jobs of a coordinator: read from their files, entered into the store, and taken up again."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedmill_coordinator.registry.ancestry import parent_of
from fedmill_coordinator.registry.golden import GoldenSet, golden_of
from fedmill_coordinator.rounds.stage import ENDED
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import JobRecord
from fedmill_shared.audit import DAEMON
from fedmill_shared.errors import JobError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.job.clusters import expand
from fedmill_shared.job_check import canonical, job_from_canonical, load_job


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that is in the store: as it was started, its canonical text, its golden windows."""

    job: Job
    text: bytes
    golden: GoldenSet | None


def read_jobs(paths: Iterable[Path]) -> list[tuple[Path, Job]]:
    """Every job with its file, which may make several; all are read before any is started.

    Raises:
        JobError: a job file is wrong, or two name the same job.
    """
    jobs: dict[str, tuple[Path, Job]] = {}
    for path in paths:
        for job in expand(load_job(path)):
            if job.name in jobs:
                raise JobError(
                    f"coordinator.jobs: {jobs[job.name][0]} and {path} are both named {job.name!r}",
                    remedy="give one of them another name",
                )
            jobs[job.name] = path, job
    return list(jobs.values())


def enter(store: Store, job: Job, now_ns: int) -> JobRecord:
    """Add ``job`` to ``store``; one that starts from another gets the normaliser of that.

    Raises:
        JobError: the job that it starts from is not there, or is unlike it.
        StoreError: the disk fails.
    """
    parent, text = parent_of(job, store), canonical(job)
    record = JobRecord(
        name=job.name,
        text=text.decode(),
        sha256=sha256(text),
        state="waiting",
        created_ns=now_ns,
        updated_ns=now_ns,
        normaliser=parent.normaliser if parent is not None else None,
    )
    store.add_job(record)
    return record


def take_up(path: Path, job: Job, golden: str, services: Services) -> Taken:
    """``job`` of the file ``path``, from now on in the store if it was not before.

    ``golden`` is the file of its golden windows, or empty.

    Raises:
        JobError: the file has changed since the job was started and the job is not over, it needs
            golden windows and has none, or what it starts from is not there.
        DataError: the file of its golden windows cannot be used.
        StoreError: the disk fails.
    """
    record = services.store.job(job.name)
    if record is not None:
        job = _as_started(path, job, record, services)
    windows = None
    wakes = record is not None and record.state == "finished" and job.federation.rounds_on_wish
    if record is None or record.state not in ENDED or wakes:  # what is over opens no round
        windows = golden_of(job, golden)
    if record is None:  # nothing stands against it: from now on its file must not change
        record = enter(services.store, job, services.clock.now_ns())
        services.audit.record(
            who=DAEMON, what="job.taken_up", subject=job.name, after=record.sha256
        )
    return Taken(job, record.text.encode(), windows)


def _as_started(path: Path, job: Job, record: JobRecord, services: Services) -> Job:
    """The job as it was started; a finished one goes on being served whatever its file says."""
    stored = job_from_canonical(record.text.encode())
    if stored == job:
        return stored
    changed = ", ".join(
        field for field in job.__struct_fields__ if getattr(stored, field) != getattr(job, field)
    )
    services.audit.record(
        who=DAEMON,
        what="job.outdated" if record.state in ENDED else "job.refused",
        subject=f"{job.name}: {changed}",
        before=record.sha256,
        after=sha256(canonical(job)),
    )
    if record.state in ENDED:
        services.log.warning("job.outdated", job=job.name, path=str(path), changed=changed)
        return stored
    raise JobError(
        f"{path}: job {job.name!r} was started with another job file; changed: {changed}",
        remedy="undo the change, or give the changed job a new name",
    )
