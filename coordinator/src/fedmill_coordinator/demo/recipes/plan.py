# SPDX-License-Identifier: Apache-2.0
"""What a recipe hands to the demo: a job, and which plant has which recordings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec

from fedmill_shared.errors import DataError
from fedmill_shared.job import Job
from fedmill_shared.job_check import load_job

Source = dict[str, object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plant:
    """One agent: its id, ``[[sources]]``, and the ``[[labels]]`` that come in another way."""

    agent: str
    sources: list[Source]
    labels: list[Source] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole federation: the job and its plants."""

    job: Job
    plants: list[Plant]


def example(name: str) -> Job:
    """The committed job file ``docs/examples/<name>.toml``.

    Raises:
        DataError: it is not there, neither in the package nor in a checkout.
    """
    here = Path(__file__).resolve()
    folders = [here.parents[1] / "examples", *(p / "docs" / "examples" for p in here.parents)]
    for folder in folders:
        if (folder / f"{name}.toml").is_file():
            return load_job(folder / f"{name}.toml")
    raise DataError(f"example job {name}.toml is not installed", remedy="install fedmill again")


def fitted(job: Job, *, agents: int, seed: int, classes: Sequence[str] | None = None) -> Job:
    """``job`` for this number of agents, this seed and the classes that the data has.

    The seed becomes part of the name, which every random choice of a job starts from.
    """
    changes: dict[str, object] = {
        "job": msgspec.structs.replace(job.job, name=f"{job.name}-{seed}"),
        "federation": msgspec.structs.replace(
            job.federation, goal=agents, minimum=max(1, agents // 2)
        ),
    }
    if classes is not None:
        changes["labels"] = msgspec.structs.replace(job.labels, classes=list(classes))
    return msgspec.structs.replace(job, **changes)


def deal(items: Sequence[T], hands: int, random: Random) -> list[list[T]]:
    """``items`` shuffled and dealt out, one after the other, into ``hands`` lists."""
    cards = list(items)
    random.shuffle(cards)
    return [cards[hand::hands] for hand in range(hands)]
