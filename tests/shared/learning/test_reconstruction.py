# SPDX-License-Identifier: Apache-2.0
"""Learning to give back: one agent's work on windows without labels."""

import numpy as np
import pytest
import torch

from fedmill_shared.job import Autoencoder, Federation, Job, Learning, Signal, Task, Window
from fedmill_shared.learning import local
from fedmill_shared.learning.examples import label_counts
from fedmill_shared.learning.losses import make_loss
from fedmill_shared.metrics import summary
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import collect

SIGNALS = 4


def a_job(model: Autoencoder | None = None, **learning: object) -> Job:
    """Four signals, one sample each."""
    return Job(
        job=Task(name="pumps", task="reconstruction"),
        signals=[Signal(name=f"s{i}") for i in range(SIGNALS)],
        window=Window(length=1),
        model=model or Autoencoder(hidden=[], bottleneck=2),
        learning=Learning(**{"learning_rate": 0.02, "epochs": 60, **learning}),
        federation=Federation(rounds=1),
    )


def factors(count: int = 512, seed: int = 0) -> np.ndarray:
    """Windows (count, 4, 1) of two causes and a little noise."""
    generator = np.random.default_rng(seed)
    mixing = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
    values = generator.standard_normal((count, 2)) @ mixing.T
    values += 0.1 * generator.standard_normal((count, SIGNALS))
    return (5.0 + 3.0 * values)[:, :, None].astype(np.float32)


def examples_of(job: Job, windows: np.ndarray) -> local.Examples:
    """As an agent makes them: no text, no number."""
    count = len(windows)
    return local.make_examples(job, windows, [""] * count, np.full(count, np.nan), ["r"] * count)


def a_model(job: Job, windows: np.ndarray) -> FlatModel:
    """Version 0, with the standardisation that the windows' statistics lead to."""
    normaliser = normaliser_of(job, [collect(windows, job.inputs, [], [])])
    model = FlatModel(build(job, 1))
    model.load(initial_vector(job, normaliser, 1))
    return model


class TestExamples:
    def test_labels_make_no_difference(self) -> None:
        """Texts and numbers of windows are not looked at."""
        job, windows = a_job(), factors(3)
        found = local.make_examples(job, windows, ["a", "", "b"], np.arange(3.0), ["r", "r", "q"])
        assert found.targets.tolist() == [0.0, 0.0, 0.0]
        assert found.last.tolist() == [False, True, True]
        assert label_counts(job, found).tolist() == [3]

    def test_the_loss_is_the_mean_of_what_the_model_says(self) -> None:
        """Errors of 1 and 3 are a loss of 2, whatever the targets."""
        loss = make_loss(a_job(), counts=torch.tensor([2]), scale=1.0)
        assert float(loss(torch.tensor([[1.0], [3.0]]), torch.tensor([9.0, 9.0]))) == 2.0


class TestTraining:
    def test_linear_ones_find_the_principal_components(self) -> None:
        """Baldi & Hornik 1989: the best error is the sum of the smallest eigenvalues."""
        job, windows = a_job(), factors()
        model, examples = a_model(job, windows), examples_of(job, factors())
        local.train(model, job, examples, round_=1, seed=2)
        told = summary(local.evaluate(model, job, examples)[0])["mse"]
        eigenvalues = np.linalg.eigvalsh(np.corrcoef(windows[:, :, 0].T))
        best = eigenvalues[:2].sum() / SIGNALS
        assert best * 0.999 <= told <= best * 1.1

    def test_the_loss_of_training_is_the_error_of_evaluation(self) -> None:
        """One epoch without a step worth mentioning: both say the same."""
        job, windows = a_job(learning_rate=1e-12, epochs=1, batch_size=512), factors()
        model, examples = a_model(job, windows), examples_of(job, windows)
        result = local.train(model, job, examples, round_=1, seed=2)
        told = summary(local.evaluate(model, job, examples)[0])["mse"]
        assert result.loss == pytest.approx(told, rel=1e-5)
        assert result.examples == 512

    @pytest.mark.parametrize("rule", ["fedsgd", "scaffold"])
    def test_other_rules(self, rule: str) -> None:
        """A gradient or control variates of the same loss."""
        job, windows = a_job(optimiser="sgd", epochs=1), factors(64)
        job = Job(
            **{f: getattr(job, f) for f in job.__struct_fields__}
            | {"federation": Federation(rule=rule, rounds=1)}
        )
        model = a_model(job, windows)
        result = local.train(model, job, examples_of(job, windows), round_=1, seed=2)
        assert np.isfinite(result.delta).all()
        assert np.abs(result.delta).max() > 0

    def test_hidden_inputs_are_told_from_the_others(self) -> None:
        """Learned with inputs hidden, the model gives back what is there all the same."""
        job, windows = a_job(Autoencoder(hidden=[16], bottleneck=2, masked=0.25)), factors()
        model, examples = a_model(job, windows), examples_of(job, windows)
        before = summary(local.evaluate(model, job, examples)[0])["mse"]
        local.train(model, job, examples, round_=1, seed=2)
        assert summary(local.evaluate(model, job, examples)[0])["mse"] < 0.3 * before

    def test_a_broken_correlation_scores_higher(self) -> None:
        """Every signal within its range, and yet not what two causes can do."""
        job, windows = a_job(), factors()
        model = a_model(job, windows)
        local.train(model, job, examples_of(job, windows), round_=1, seed=2)
        healthy = factors(200, seed=9)
        broken = healthy.copy()
        broken[:, 1] = healthy[::-1, 1]
        good, bad = model.predict(healthy), model.predict(broken)
        assert np.median(bad) > 5 * np.quantile(good, 0.95)

    def test_no_windows(self) -> None:
        """An evaluation of nothing is a statistic of nothing."""
        job = a_job()
        model = a_model(job, factors(16))
        statistic, last = local.evaluate(model, job, examples_of(job, factors(0)))
        assert (statistic.count, last.count) == (0, 0)
