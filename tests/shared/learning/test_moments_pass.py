# SPDX-License-Identifier: Apache-2.0
"""The pass of an agent with principal components, alone and among others."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from tests.shared.monitoring.kit import Line, job_of, windows_of

from fedmill_shared.errors import DataError
from fedmill_shared.job import Federation
from fedmill_shared.learning.alone import fit_alone, fit_pooled
from fedmill_shared.learning.examples import Examples, make_examples
from fedmill_shared.learning.moments_pass import moments_delta, scatter_of


def examples_of(line: Line, windows: np.ndarray) -> Examples:
    """Windows of one run."""
    count = len(windows)
    return make_examples(line.job, windows, [""] * count, np.zeros(count), ["a"] * count)


class TestPass:
    def test_moments_by_hand(self) -> None:
        """Of two windows of three means each, from zero: their means, and those of the products."""
        line = Line.start(job_of(inputs="mean"))
        windows = np.zeros((2, 3, 4), np.float32)
        windows[0] += np.array([[10.0 + 1.5], [40.0], [3.0]])  # one deviation up in pressure
        windows[1] += np.array([[10.0], [40.0 + 2.0], [3.0 - 0.5]])
        line.model.load(line.vector)
        delta, spread = moments_delta(line.model, line.job, examples_of(line, windows))
        moments = [0.5, 1.0, -0.5, 0.5, 0.0, 0.0, 2.0, -1.0, 0.5]
        assert delta[:9].tolist() == pytest.approx(moments, abs=1e-6)
        assert not delta[9:].any()
        assert spread == pytest.approx((0.25 + 1.0 + 0.25) / 3)

    def test_many_windows_go_through_in_portions(self) -> None:
        """The statistics are those of all of them."""
        line = Line.start(job_of())
        windows = windows_of(1, 700)
        line.model.load(line.vector)
        found = scatter_of(line.model, torch.from_numpy(windows))
        rows = (windows - np.array([10.0, 40.0, 3.0])[:, None]) / np.array([1.5, 1.0, 0.5])[:, None]
        assert found.count == 700
        assert found.covariance() == pytest.approx(np.cov(rows.reshape(700, -1).T), abs=1e-6)

    def test_nothing_to_learn_from(self) -> None:
        """It is told, as for any model."""
        line = Line.start(job_of())
        with pytest.raises(DataError, match="no training windows"):
            moments_delta(line.model, line.job, examples_of(line, windows_of(1, 0)))


class TestAlone:
    def test_one_agent_alone_is_a_federation_of_one(self) -> None:
        """``fedmill-agent fit`` gives the model that a round would, however many rounds."""
        federated, alone, pooled = (Line.start(job_of()) for _ in range(3))
        windows = windows_of(1, 300)
        federated.round(windows)
        for line in (alone, pooled):
            line.model.load(line.vector)
        fit_alone(alone.model, alone.job, examples_of(alone, windows), rounds=[1, 2], agent="a")
        job = replace(pooled.job, federation=Federation(rounds=5))
        fit_pooled(pooled.model, job, examples_of(pooled, windows), agents=3)
        assert alone.model.vector == pytest.approx(federated.vector, rel=1e-5, abs=1e-6)
        assert pooled.model.vector == pytest.approx(federated.vector, rel=1e-5, abs=1e-6)
