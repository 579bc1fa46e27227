# SPDX-License-Identifier: Apache-2.0
"""``fedmill models``: versions and aliases, and the export of one as a plain ONNX file."""

from pathlib import Path

import click
import numpy as np

from fedmill_coordinator.cli.listing import (
    chosen_job,
    config_argument,
    job_option,
    json_option,
    last_option,
    opened,
    show,
    when,
)
from fedmill_coordinator.config import load
from fedmill_coordinator.progress import metric_of
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.errors import StoreError, UsageError
from fedmill_shared.files import write_atomic
from fedmill_shared.link.blocks import BLOB_LIMIT


class ListingGroup(click.Group):
    """A group whose command ``list`` need not be named."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` before anything that is neither a command nor a plea for help."""
        if args and args[0] not in (*self.commands, "--help"):
            args = ["list", *args]
        return super().parse_args(context, args)


@click.group(
    name="models",
    cls=ListingGroup,
    short_help="List model versions, or export one as a plain .onnx file.",
)
def command() -> None:
    """List model versions, or export one as a plain .onnx file.

    `fedmill models CONFIG` is short for `fedmill models list CONFIG`.
    """


@command.command(name="list")
@config_argument
@job_option
@json_option
@last_option
def list_versions(config: Path, job: str | None, *, as_json: bool, last: int) -> None:
    """List the versions of a job, the newest last."""
    with opened(config) as store:
        name = chosen_job(store, job)
        aliases = store.aliases(name)
        rows = []
        for record in store.versions(name)[-last:]:
            metric = metric_of(store, name, record.version)
            rows.append(
                {
                    "number": record.number,
                    "version": record.version if as_json else record.version[:12],
                    "alias": ", ".join(a.alias for a in aliases if a.version == record.version),
                    "round": record.round,
                    "created": when(record.created_ns),
                    "metric": metric.name if metric else "",
                    "value": metric.value if metric else None,
                    "windows": metric.windows if metric else 0,
                    "weights": "kept" if record.weights else "forgotten",
                }
            )
    show(f"models of {name}", rows, as_json=as_json, only_json=["created"])


@command.command(name="export")
@config_argument
@click.argument("file", type=click.Path(path_type=Path))
@job_option
@click.option(
    "--version", "wanted", default="stable", show_default=True, help="Alias, number or SHA-256."
)
def export(config: Path, file: Path, job: str | None, wanted: str) -> None:
    """Write a version as one self-contained ONNX file, for any other tool."""
    if file.is_dir():
        raise UsageError(f"{file}: is a folder", remedy="give the name of a file in it")
    with opened(config) as store:
        name = chosen_job(store, job)
        record = find_version(store, name, wanted)
        data = export_bytes(store, Blobs(load(config).blobs), record)
    write_atomic(file, data)
    click.echo(f"{file}: version {record.number} ({record.version[:12]}), {len(data)} bytes")


def find_version(store: Store, job: str, wanted: str) -> VersionRecord:
    """The version that an alias, a number or the start of a SHA-256 names.

    Raises:
        UsageError: nothing, or more than one version, has that name.
    """
    aliases = {alias.alias: alias.version for alias in store.aliases(job)}
    sought = aliases.get(wanted, wanted)  # type: ignore[call-overload]
    versions = store.versions(job)
    found = [v for v in versions if v.version == sought or str(v.number) == sought]
    found = found or [v for v in versions if len(sought) >= 6 and v.version.startswith(sought)]
    if len(found) != 1:
        raise UsageError(
            f"--version is {wanted!r}, which names {len(found)} versions of job {job}",
            remedy=f"aliases: {', '.join(aliases) or 'none yet'}; see `fedmill models list`",
        )
    return found[0]


def export_bytes(store: Store, blobs: Blobs, record: VersionRecord) -> bytes:
    """The self-contained ONNX file of a version.

    Raises:
        StoreError: its weights were forgotten, or a blob is damaged.
    """
    from fedmill_coordinator.registry.export import self_contained  # noqa: PLC0415  imports onnx

    job = store.job(record.job)
    if job is None or job.template is None or record.weights is None:
        raise StoreError(
            f"version {record.number} of job {record.job}: its weights are no longer kept",
            remedy="choose one that `fedmill models list` shows as kept",
        )
    weights = np.frombuffer(blobs.get(record.weights, BLOB_LIMIT), "<f4")
    return self_contained(blobs.get(job.template, BLOB_LIMIT), weights)
