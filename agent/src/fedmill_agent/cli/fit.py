# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent fit``: train offline on the windows that agents have stored, and score it.

The baseline of every federation: one configuration gives the local-only model of that agent,
several give the model of their pooled data, as if it could have left the plants. It is a federation
of one: the job's rounds, local work, schedule and server rule, and as many passes over the data.
"""

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np

from fedmill_agent.cli import config_argument
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.places import windows_file
from fedmill_agent.store.dataset import Dataset
from fedmill_agent.store.splits import StoredSplit
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.errors import DataError, StoreError, UsageError
from fedmill_shared.job import Job
from fedmill_shared.job_check import load_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="CONFIG")
    parser.add_argument("--job", type=Path, required=True, help="job file")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of work (0: the job's)")


def run(options: argparse.Namespace) -> int:
    """Train, then print one JSON object: metrics for each configuration's held-out windows.

    Raises:
        UsageError: the number of rounds is negative.
        StoreError: an agent has not stored windows of this job.
        DataError: there is nothing to train on.
    """
    from fedmill_agent.training.baseline import fit_and_score  # noqa: PLC0415  imports torch

    job = load_job(options.job)
    if options.rounds < 0:
        raise UsageError(f"--rounds {options.rounds}: give 1 or more, or 0 for the job's rounds")
    if options.rounds:
        federation = msgspec.structs.replace(job.federation, rounds=options.rounds)
        job = msgspec.structs.replace(job, federation=federation)
    configs = [load(path) for path in (options.config, *options.also)]
    train = joined([read(config, job, "train") for config in configs])
    if not len(train):
        raise DataError(f"job {job.name}: no {job.learns_from}")
    held_out = {config.agent.id: read(config, job, "test") for config in configs}
    for result in fit_and_score(job, train, held_out, agents=len(configs)):
        print(msgspec.json.encode(result).decode())
    return 0


def read(config: AgentConfig, job: Job, split: StoredSplit) -> Dataset:
    """Labelled windows of one split that an agent has stored.

    Raises:
        StoreError: it has none of this job.
    """
    path = windows_file(config.agent.state, job)
    if not path.exists():
        raise StoreError(
            f"{path}: agent {config.agent.id} has stored no windows of job {job.name}",
            remedy="run the agent first",
        )
    with WindowStore.reader(path) as store:
        return store.load(split, task=job.job.task)


def joined(parts: Sequence[Dataset]) -> Dataset:
    """All windows of ``parts``, in their order."""
    full = [part for part in parts if len(part)] or [parts[0]]
    return Dataset(
        inputs=np.concatenate([part.inputs for part in full]),
        texts=list(chain.from_iterable(part.texts for part in full)),
        numbers=np.concatenate([part.numbers for part in full]),
        runs=list(chain.from_iterable(part.runs for part in full)),
        units=list(chain.from_iterable(part.units for part in full)),
        end_ns=np.concatenate([part.end_ns for part in full]),
    )
