# SPDX-License-Identifier: Apache-2.0
"""``fedmill job``: what can be said of a job file without running it."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from fedmill_coordinator.aggregation.robust.agreement import LEAST_OTHERS
from fedmill_shared.job import Job
from fedmill_shared.job.clusters import expand
from fedmill_shared.job_check import json_schema, load_job
from fedmill_shared.schema import schema_hash

RELEASES = {
    "better": "each version that does better",
    "last": "the last version",
    "manual": "what `fedmill models promote` names",
}
"""Values of ``rollout.release`` in words."""


@click.group(name="job", short_help="Check a job file, or print its JSON Schema.")
def command() -> None:
    """Check a job file, or print its JSON Schema."""


@command.command(name="check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole job with its defaults.")
def check(file: Path, *, as_json: bool) -> None:
    """Check FILE and say what it describes; exit code 11 if it is wrong."""
    job = load_job(file)
    if as_json:
        click.echo(msgspec.json.encode(job).decode())
        return
    outputs = ", ".join(job.labels.classes) or job.labels.unit
    if not job.needs_labels:
        outputs = "how unusual a window is, without labels"
    click.echo(f"{file}: job {job.name} is well formed")
    click.echo(f"  learns     {job.job.task}: {outputs}")
    inputs = sum(signal.role == "input" for signal in job.signals)
    signals = f"{inputs} signal{'s' if inputs > 1 else ''}"
    click.echo(f"  from       {signals}, windows of {job.window.length} samples")
    if job.features.steps:
        click.echo(f"  features   {len(job.inputs)}: {', '.join(job.features.steps)}")
    click.echo(f"  model      {type(job.model).__name__.lower()}")
    click.echo(f"  federation {job.federation.rounds} rounds of {job.federation.rule}")
    for line in (*_methods(job), *_operation(job)):
        click.echo(line)
    click.echo(f"  schema     {schema_hash(job)[:16]}")
    if job.federation.cluster_by:
        click.echo("  becomes")
        for each in expand(job):
            click.echo(f"    {each.name}: agents with {each.federation.select}")
    for warning in _warnings(job):
        click.echo(f"  warning    {warning}")


def _methods(job: Job) -> Iterator[str]:
    """How deltas travel, and what is not as by default: who counts, what stays, what serves."""
    compression, robustness, learning = job.compression, job.robustness, job.learning
    codecs = f"{compression.uplink} up, {compression.downlink} down"
    if compression.dense_rounds:
        codecs += f", {compression.dense} in the first {compression.dense_rounds} rounds"
    if compression.plateau_rounds:
        codecs += f", {compression.dense} where {compression.plateau_rounds} rounds gain nothing"
    yield f"  codecs     {codecs}"
    if robustness.rule != "mean":
        needs = ", which needs golden windows (coordinator.golden)"
        yield f"  robustness {robustness.rule}{needs if robustness.rule == 'trust' else ''}"
    if robustness.quarantine_rounds:
        tiny = 0 < job.federation.goal <= LEAST_OTHERS
        but = f"; never in rounds of {job.federation.goal}, where nobody can tell" if tiny else ""
        yield f"  quarantine after {robustness.quarantine_rounds} rounds apart{but}"
    if learning.personal != "none":
        yield f"  at home    the {'head' if learning.personal == 'head' else 'norms'} of each agent"
    if job.serving.candidates == "best":
        yield "  serves     the best of global, personal and local, by validation windows"


def _operation(job: Job) -> Iterator[str]:
    """What becomes of versions and predictions, as far as it is not as by default."""
    if job.rollout.release != "each":
        yield f"  releases   {RELEASES[job.rollout.release]}, to {', '.join(job.rollout.rings)}"
    if job.feedback.method != "off":
        yield f"  feedback   {job.feedback.method}, from {job.feedback.min_labels} labels on"
    if job.drift.watch:
        done = ", ".join(job.drift.on_alarm) or "it is told"
        yield f"  drift      of {', '.join(job.drift.watch)}; on an alarm: {done}"
    if job.alarms:
        yield f"  alarms     {', '.join(alarm.name for alarm in job.alarms)}"


def _warnings(job: Job) -> Iterator[str]:
    """What the file allows, and few people mean."""
    serving = job.serving
    if job.rollout.release in ("each", "better") or job.evaluation.validation:
        return  # the coordinator compares what it calls better, the agents what they hold out
    if not (serving.shadow_windows or serving.soak_windows):
        yield (
            "no agent would notice that a released model is worse: hold out "
            "evaluation.validation, or let agents compare live windows (serving.shadow_windows, "
            "serving.soak_windows)"
        )
    elif not (serving.least_agreement or job.job.task == "classification" or job.alarms):
        yield (
            "agents compare live windows, and any number would do: write "
            "serving.least_agreement, or hold out evaluation.validation"
        )


@command.command(name="schema")
def schema() -> None:
    """Print the JSON Schema of job files, for editors."""
    click.echo(msgspec.json.format(msgspec.json.encode(json_schema())).decode())
