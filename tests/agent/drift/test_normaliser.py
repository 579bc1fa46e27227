# SPDX-License-Identifier: Apache-2.0
"""The model's standardisation in numpy is that of the model, and can be set anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.drift.normaliser import LEAST_SAMPLES, Normaliser, Tally
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.models.manifest import Manifest, Tensor

JOB = """\
[job]
name = "spindle"
[[signals]]
name = "speed"
unit = "rpm"
rate_hz = 1.0
role = "regime"
resolution = 10.0
[[signals]]
name = "force"
unit = "kN"
rate_hz = 1.0
[window]
length = 4
normalise = "regime"
[labels]
classes = ["good", "worn"]
[model]
architecture = "gru"
"""


def by_regime() -> tuple[Job, Normaliser, Manifest, np.ndarray]:
    """Two conditions, at 1000 and 2000 rpm; force is 10 +- 2 in one and 50 +- 5 in the other."""
    manifest = Manifest(
        (
            Tensor("standardise.mean", (2, 1), 0, "buffer"),
            Tensor("standardise.inverse_scale", (2, 1), 2, "buffer"),
            Tensor("standardise.centroids", (2, 1), 4, "buffer"),
            Tensor("standardise.inverse_resolution", (1,), 6, "buffer"),
            Tensor("head.weight", (3,), 7, "head"),
        )
    )
    vector = np.array([10, 50, 0.5, 0.2, 1000, 2000, 0.1, 7, 8, 9], np.float32)
    job = decode_job(JOB, "job.toml")
    return job, Normaliser.of(job, manifest, vector), manifest, vector


class TestStandardise:
    def test_each_sample_by_its_own_condition(self) -> None:
        """A window may pass through several."""
        _, normaliser, _, _ = by_regime()
        values = np.array([[990, 1010, 1990, 2020], [12, 8, 55, 45]], np.float32)
        conditions, white = normaliser.standardise(values)
        assert conditions is not None
        assert conditions.tolist() == [0, 0, 1, 1]
        assert white == pytest.approx(np.array([[1.0, -1.0, 1.0, -1.0]]), abs=1e-6)

    def test_is_that_of_the_model(self) -> None:
        """The same numbers as torch has, but for its rounding."""
        import torch

        from fedmill_shared.models.spec import spec_of
        from fedmill_shared.models.standardise import Standardise

        job, normaliser, _, _ = by_regime()
        module = Standardise(spec_of(job, 2))
        for name, values in (
            ("mean", normaliser.mean),
            ("inverse_scale", normaliser.inverse_scale),
            ("centroids", normaliser.centroids),
            ("inverse_resolution", normaliser.inverse_resolution),
        ):
            getattr(module, name).copy_(torch.from_numpy(values))
        generator = np.random.default_rng(0)
        speed = generator.choice([995.0, 2004.0], (1, 4))
        values = np.concatenate((speed, generator.normal(30, 10, (1, 4)))).astype(np.float32)
        expected = module(torch.from_numpy(values[None]))[0].numpy()
        assert normaliser.standardise(values)[1] == pytest.approx(expected, abs=1e-4)

    def test_a_model_without_one_leaves_values_as_they_are(self) -> None:
        """Features of files that are standardised already."""
        job, _, _, _ = by_regime()
        plain = Normaliser.of(job, Manifest(()), np.zeros(0, np.float32))
        values = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
        assert plain.standardise(values)[1].tolist() == [[5.0, 6.0, 7.0, 8.0]]


class TestAnew:
    @given(st.floats(-50, 50), st.floats(0.2, 5.0), st.integers(0, 1000))
    def test_what_comes_looks_as_the_reference_did(
        self, offset: float, factor: float, seed: int
    ) -> None:
        """Whatever a sensor has done to its scale, condition by condition."""
        _, normaliser, _, _ = by_regime()
        generator = np.random.default_rng(seed)
        speed = np.repeat([1000.0, 2000.0], 200)[None]
        force = np.repeat([10.0, 50.0], 200) + generator.normal(0, 3, 400)
        before = np.concatenate((speed, force[None])).astype(np.float32)
        after = np.concatenate((speed, (force * factor + offset)[None])).astype(np.float32)
        made, conditions = normaliser.anew(_tally(normaliser, before), _tally(normaliser, after))
        assert conditions == 2
        assert made.standardise(after)[1] == pytest.approx(
            normaliser.standardise(before)[1], abs=2e-3
        )

    def test_a_condition_that_was_hardly_seen_keeps_its_own(self) -> None:
        """A handful of samples tells no deviation."""
        _, normaliser, manifest, vector = by_regime()
        few = LEAST_SAMPLES - 1
        speed = np.repeat([1000.0, 2000.0], [200, few])[None]
        force = np.random.default_rng(0).normal(30, 3, (1, 200 + few))
        values = np.concatenate((speed, force)).astype(np.float32)
        many = np.concatenate((values, values[:, 200:]), axis=1)
        made, conditions = normaliser.anew(
            _tally(normaliser, values), _tally(normaliser, values + np.array([[0], [5]], "f4"))
        )
        for one, other in ((values, many), (many, values)):
            assert normaliser.anew(_tally(normaliser, one), _tally(normaliser, other))[1] == 1
        assert conditions == 1
        placed = made.placed(manifest, vector)
        changed = np.flatnonzero(placed != vector)
        assert changed.tolist() == [0], "the mean of the first condition, and nothing else"
        assert placed[0] == pytest.approx(15.0, abs=1e-4)

    def test_a_sensor_that_stands_still_keeps_its_scale(self) -> None:
        """A deviation of nothing would make noise the largest signal of all."""
        _, normaliser, _, _ = by_regime()
        speed, force = np.full((1, 100), 1000.0), np.random.default_rng(0).normal(10, 2, (1, 100))
        moving = np.concatenate((speed, force)).astype(np.float32)
        still = np.concatenate((speed, np.full((1, 100), 12.0))).astype(np.float32)
        made, _ = normaliser.anew(_tally(normaliser, moving), _tally(normaliser, still))
        assert made.inverse_scale == pytest.approx(normaliser.inverse_scale)

    def test_a_signal_that_was_constant_in_the_fleet_stays_out(self) -> None:
        """The model multiplies it by nothing; there is no deviation to set anew."""
        job, _, manifest, vector = by_regime()
        vector[2:4] = 0.0
        normaliser = Normaliser.of(job, manifest, vector)
        values = np.array([[1000.0] * 100, range(100)], np.float32)
        made, _ = normaliser.anew(_tally(normaliser, values), _tally(normaliser, values + 1))
        np.testing.assert_array_equal(made.placed(manifest, vector), vector)


def _tally(normaliser: Normaliser, values: np.ndarray) -> Tally:
    tally = Tally.empty(normaliser.mean.shape)
    tally.add(*normaliser.standardise(values))
    return tally
