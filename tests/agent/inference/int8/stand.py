# SPDX-License-Identifier: Apache-2.0
"""A job with convolutions, its int8 form and some windows of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from tests.agent.kit import Versions, a_job

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.splits import StoredSplit
from fedmill_agent.store.windows import WindowStore
from fedmill_coordinator.registry.quantised import quantise
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import FedmillError
from fedmill_shared.job import Job, Wdcnn
from fedmill_shared.models.quantised import Quantised, unpack_quantised
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.windows import Window

LENGTH = 64
MODEL = Wdcnn(channels=[8, 8], kernel=16, stride=4, norm="none")


def a_convolving_job(**fields: Any) -> Job:
    """The tiny job with a small convolutional network."""
    return structs.replace(a_job(length=LENGTH, **fields), model=MODEL)


def blob_of(versions: Versions) -> bytes:
    """The int8 form that the coordinator makes of the template."""
    blob = quantise(versions.architecture.template)
    assert blob is not None
    return blob


def form_of(versions: Versions) -> Quantised:
    """The same, unpacked."""
    return unpack_quantised(blob_of(versions))


def session_of(versions: Versions) -> OnnxSession:
    """The newest version in float32."""
    return OnnxSession.from_template(versions.architecture.template, versions.newest.vector)


def values(count: int, *, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Windows (count, 1, 64); a growing share of each is a tone."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(0, 1, (count, 1, LENGTH))
    tone = np.sin(np.arange(LENGTH) * 0.7) * np.linspace(0, 2, count)[:, None, None]
    return (scale * (noise + tone)).astype(np.float32)


def windows(found: np.ndarray, run: str = "r") -> list[Window]:
    """These values as windows of one run."""
    return [
        Window(run, "m", LENGTH * n, LENGTH * (n + 1) - 1, each, 1.0, n)
        for n, each in enumerate(found)
    ]


@dataclass
class Shelf:
    """A window store in a file."""

    path: Path
    store: WindowStore

    @classmethod
    def open(cls, folder: Path, *, max_bytes: int = 1 << 26) -> "Shelf":
        """An empty one."""
        path = folder / "windows.sqlite"
        clock = ManualClock()
        return cls(path, WindowStore(path, clock=clock, max_bytes=max_bytes, max_age_seconds=1e6))

    def add(self, found: np.ndarray, split: StoredSplit = "train", label: str = "") -> None:
        """Windows of a run of their own, labelled or not."""
        run = f"{split}-{label}-{len(found)}"
        self.store.add(windows(found, run), split)
        if label:
            self.store.add_labels([LabelInterval(run, 0, LENGTH * len(found), label)])


class Later:
    """Does work when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any], None], Any]] = []

    def submit(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[FedmillError], None],
    ) -> None:
        """Keep it."""
        self.waiting.append((work, done, failed))

    def run(self) -> None:
        """Do what waits."""
        waiting, self.waiting = self.waiting, []
        for work, done, failed in waiting:
            try:
                found = work()
            except FedmillError as error:
                failed(error)
            else:
                done(found)
