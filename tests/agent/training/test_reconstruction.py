# SPDX-License-Identifier: Apache-2.0
"""What the training process does for a job without labels; the stored ones are not looked at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from tests.agent.kit import a_job, choosing, plain

from fedmill_agent.inference.served import CANDIDATES
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import protocol
from fedmill_agent.training.worker import Worker
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import DataError
from fedmill_shared.job import Autoencoder, Job, Labels, Learning, Task
from fedmill_shared.learning.local import predict
from fedmill_shared.metrics import ReconstructionStatistic, summary
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.signals.windows import Window

Ask = Callable[..., Any]
FAST = Learning(learning_rate=0.05, batch_size=4, epochs=4)


def without_labels(job: Job) -> Job:
    """The tiny job, which learns to give its eight samples back from three numbers."""
    return replace(
        job,
        job=Task(name="press", task="reconstruction"),
        labels=Labels(),
        model=Autoencoder(hidden=[4], bottleneck=3),
    )


JOB = without_labels(a_job(learning=FAST))


@pytest.fixture
def folder(folder: Path) -> Path:
    """Beside the labelled windows some that nobody has said anything about."""
    store = WindowStore(
        folder / "w.sqlite", clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9
    )
    windows = [
        Window("new", "new", n * 100, n * 100 + 99, np.full((1, 8), n, np.float32), 1.0, n)
        for n in range(6)
    ]
    store.add(windows[:4], "train")
    store.add(windows[4:], "test")
    store.close()
    initial_vector(JOB, plain(JOB), 1).tofile(folder / "weights")
    return folder


class TestWithoutLabels:
    def test_every_window_counts(self, ask: Ask, folder: Path) -> None:
        """24 with a label and 4 without train; their signals are standardised, and no target."""
        answer = Worker().answer(ask(protocol.Train, JOB))
        assert answer.examples == 28
        assert np.isfinite(answer.loss)
        moments = Worker().answer(ask(protocol.CollectMoments, JOB)).moments
        assert moments.cells[0].count == 28 * 8
        assert moments.target_count == 0
        with WindowStore.reader(folder / "w.sqlite") as store:
            assert store.labelled("reconstruction") == {"train": 28, "validation": 0, "test": 26}
            assert store.labelled("classification")["train"] == 24

    def test_the_evaluation_is_what_the_model_says(self, ask: Ask, folder: Path) -> None:
        """The sum of its own outputs over the held-out windows."""
        answer = Worker().answer(ask(protocol.Evaluate, JOB))
        model = FlatModel(build(JOB, 0))
        model.load(np.fromfile(folder / "weights", np.float32))
        with WindowStore.reader(folder / "w.sqlite") as store:
            inputs = store.load("test", task="reconstruction").inputs
        outputs = predict(model, torch.from_numpy(inputs)).astype(np.float64)
        assert answer.statistic == ReconstructionStatistic(
            count=26, error=float(outputs.sum()), squares=float((outputs**2).sum())
        )
        assert answer.last.count == 7
        assert set(summary(answer.statistic)) == {"mse", "deviation"}

    def test_the_best_has_the_smallest_error(self, ask: Ask, folder: Path) -> None:
        """Candidates are compared by their errors, and the smallest wins."""
        job = without_labels(choosing(learning=FAST))
        with WindowStore(
            folder / "w.sqlite", clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9
        ) as store:
            generator = np.random.default_rng(4)
            store.add(
                [
                    Window("v", "v", n, n, generator.normal(size=(1, 8)).astype("f4"), 1.0, n)
                    for n in range(9)
                ],
                "validation",
            )
        worker = Worker()
        for _ in range(6):
            worker.answer(ask(protocol.TrainAlone, job, rounds=6))
        chosen = worker.answer(ask(protocol.Choose, job))
        assert set(chosen.validation) == set(CANDIDATES)
        assert chosen.validation[chosen.served] == min(chosen.validation.values())
        assert chosen.served != "global"  # version 0 has learned nothing

    def test_no_windows(self, ask: Ask, tmp_path: Path) -> None:
        """It is not said that labels are missing."""
        path = tmp_path / "empty.sqlite"
        WindowStore(path, clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9).close()
        for kind in (protocol.CollectMoments, protocol.Train):
            with pytest.raises(DataError, match="job press: no training windows"):
                Worker().answer(ask(kind, JOB, store=str(path)))
