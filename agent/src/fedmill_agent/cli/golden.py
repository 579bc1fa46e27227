# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent golden``: release some labelled windows of this agent to its coordinator.

The only way by which windows leave an agent: an operator runs it, and carries the file over. The
windows are drawn evenly over the classes, or over the range of the target. A coordinator offers a
job with the rule ``trust`` only once it has the file, so an agent that has stored no windows of the
job yet reads its sources for it.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.audited import audit_log
from fedmill_agent.cli import config_argument
from fedmill_agent.cli.fit import read
from fedmill_agent.cli.trial import MOST_SECONDS
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import Intake
from fedmill_agent.places import windows_file
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import SourceOptions
from fedmill_agent.sources.runner import SourceEnded, SourceEvent
from fedmill_agent.store.dataset import Dataset
from fedmill_agent.store.joining import joining_of
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.audit.person import who
from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import DataError, UsageError
from fedmill_shared.files import make_folder
from fedmill_shared.golden import LARGEST_BYTES, pack_golden, write_golden
from fedmill_shared.job import Job
from fedmill_shared.job_check import load_job
from fedmill_shared.log import get_logger
from fedmill_shared.seeds import seed_for

MOST = 100_000
LONGEST_SECONDS = 1e9
"""No window grows too old while the sources are read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--job", type=Path, required=True, help="job file")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--windows", type=int, default=200, help="how many at most (200)")


def run(options: argparse.Namespace) -> int:
    """Write the file and say what is in it.

    Raises:
        UsageError: the number of windows is impossible, or the file exists.
        StoreError: stored windows cannot be read, the file cannot be written, or it cannot be
            recorded who releases them.
        SchemaError: the sources do not fit the job.
        DataError: no source can be read, or no training window has a label.
    """
    if not 1 <= options.windows <= MOST:
        raise UsageError(f"--windows {options.windows}: give 1 to {MOST}")
    if options.out.exists():
        raise UsageError(f"--out {options.out}: exists", remedy="give another name or remove it")
    job, config = load_job(options.job), load(options.config)
    stored = windows_file(config.agent.state, job).exists()
    dataset = read(config, job, "train") if stored else from_sources(config, job, SystemClock())
    if not len(dataset):
        raise DataError(
            f"job {job.name}: no {job.learns_from}",
            remedy="see what the sources deliver: fedmill-agent check CONFIG --job FILE",
        )
    chosen = draw(dataset, options.windows, seed_for(job.name, config.agent.id, "golden"))
    golden = pack_golden(
        job,
        dataset.inputs[chosen],
        [dataset.texts[i] for i in chosen],
        dataset.numbers[chosen],
        [dataset.runs[i] for i in chosen],
    )
    _put_down(config, job, f"{len(chosen)} windows to {options.out}")
    write_golden(options.out, golden)
    windows = "labelled windows" if job.needs_labels else "windows"
    print(f"{options.out}: {len(chosen)} {windows} of job {job.name}; they are raw data")
    lacking = [name for name in job.labels.classes if name not in dataset.texts]
    if lacking:
        print(f"  missing: {', '.join(lacking)}; updates of agents that learn these count less")
    return 0


def _put_down(config: AgentConfig, job: Job, after: str) -> None:
    """Record who releases windows, before they are."""
    make_folder(Path(config.agent.state))
    audit_log(config.agent, SystemClock()).record(
        who=who(), what="golden.released", subject=job.name, after=after
    )


def from_sources(config: AgentConfig, job: Job, clock: Clock) -> Dataset:
    """Labelled training windows of what the sources deliver, each read for some seconds at most.

    They are held out as the daemon would. What is stored for that is removed again.

    Raises:
        StoreError: the state folder cannot be written.
        SchemaError: the sources do not fit the job.
        DataError: no source can be read.
    """
    make_folder(Path(config.agent.state))
    with (
        TemporaryDirectory(prefix="golden-", dir=config.agent.state) as folder,
        WindowStore(
            Path(folder, "windows.sqlite"),
            clock=clock,
            max_bytes=LARGEST_BYTES,
            max_age_seconds=LONGEST_SECONDS,
            joining=joining_of(job.labels),
        ) as store,
    ):
        intake = Intake(job, config, store, Scorer(clock), get_logger(job=job.name))
        for source in config.sources:
            if source.split in ("auto", "train"):
                _take_in(intake, source, job.rate_hz, clock)
        if (failure := intake.failure()) is not None:
            raise failure
        return store.load("train", task=job.job.task)


def _take_in(intake: Intake, source: SourceOptions, rate_hz: float, clock: Clock) -> None:
    end = clock.monotonic() + MOST_SECONDS
    error = None
    try:
        for event in kind_of(source).read(source, intake.tags(source.name), rate_hz):
            intake.accept(SourceEvent(source.name, event))
            if clock.monotonic() > end:
                break
    except DataError as problem:
        error = problem
    intake.accept(SourceEnded(source.name, error))


def draw(dataset: Dataset, most: int, seed: int) -> NDArray[np.int64]:
    """Positions (at most ``most``) in ascending order, every class as often as it can be.

    Numbers are drawn evenly over their ranks.
    """
    generator = np.random.default_rng(seed)
    if not any(dataset.texts):
        order = np.argsort(dataset.numbers, kind="stable")
        places = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(np.int64)
        return np.sort(order[np.unique(places)])
    texts = np.array(dataset.texts)
    hands = [generator.permutation(np.flatnonzero(texts == name)) for name in np.unique(texts)]
    turns = [(turn, position) for hand in hands for turn, position in enumerate(hand)]
    turns.sort(key=lambda entry: entry[0])
    return np.sort(np.array([position for _, position in turns[:most]], np.int64))
