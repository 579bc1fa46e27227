# SPDX-License-Identifier: Apache-2.0
"""Job files read, checked across fields, and put into the one form that everybody hashes."""

from pathlib import Path

import msgspec

from fedmill_shared import toml
from fedmill_shared.errors import JobError
from fedmill_shared.job import Job
from fedmill_shared.job.faults import faults
from fedmill_shared.job.later import LATER, plain
from fedmill_shared.job.model import Pca

LARGEST_CANONICAL = 1 << 20
"""Bytes of the largest canonical job that is decoded."""


def load_job(path: Path) -> Job:
    """The job file at ``path``, decoded and checked.

    Raises:
        JobError: it cannot be read, is no TOML, does not fit the types or breaks a rule.
    """
    return decode_job(toml.read(path, JobError), str(path))


def decode_job(text: str, path: str) -> Job:
    """The job in ``text``, checked; ``path`` only names the file in errors.

    Raises:
        JobError: ``text`` is no TOML, does not fit the types or breaks a rule.
    """
    job = toml.decode(text, Job, path=path, error=JobError)
    if isinstance(job.model, Pca):
        from fedmill_shared.job.pca import settled  # noqa: PLC0415  few jobs need it

        job = settled(job, toml.parse(text, path, JobError))
    for fault in faults(job):
        raise toml.fault_error(fault, text, path, JobError)
    return job


def check(job: Job) -> None:
    """Raise JobError for the first rule between fields that ``job`` breaks."""
    for fault in faults(job):
        raise JobError(f'job "{job.name}": {fault.message}', remedy=fault.remedy)


def canonical(job: Job) -> bytes:
    """``job`` as JSON with defaults written out and every name sorted: what is hashed.

    Later fields are left out at their default, and sections of which nothing is left.
    """
    sections = {name: plain(name, getattr(job, name)) for name in job.__struct_fields__}
    told = {
        name: value
        for name, value in sections.items()
        if value not in ({}, []) or name not in LATER
    }
    return msgspec.json.encode(told, order="sorted")


def job_from_canonical(data: bytes) -> Job:
    """The job that ``canonical`` wrote, checked.

    Raises:
        JobError: over 1 MiB, no JSON, another version's fields, or a broken rule.
    """
    if len(data) > LARGEST_CANONICAL:
        raise JobError(f"job is {len(data)} bytes, at most {LARGEST_CANONICAL} are read")
    try:
        job = msgspec.json.decode(data, type=Job, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise JobError(
            f"job cannot be decoded: {problem}",
            remedy="install the same version of fedmill on agents and coordinator",
        ) from problem
    check(job)
    return job


def json_schema() -> dict[str, object]:
    """JSON Schema (2020-12) of the job file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fedmill job",
        **msgspec.json.schema(Job),
    }
