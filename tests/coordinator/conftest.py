# SPDX-License-Identifier: Apache-2.0
"""One tiny job, and a plant that runs it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.coordinator.plant import Plant

from fedmill_shared.job import (
    Compression,
    Evaluation,
    Federation,
    Job,
    Labels,
    Mlp,
    Robustness,
    Signal,
    Task,
    Window,
)


@pytest.fixture(scope="session")
def tiny_job() -> Callable[..., Job]:
    """Two signals, windows of four, a perceptron of 4 and 4; settings of federation and wire."""

    def make(name: str = "tiny", **settings: Any) -> Job:
        wire = ("uplink", "downlink", "error_feedback", "dense_rounds", "dense", "plateau_rounds")
        compression = {each: settings.pop(each) for each in wire if each in settings}
        every = settings.pop("every", 1)
        robustness = settings.pop("robustness", Robustness(clip=1e6))  # plain means by hand
        rounds = {"rounds": 2, "minimum": 2, "goal": 2, "deadline_seconds": 60.0}
        return Job(
            job=Task(name=name),
            signals=[Signal(name="force", unit="kN"), Signal(name="stroke", unit="mm")],
            window=Window(length=4),
            labels=Labels(classes=["good", "burr", "crack"]),
            model=Mlp(hidden=[4, 4]),
            federation=Federation(**(rounds | settings)),
            compression=Compression(**compression),
            robustness=robustness,
            evaluation=Evaluation(every=every),
        )

    return make


@pytest.fixture
def exported_once() -> Iterator[None]:
    """Each architecture is exported once in all tests (see ``tests.exported``), on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_plant(tmp_path: Path, tiny_job: Callable[..., Job]) -> Callable[..., Plant]:
    """A plant with these jobs."""

    def make(*names: str, largest_packet: int = 300_000) -> Plant:
        return Plant(tmp_path, [tiny_job(name) for name in names or ("tiny",)], largest_packet)

    return make
