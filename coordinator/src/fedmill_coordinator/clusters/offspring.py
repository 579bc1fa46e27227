# SPDX-License-Identifier: Apache-2.0
"""A job of its own for each cluster of a job's agents, which goes on from where that job is."""

from collections.abc import Mapping, Sequence

import msgspec
import tomli_w
from msgspec import Struct, structs

from fedmill_coordinator.clusters.telling import Telling
from fedmill_shared.job import Job, Pca
from fedmill_shared.job.clusters import LONGEST_NAME, narrowed
from fedmill_shared.job.pca import USUAL
from fedmill_shared.job_check import decode_job


def offspring(job: Job, clusters: Sequence[Sequence[str]], told: Telling) -> dict[str, bytes]:
    """Job files by the names of the jobs, one for each of ``clusters``, which ``told`` tells apart.

    They start from ``job``, and want no more agents than their cluster has.

    Raises:
        JobError: a name or a selector would be too long.
    """
    files = {}
    names = _names(job.name, told.words)
    for agents, condition, name in zip(clusters, told.conditions, names, strict=True):
        federation = job.federation
        own = structs.replace(
            federation,
            select=narrowed(federation.select, condition),
            start=job.name,
            minimum=min(federation.minimum, len(agents)),
            goal=min(federation.goal, len(agents)),
        )
        task = structs.replace(job.job, name=name)
        text = job_file(structs.replace(job, job=task, federation=own))
        decode_job(text.decode(), name)
        files[name] = text
    return files


def _names(job: str, words: Sequence[str]) -> list[str]:
    """Names after the ``words``, or numbered ones where a name would be too long."""
    names = [f"{job}-{word}" for word in words]
    if max(map(len, names)) <= LONGEST_NAME:
        return names
    return [f"{job}-{number}" for number in range(1, len(words) + 1)]


def job_file(job: Job) -> bytes:
    """``job`` as a TOML file, without what has its default."""
    table = _written(job)
    if isinstance(job.model, Pca):  # its defaults are others
        for name, fields in USUAL.items():
            section, told = getattr(job, name), table.get(name)
            own = {field: getattr(section, field) for field in fields}
            table[name] = {**told, **own} if isinstance(told, Mapping) else own
    return tomli_w.dumps(table).encode()


def _written(struct: Struct) -> dict[str, object]:
    """Fields of ``struct`` that are not at their default, as TOML has them."""
    config = struct.__struct_config__
    table: dict[str, object] = {config.tag_field: config.tag} if config.tag_field else {}
    for field in structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if value == default:
            continue
        if isinstance(value, Struct):
            value = _written(value)
        elif isinstance(value, list) and value and isinstance(value[0], Struct):
            value = [_written(item) for item in value]
        table[field.encode_name] = value
    return table
