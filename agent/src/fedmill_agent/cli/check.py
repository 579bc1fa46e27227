# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent check``: everything that can be known before the daemon starts."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from fedmill_agent.cli import config_argument
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.intake import map_source
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import LabelInterval, Samples, SourceOptions
from fedmill_shared.errors import BrokerError, DataError, FedmillError
from fedmill_shared.job import Job
from fedmill_shared.job_check import load_job
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent
from fedmill_shared.link.mqtt import Endpoint, MqttLink

CONNECT_SECONDS = 5.0
EVENTS = 64
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
    if not options.offline:
        _attempt(problems, lambda: _check_broker(config))
    for source in config.sources:
        _attempt(problems, partial(_check_source, source, job))
    for problem in problems:
        print(f"problem: {problem}")
    return problems[0].exit_code if problems else 0


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


def _check_broker(config: AgentConfig) -> None:
    events: SimpleQueue[LinkEvent] = SimpleQueue()
    broker = config.broker
    endpoint = Endpoint(
        host=broker.host,
        port=broker.port,
        client_id=f"{config.agent.id}-check",
        subscriptions=(),
    )
    link = MqttLink(endpoint, events.put)
    link.start()
    try:
        event: LinkEvent = events.get(timeout=CONNECT_SECONDS)
    except Empty:
        event = Disconnected(f"no answer within {CONNECT_SECONDS:.0f} s")
    finally:
        link.stop()
    if not isinstance(event, Connected):
        reason = event.reason if isinstance(event, Disconnected) else "unexpected answer"
        raise BrokerError(
            f"broker {broker.host}:{broker.port}: {reason}",
            remedy="start the broker, or correct [broker] host and port",
        )
    print(f"broker {broker.host}:{broker.port}: connected")


def _check_source(source: SourceOptions, job: Job | None) -> None:
    """Read the first events of ``source`` and show each signal.

    Raises:
        SchemaError: it does not fit the job.
        DataError: it cannot be read, or has a label the job does not know.
    """
    kind = kind_of(source)
    if job is None:
        tags, names, rate_hz = list(source.tags.values()), list(source.tags), 1.0
        if not tags:
            print(f"source {source.name}: maps no tags; give --job to check it against a job")
            return
    else:
        mapping = map_source(job.name, job.signals, source)
        tags, names = mapping.tags, [signal.name for signal in job.signals]
        rate_hz = job.signals[0].rate_hz
    events = list(islice(kind.read(source, tags, rate_hz), EVENTS))
    chunks = [event for event in events if isinstance(event, Samples)]
    if not chunks:
        raise DataError(
            f"source {source.name!r} delivers no samples", remedy="look into its file or device"
        )
    _check_labels(source, job, [event for event in events if isinstance(event, LabelInterval)])
    values = np.concatenate([chunk.values for chunk in chunks], axis=1)
    rate = 1e9 / chunks[0].period_ns
    print(f"source {source.name}: {values.shape[1]} samples read, {rate:g} Hz")
    _show(source, job, names, tags, values)


def _show(
    source: SourceOptions,
    job: Job | None,
    names: Sequence[str],
    tags: Sequence[str],
    values: "np.typing.NDArray[np.float64]",
) -> None:
    for row, (name, tag) in enumerate(zip(names, tags, strict=True)):
        unit = source.units.get(name) or (job.signals[row].unit if job is not None else "")
        good = values[row][np.isfinite(values[row])]
        share = len(good) / values.shape[1]
        extent = f"{good.min():.6g} to {good.max():.6g} {unit}" if len(good) else "nothing good"
        print(f"  {name:<20} tag {tag:<16} {extent}, {100 * share:.0f} % good")


def _check_labels(source: SourceOptions, job: Job | None, labels: list[LabelInterval]) -> None:
    if job is None or job.job.task != "classification":
        return
    for label in labels:
        if label.text not in job.labels.classes:
            raise DataError(
                f"source {source.name!r}: label {label.text!r} is not one of labels.classes",
                remedy=f"classes of the job: {', '.join(job.labels.classes)}",
            )
