# SPDX-License-Identifier: Apache-2.0
"""What agents scored, as rows of the store."""

from msgspec import msgpack

from fedmill_coordinator.progress import CANDIDATES, SERVED, TEST
from fedmill_coordinator.store.records import EvaluationRecord
from fedmill_shared.errors import FrameError
from fedmill_shared.job import Job
from fedmill_shared.messages import EvaluationReport
from fedmill_shared.metrics import Statistic, task_of
from fedmill_shared.metrics.classification import ClassificationStatistic


def evaluation_records(
    job: Job, agent: str, report: EvaluationReport, now_ns: int
) -> list[EvaluationRecord]:
    """Rows of what ``agent`` scored: the version, and each model that it chose among.

    A candidate that is not known here is left out.

    Raises:
        FrameError: its statistics are those of another task or of other classes.
    """
    told = {TEST: report.statistic, f"{TEST}-last": report.last}
    # Of names that nothing here reads, an agent could think of new ones until the disk is full.
    candidates = {name: report.candidates[name] for name in CANDIDATES if name in report.candidates}
    told |= {f"{TEST}-{name}": each for name, each in candidates.items()}
    if report.served in candidates:
        told[f"{TEST}-{SERVED}"] = candidates[report.served]
    return [
        EvaluationRecord(
            job=job.name,
            version=report.version,
            agent=agent,
            split=split,
            statistic=msgpack.encode(_of_the_task(job, agent, statistic)),
            windows=statistic.count,
            received_ns=now_ns,
        )
        for split, statistic in told.items()
    ]


def _of_the_task(job: Job, agent: str, statistic: Statistic) -> Statistic:
    classes = statistic.classes if isinstance(statistic, ClassificationStatistic) else 0
    if classes != len(job.labels.classes):
        raise FrameError(
            f"evaluation: agent {agent} reports on {classes} classes, job {job.name} has "
            f"{len(job.labels.classes)} (0 for a regression)",
            remedy="bring agent and coordinator to one version of the software",
        )
    if task_of(statistic) != job.job.task:
        raise FrameError(
            f"evaluation: agent {agent} reports on a {task_of(statistic)}, job {job.name} is a "
            f"{job.job.task}",
            remedy="bring agent and coordinator to one version of the software",
        )
    return statistic
