# SPDX-License-Identifier: Apache-2.0
"""Where in its state folder an agent keeps what belongs to a job or to a source, and labels."""

from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

from fedmill_shared.job import Job
from fedmill_shared.schema import schema_hash

SAMPLES = "samples"
_SUFFIX = ".sqlite"
_LONGEST = 120


def job_folder(state: str, job: str) -> Path:
    """Folder of the job with this name."""
    return Path(state) / "jobs" / job


def windows_file(state: str, job: Job) -> Path:
    """Store of the job's windows; another one once its signals, window or labels change."""
    return job_folder(state, job.name) / f"windows-{_prefix(job)}.sqlite"


def versions_folder(state: str, job: Job) -> Path:
    """Model versions that take the job's windows."""
    return job_folder(state, job.name) / f"versions-{_prefix(job)}"


def samples_file(state: str, source: str) -> Path:
    """Raw samples of the live source with this name, whatever characters it has."""
    name = quote(source, safe=" ")
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}%-{sha256(source.encode()).hexdigest()[:16]}"
    return Path(state) / SAMPLES / f"{name}{_SUFFIX}"


def sampled_sources(state: str) -> dict[str, Path]:
    """Files of raw samples that are there, by what they are called."""
    found = sorted((Path(state) / SAMPLES).glob(f"*{_SUFFIX}"))
    return {unquote(path.name.removesuffix(_SUFFIX)): path for path in found}


def labels_file(state: str) -> Path:
    """All labels that came by themselves."""
    return Path(state) / "labels.sqlite"


def labels_folder(state: str) -> Path:
    """Labels that the command line has left for the daemon."""
    return Path(state) / "labels"


def good_config(state: str) -> Path:
    """The last configuration that was good and is in use."""
    return Path(state) / "last-good.toml"


def _prefix(job: Job) -> str:
    return schema_hash(job)[:16]
