# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent check``: everything that can be known before the daemon starts."""

import argparse
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path

from fedmill_agent.cli import config_argument
from fedmill_agent.cli.check_broker import check_broker
from fedmill_agent.cli.check_machine import (
    check_audit,
    check_identity,
    check_trust,
    machine_lines,
)
from fedmill_agent.cli.eligibility import eligibility_lines
from fedmill_agent.cli.naming import check_units
from fedmill_agent.cli.tally import Tally, check_labels, job_lines, source_lines, tally
from fedmill_agent.cli.trial import Delivery, Extent, read_for, read_tags
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.labels.options import LabelOptions
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import ReplayOptions, SourceOptions
from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import DataError, FedmillError
from fedmill_shared.job import Job, Signal
from fedmill_shared.job_check import load_job

TRAINING_BYTES = 350 << 20
"""What the training process of a small model takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--job", type=Path, help="job file that the sources must fit")
    parser.add_argument("--offline", action="store_true", help="do not try the broker")


def run(options: argparse.Namespace) -> int:
    """Check everything, print what was found, and return the first problem's exit code."""
    config = load(options.config)
    print(f"{options.config}: configuration of agent {config.agent.id} is well formed")
    job = load_job(options.job) if options.job else None
    problems: list[FedmillError] = []
    _show_gateway(config)
    clock, tallies = SystemClock(), list[Tally]()
    if not options.offline:
        _attempt(problems, lambda: check_broker(config))
    for source in config.sources:
        if not isinstance(source, ReplayOptions):
            _attempt(problems, partial(_check_live, source, job, clock))
        elif job is None:
            _attempt(problems, partial(_check_mapped, source, clock))
        else:
            _attempt(problems, partial(_check_for, source, job, clock, tallies))
    for labels in config.labels:
        _attempt(problems, partial(_check_labelling, labels, config.agent.id, job, clock))
    if job is not None:
        _show_job(config, job, tallies, clock)
    _check_machine(problems, config, clock)
    for problem in problems:
        print(f"problem: {problem}")
    return problems[0].exit_code if problems else 0


def _check_machine(problems: list[FedmillError], config: AgentConfig, clock: Clock) -> None:
    """Who the agent is, whom it trusts, what is known of its past, and its machine."""
    _attempt(problems, lambda: check_identity(config, clock))
    _attempt(problems, lambda: check_trust(config))
    _attempt(problems, lambda: check_audit(config))
    for line in machine_lines(config):
        print(line)


def _show_job(config: AgentConfig, job: Job, tallies: list[Tally], clock: Clock) -> None:
    """What all sources bring to ``job``, then what is missing for the agent to train."""
    lines = [*job_lines(job, tallies, learns=config.training.enabled)] if tallies else []
    lines += eligibility_lines(config, job, clock)
    recordings = [each for each in config.sources if isinstance(each, ReplayOptions)]
    if lines and not tallies and recordings:
        print(f"job {job.name}: no source could be read")
    for line in lines:
        print(line)


def _attempt(problems: list[FedmillError], check: Callable[[], None]) -> None:
    try:
        check()
    except FedmillError as error:
        problems.append(error)


def _show_gateway(config: AgentConfig) -> None:
    """What the machine has, with a note where that may not be enough."""
    import psutil  # noqa: PLC0415  for the command, not for the daemon

    memory = psutil.virtual_memory()
    state = Path(config.agent.state)
    existing = next(folder for folder in (state, *state.parents) if folder.exists())
    disk = psutil.disk_usage(str(existing))
    held = sum(path.stat().st_size for path in state.glob("jobs/*/windows-*.sqlite"))
    print(
        f"gateway: {psutil.cpu_count()} processors, {memory.available / 2**20:.0f} of "
        f"{memory.total / 2**20:.0f} MiB memory free, {disk.free / 1e9:.1f} GB free in {existing}"
    )
    if config.training.enabled and memory.available < TRAINING_BYTES:
        print(
            f"  note: training may need {TRAINING_BYTES >> 20} MiB; rounds may fail for lack of it"
        )
    if disk.free + held < config.store.max_bytes:
        print(
            "  note: store.max_bytes lets a job's windows grow to "
            f"{config.store.max_bytes / 1e9:.1f} GB, more than the disk has; lower it, or free "
            "some space"
        )


def _check_labelling(options: LabelOptions, agent: str, job: Job | None, clock: Clock) -> None:
    from fedmill_agent.cli.check_labelling import check_labelling  # noqa: PLC0415  takes memory

    check_labelling(options, agent, job, clock)


def _check_mapped(source: SourceOptions, clock: Clock) -> None:
    """Show what can be known of ``source`` without a job.

    Raises:
        SchemaError: a unit is unknown.
        DataError: it cannot be read.
    """
    check_units(source)
    if not source.tags:
        own_hz = kind_of(source).rate(source)
        rate = f"{own_hz:.6g} Hz" if own_hz else "rate unknown"
        print(f"source {source.name}: {rate}; maps no tags, give --job to read it for a job")
        return
    delivery = read_tags(source, clock)
    rate = f"{delivery.own_hz:.6g} Hz" if delivery.own_hz else "rate unknown"
    print(f"source {source.name}: {_amount(source, delivery)}, {rate}")
    for (name, tag), extent in zip(source.tags.items(), delivery.extents, strict=True):
        _show_tag(name, tag, source.units.get(name, ""), extent, delivery.samples)


def _check_for(source: SourceOptions, job: Job, clock: Clock, tallies: list[Tally]) -> None:
    """Show what ``source`` delivers to ``job``, and add it to ``tallies``.

    Raises:
        SchemaError: it does not fit the job.
        DataError: it cannot be read, or has a label the job does not know.
    """
    delivery = read_for(source, job, clock)
    amount, rate_hz = _amount(source, delivery), delivery.rate_hz
    origin = "" if delivery.own_hz else " (the job's; the source tells none)"
    if delivery.own_hz > 1.5 * rate_hz:  # a whole multiple, or a time column that is not exact
        origin = f" (from {delivery.own_hz:.6g} Hz)"
    print(f"source {source.name}: {amount}, {rate_hz:.6g} Hz{origin}")
    for signal, tag, extent in zip(job.signals, delivery.tags, delivery.extents, strict=True):
        unit = source.units.get(signal.name, signal.unit)
        _show_tag(signal.name, tag, unit, extent, _due(signal, rate_hz, job, delivery.samples))
    counted = tally(source, job, delivery)
    for line in source_lines(source, job, delivery, counted):
        print(f"  {line}")
    tallies.append(counted)
    check_labels(source, job, delivery)


def _check_live(source: SourceOptions, job: Job | None, clock: Clock) -> None:
    from fedmill_agent.cli.check_live import check_live  # noqa: PLC0415  only where one is named

    check_live(source, job, clock)


def _amount(source: SourceOptions, delivery: Delivery) -> str:
    """How much was read.

    Raises:
        DataError: nothing.
    """
    if not delivery.samples:
        raise DataError(
            f"source {source.name!r} delivers no samples", remedy="look into its file or device"
        )
    runs = f" in {len(delivery.runs)} runs" if len(delivery.runs) > 1 else ""
    beginning = "" if delivery.whole else " (not to the end)"
    return f"{delivery.samples} samples read{runs}{beginning}"


def _due(signal: Signal, rate_hz: float, job: Job, samples: int) -> int:
    """Of so many samples at ``rate_hz``, those in which ``signal`` has a value if all is well."""
    if signal.rate_hz == job.rate_hz:
        return samples
    return min(samples, ceil(samples * signal.rate_hz / rate_hz * (1 - 1e-9)))


def _show_tag(name: str, tag: str, unit: str, extent: Extent, samples: int) -> None:
    told = "" if unit == "1" else unit
    found = f"{extent.low:.6g} to {extent.high:.6g} {told}".rstrip()
    share = f"{100 * min(1.0, extent.good / samples):.0f} % good"
    print(f"  {name:<20} tag {tag:<16} {found if extent.good else 'nothing good'}, {share}")
