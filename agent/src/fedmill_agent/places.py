# SPDX-License-Identifier: Apache-2.0
"""Where in its state folder an agent keeps what belongs to a job."""

from pathlib import Path

from fedmill_shared.job import Job
from fedmill_shared.schema import schema_hash


def job_folder(state: str, job: str) -> Path:
    """Folder of the job with this name."""
    return Path(state) / "jobs" / job


def windows_file(state: str, job: Job) -> Path:
    """Store of the job's windows; another one once its signals, window or labels change."""
    return job_folder(state, job.name) / f"windows-{_prefix(job)}.sqlite"


def versions_folder(state: str, job: Job) -> Path:
    """Model versions that take the job's windows."""
    return job_folder(state, job.name) / f"versions-{_prefix(job)}"


def _prefix(job: Job) -> str:
    return schema_hash(job)[:16]
