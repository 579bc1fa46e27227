# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import a_job

from fedmill_agent.store.dataset import Dataset
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training.baseline import fit, fit_and_score
from fedmill_shared.errors import DataError
from fedmill_shared.job import Federation, Job, Learning
from fedmill_shared.learning import local
from fedmill_shared.metrics import summary
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.seeds import seed_for
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import collect

LEARNING = Learning(learning_rate=0.02, batch_size=4, epochs=4)


def load(folder: Path, split: str) -> Dataset:
    """Stored windows."""
    with WindowStore.reader(folder / "w.sqlite") as store:
        return store.load(split)


def with_rule(rule: str = "fedavg", **federation: Any) -> Job:
    """The tiny job with another server rule."""
    return structs.replace(
        a_job(learning=LEARNING), federation=Federation(rounds=3, rule=rule, **federation)
    )


class TestFit:
    def test_learns_and_repeats(self, folder: Path) -> None:
        """The same windows give the same model, and it tells the classes apart."""
        train, test = load(folder, "train"), load(folder, "test")
        job = structs.replace(a_job(learning=LEARNING), federation=Federation(rounds=60))
        [score] = fit_and_score(job, train, {"a": test}, agents=1)
        assert (score.agent, score.windows, score.last.count) == ("a", 24, 6)
        assert score.metrics == summary(score.statistic)
        assert score.metrics["accuracy"] > 0.8
        first, again = (fit(with_rule(), train, agents=1).vector for _ in range(2))
        assert first.tobytes() == again.tobytes()

    def test_one_round_of_averaging_is_local_work(self, folder: Path) -> None:
        """With a server rate of 1 the model is what `local.train` leaves behind."""
        job = structs.replace(with_rule(), federation=Federation(rounds=1))
        train = load(folder, "train")
        normaliser = normaliser_of(job, [collect(train.inputs, [0], [], [], None)])
        model = FlatModel(build(job, 0))
        model.load(initial_vector(job, normaliser, seed_for("press", "model")))
        examples = local.make_examples(job, train.inputs, train.texts, train.numbers, train.runs)
        local.train(model, job, examples, round_=1, seed=seed_for("press", 1, "fit"))
        np.testing.assert_allclose(fit(job, train, agents=1).vector, model.vector, atol=1e-6)

    def test_the_servers_rule_counts(self, folder: Path) -> None:
        """Momentum and the server's rate change the result; without momentum it is the mean."""
        train = load(folder, "train")
        plain = fit(with_rule(), train, agents=1).vector
        still = fit(with_rule("fedavgm", server_momentum=0.0), train, agents=1).vector
        moved = fit(with_rule("fedavgm", server_momentum=0.9), train, agents=1).vector
        slow = fit(with_rule(server_learning_rate=0.1), train, agents=1).vector
        assert still.tobytes() == plain.tobytes()
        assert not np.allclose(moved, plain)
        assert not np.allclose(slow, plain)

    def test_steps_are_as_many_as_in_the_federation(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pooled data of three agents, and three times the steps of one; epochs stay."""
        counted = []
        original: Callable[..., local.LocalResult] = local.train

        def counting(*arguments: Any, **named: Any) -> local.LocalResult:
            counted.append(original(*arguments, **named))
            return counted[-1]

        monkeypatch.setattr(local, "train", counting)
        job = structs.replace(
            with_rule(), federation=Federation(rounds=1), learning=Learning(batch_size=4, steps=5)
        )
        fit(job, load(folder, "train"), agents=3)
        fit(structs.replace(job, learning=Learning(batch_size=4)), load(folder, "train"), agents=3)
        assert [result.steps for result in counted] == [15, 6]

    def test_nothing_held_out_scores_nothing(self, folder: Path) -> None:
        """An agent without test windows is listed with none."""
        train, none = load(folder, "train"), load(folder, "validation")
        [score] = fit_and_score(with_rule(), train, {"a": none}, agents=1)
        assert score.windows == 0

    def test_nothing_to_learn_from_is_an_error(self, folder: Path) -> None:
        """Without windows there is no standardisation either."""
        with pytest.raises(DataError, match="no agent has enough training windows"):
            fit(with_rule(), load(folder, "validation"), agents=1)
