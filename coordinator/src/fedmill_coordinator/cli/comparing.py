# SPDX-License-Identifier: Apache-2.0
"""``fedmill models diff``: two versions beside each other."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.listing import chosen_job, config_argument, job_option, opened
from fedmill_coordinator.cli.table import Column, Row, number, show_table, value
from fedmill_coordinator.config import load
from fedmill_coordinator.progress import merged_metric, statistics_of
from fedmill_coordinator.registry.catalogue import find_version
from fedmill_coordinator.registry.difference import Comparison, Difference, compare
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import VersionRecord


@click.command(name="diff")
@config_argument
@click.argument("a")
@click.argument("b")
@job_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff(config: Path, a: str, b: str, job: str | None, *, as_json: bool) -> None:
    """Compare the versions A and B: alias, number or SHA-256; JOB:VERSION names another job.

    Their weights role by role and tensor by tensor, what agents found on their held-out windows,
    and what is different in what they are fed with.
    """
    with opened(config) as store:
        first, second = (_found(store, job, name) for name in (a, b))
        compared = compare(store, Blobs(load(config).blobs), first, second)
        evaluations = _evaluations(store, first, second)
    if as_json:
        click.echo(msgspec.json.encode(_plain(first, second, compared, evaluations)).decode())
        return
    title = f"{_name(first)} -> {_name(second)}"
    show_table(f"{title}: weights by role", _columns("role"), _rows(compared.roles))
    click.echo()
    show_table("by tensor", _columns("tensor"), _rows(compared.tensors))
    _show_evaluations(evaluations)
    for line in _fed(compared):
        click.echo(line)


def _found(store: Store, job: str | None, name: str) -> VersionRecord:
    """The version that ``name`` means, of ``job`` where it names none.

    Raises:
        UsageError: there is no such job or version.
    """
    other, colon, version = name.rpartition(":")
    if colon:
        return find_version(store, chosen_job(store, other, f"the job of {name!r}"), version)
    return find_version(store, chosen_job(store, job), version)


def _name(record: VersionRecord) -> str:
    return f"version {record.number} of {record.job}"


def _evaluations(store: Store, first: VersionRecord, second: VersionRecord) -> list[Row]:
    """What each agent found of both on its test windows, and all of them together."""
    told = [statistics_of(store, each.job, each.version) for each in (first, second)]
    agents = sorted({*told[0], *told[1]})
    groups = {agent: [agent] for agent in agents} | {"all agents": agents}
    rows: list[Row] = []
    for name, members in groups.items():
        a, b = (merged_metric(each[m] for m in members if m in each) for each in told)
        metrics = dict.fromkeys(each.name for each in (a, b) if each)
        if metrics:
            rows.append(
                {
                    "agent": name,
                    "metric": " -> ".join(metrics),
                    "a": a.value if a else None,
                    "b": b.value if b else None,
                    "windows_a": a.windows if a else 0,
                    "windows_b": b.windows if b else 0,
                }
            )
    return rows


def _rows(differences: Sequence[Difference]) -> list[Row]:
    return [
        {
            "name": each.name,
            "role": each.role,
            "elements": each.elements,
            "norm": each.norm,
            "change": each.change,
            "relative": each.relative,
            "largest": each.largest,
        }
        for each in differences
    ]


def _columns(heading: str) -> list[Column]:
    return [
        Column(heading, value("name")),
        *([Column("role", value("role"), spare=2)] if heading != "role" else []),
        Column("elements", value("elements"), right=True, spare=1),
        Column("norm of A", value("norm", number), right=True),
        Column("difference", value("change", number), right=True),
        Column("relative", value("relative", number), right=True),
        Column("largest change", value("largest", number), right=True, spare=3),
    ]


def _show_evaluations(rows: Sequence[Row]) -> None:
    click.echo()
    if not rows:
        click.echo("evaluations: no agent has evaluated either")
        return
    columns = [
        Column("agent", value("agent")),
        Column("metric", value("metric")),
        Column("A", value("a", number), right=True),
        Column("B", value("b", number), right=True),
        Column("windows of A", value("windows_a"), right=True, spare=1),
        Column("of B", value("windows_b"), right=True, spare=1),
    ]
    show_table("evaluations", columns, rows)


def _fed(compared: Comparison) -> list[str]:
    """What differs in what they are fed with, in lines."""
    lines = [f"only in one, or of another shape: {name}" for name in compared.unlike]
    lines += [f"{field}: {a!r} -> {b!r}" for field, (a, b) in compared.fields.items()]
    if not compared.standardisation:
        lines.append("they were agreed on with different standardisations")
    return lines or ["signals, window, preprocessing and labels are the same"]


def _plain(
    first: VersionRecord, second: VersionRecord, compared: Comparison, evaluations: Sequence[Row]
) -> Row:
    return {
        "a": {"job": first.job, "number": first.number, "version": first.version},
        "b": {"job": second.job, "number": second.number, "version": second.version},
        "roles": _rows(compared.roles),
        "tensors": _rows(compared.tensors),
        "unlike": compared.unlike,
        "evaluations": list(evaluations),
        "fields": {field: list(both) for field, both in compared.fields.items()},
        "same_standardisation": compared.standardisation,
    }
