# SPDX-License-Identifier: Apache-2.0
"""A plant with a store of windows, and a version whose head tells most of them wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import LENGTH, Journal, Versions, a_job

from fedmill_agent.feedback.head import Head
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Feedback, Job
from fedmill_shared.link.blocks import parse_block
from fedmill_shared.messages import BlobRequest, VersionNotice
from fedmill_shared.models.readout import readout_of
from fedmill_shared.signals.windows import Window

SECOND = 10**9
RUN = "press"


@dataclass
class Plant:
    """One gateway: its store, the versions that come, and what would fit their head."""

    folder: Path
    job: Job
    versions: Versions
    clock: ManualClock = field(default_factory=ManualClock)
    journal: Journal = field(default_factory=Journal)

    def __post_init__(self) -> None:
        self.store = WindowStore(
            self.folder / "windows.sqlite",
            clock=self.clock,
            max_bytes=1 << 24,
            max_age_seconds=1e7,
        )
        self.start()

    def start(self) -> None:
        """A new process on the same folder."""
        self.asked: list[BlobRequest] = []
        self.scorer = Scorer(self.clock)
        self.deployment = Deployment(
            VersionShelf(self.folder / "versions"),
            self.scorer,
            Serving(self.folder, self.job, self.journal),
            Around(self.job, self.clock, self.journal),
            request=self.asked.append,
        )
        self.deployment.resume()
        self.head = Head(
            self.job,
            self.folder,
            self.folder / "windows.sqlite",
            load=self.deployment.read,
            clock=self.clock,
        )

    def announce(self, number: int = -1) -> VersionNotice:
        """A version of the federation comes and serves."""
        notice = self.versions.notice(number)
        self.deployment.announce(notice, retained=True)
        while self.asked:
            for block in self.versions.blocks(self.asked.pop(0)):
                self.deployment.receive(parse_block(block))
        assert self.deployment.served == notice
        return notice

    def windows(self, count: int, *, seed: int = 0) -> None:
        """Record ``count`` windows more, in turn good and worn; they have no label yet."""
        random = np.random.default_rng(seed)
        first = self.store.counts()["train"]
        made = []
        for n in range(first, first + count):
            level = 1.5 if n % 2 else -1.5
            values = (level + 0.3 * random.normal(size=(1, LENGTH))).astype(np.float32)
            start = n * LENGTH * SECOND
            end = start + (LENGTH - 1) * SECOND
            made.append(Window(RUN, "unit", start, end, values, 1.0, n))
        self.store.add(made, "train")

    def label(self, places: Sequence[int], *, swapped: bool = False) -> None:
        """Somebody says what these windows were."""
        self.store.add_labels([self._label(n, swapped=swapped) for n in places])

    def _label(self, n: int, *, swapped: bool) -> LabelInterval:
        start = n * LENGTH * SECOND
        end = start + (LENGTH - 1) * SECOND
        if self.job.job.task == "regression":
            value = 10.0 if n % 2 else 2.0
            return LabelInterval(RUN, start, end, start_value=value, end_value=value)
        worn = bool(n % 2) != swapped
        return LabelInterval(RUN, start, end, text="worn" if worn else "good")

    def accuracy(self, vector: np.ndarray) -> float:
        """Of the version with these weights on windows that nobody has seen."""
        random = np.random.default_rng(99)
        truth = np.arange(200) % 2
        levels = np.where(truth, 1.5, -1.5)[:, None, None]
        values = (levels + 0.3 * random.normal(size=(200, 1, LENGTH))).astype(np.float32)
        model = self.versions.architecture.model
        model.load(np.ascontiguousarray(vector))
        return float((model.predict(values).argmax(1) == truth).mean())


def blind(versions: Versions) -> Versions:
    """Version 0 has a backbone that sees the level of a window, and a head that gets it wrong."""
    made = versions.made[0]
    vector = made.vector.copy()
    manifest = versions.architecture.manifest
    for tensor in manifest.tensors:
        place = slice(tensor.offset, tensor.offset + tensor.size)
        if tensor.name == "backbone.0.weight":
            signs = np.array([1.0, -1.0, 1.0, -1.0])[:, None]
            vector[place] = (signs * np.full((4, LENGTH), 0.25)).ravel()
        elif tensor.name == "backbone.3.weight":
            vector[place] = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]]).ravel()
        elif tensor.name.startswith("backbone"):
            vector[place] = 0.1
    readout = readout_of(manifest)
    assert readout is not None
    head = np.zeros((readout.width + 1, readout.outputs))
    if readout.outputs == 2:
        head[0, 0], head[1, 1] = 0.5, 0.3
    vector = readout.put(vector, head)
    versions.made[0] = versions.architecture._checked(vector, b"", made.residual)
    return versions


def a_plant(folder: Path, *, task: str = "classification", **fields: object) -> Plant:
    """A plant of a job with ``[feedback]``, and version 0 in service."""
    settings = {"method": "ridge", "min_labels": 6, "every_labels": 4} | fields
    job = structs.replace(a_job(task=task), feedback=Feedback(**settings))
    plant = Plant(folder, job, blind(Versions(job)))
    plant.announce()
    return plant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A plant with forty windows and no label."""
    made = a_plant(tmp_path)
    made.windows(40)
    yield made
    made.store.close()
