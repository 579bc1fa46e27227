# SPDX-License-Identifier: Apache-2.0
"""``fedmill models``: versions and their releases, and the export of one as a plain ONNX file."""

from pathlib import Path

import click

from fedmill_coordinator.cli import releases
from fedmill_coordinator.cli.comparing import diff
from fedmill_coordinator.cli.listing import (
    ListingGroup,
    chosen_job,
    config_argument,
    job_option,
    json_option,
    last_option,
    opened,
    show,
    when,
)
from fedmill_coordinator.cli.table import Column, digest, metric_column, value
from fedmill_coordinator.cli.watching import watch
from fedmill_coordinator.config import load
from fedmill_coordinator.progress import metric_of
from fedmill_coordinator.registry.catalogue import export_bytes, find_version
from fedmill_coordinator.store.blobs import Blobs
from fedmill_shared.errors import UsageError
from fedmill_shared.files import write_atomic


@click.group(
    name="models",
    cls=ListingGroup,
    short_help="List, compare and export versions; say which one agents are to serve.",
)
def command() -> None:
    """List, compare and export model versions; say which one agents are to serve.

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
        released = {each.version: f"{each.release} {each.state}" for each in store.releases(name)}
        rows = []
        for record in store.versions(name)[-last:]:
            metric = metric_of(store, name, record.version)
            rows.append(
                {
                    "number": record.number,
                    "version": record.version,
                    "alias": ", ".join(a.alias for a in aliases if a.version == record.version),
                    "release": released.get(record.version, ""),
                    "round": record.round,
                    "created": when(record.created_ns),
                    "metric": metric.name if metric else "",
                    "value": metric.value if metric else None,
                    "windows": metric.windows if metric else 0,
                    "weights": "kept" if record.weights else "forgotten",
                }
            )
    columns = [
        Column("number", value("number"), right=True),
        Column("version", value("version", digest)),
        Column("alias", value("alias"), wraps=True),
        Column("release", value("release"), wraps=True),
        Column("round", value("round"), right=True),
        Column("created (UTC)", value("created"), spare=3),
        metric_column(rows),
        Column("windows", value("windows"), right=True, spare=2),
        Column("weights", value("weights"), spare=1),
    ]
    show(f"models of {name}", rows, columns, as_json=as_json)


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


for each in (
    releases.show_release,
    releases.promote,
    releases.rollback,
    releases.pause,
    releases.resume,
    diff,
    watch,
):
    command.add_command(each)
