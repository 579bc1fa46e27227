# SPDX-License-Identifier: Apache-2.0
"""Moments that travel become the components that all windows in one place have."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.shared.monitoring.kit import NORMALISER, Line, job_of, windows_of

from fedmill_shared.errors import DataError, ModelError
from fedmill_shared.job import Autoencoder, Job, Signal, Task, Window
from fedmill_shared.models import build, manifest_of
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.monitoring import box_limit, fit, of_rows, t2_limit
from fedmill_shared.monitoring.inputs import contributions, rows_of
from fedmill_shared.monitoring.version import read


def close(found: np.ndarray, expected: np.ndarray) -> float:
    """Distance over the length of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def reshaped(manifest: Manifest, name: str, *shape: int) -> Manifest:
    """A layout in which one tensor has another shape, of the same size."""
    tensors = (
        structs.replace(each, shape=shape) if each.name == name else each
        for each in manifest.tensors
    )
    return Manifest(tuple(tensors))


class TestHostile:
    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("head.loadings", (9,)),
            ("head.weights", (6,)),
            ("head.weights", (3, 2)),
            ("head.limits", (1, 2)),
            ("head.eigenvalues", (3, 1)),
            ("backbone.mean", (1, 3)),
        ],
    )
    def test_a_layout_of_other_shapes(self, name: str, shape: tuple[int, ...]) -> None:
        """It is told as a fault of the version, and not found out in the midst of an alarm."""
        line = Line.start(job_of(inputs="mean", components=2))
        assert line.model.manifest.size == len(line.vector)
        with pytest.raises(ModelError, match="no principal components"):
            read(reshaped(line.model.manifest, name, *shape), line.vector)

    @pytest.mark.parametrize("name", ["standardise.mean", "standardise.inverse_scale"])
    def test_a_standardisation_of_other_signals(self, name: str) -> None:
        """The same of what comes before."""
        line = Line.start(job_of(inputs="mean", components=2))
        hostile = reshaped(line.model.manifest, name, 3, 1)
        with pytest.raises(ModelError, match="none of the job's inputs"):
            rows_of(line.job, hostile, line.vector, windows_of(1, 2))


class TestRound:
    @given(st.lists(st.integers(0, 4), min_size=80, max_size=80), st.integers(0, 1000))
    @settings(max_examples=15)
    def test_any_split_gives_the_pooled_model(self, owners: list[int], seed: int) -> None:
        """T2 and Q of fresh windows, relative to those of a fit of all rows, to 1e-6.

        Moments are float32: what is left over must not be too small beside what is kept.
        """
        windows, deal = windows_of(seed, 80, noise=1.5), np.array(owners)
        line = Line.start(job_of(inputs="mean", components=2))
        line.round(*(part for owner in range(5) if len(part := windows[deal == owner])))
        rows = rows_of(line.job, line.model.manifest, line.vector, windows)
        pooled = fit(of_rows(rows), kept=2)
        # Where two variances are all but equal, the components between them are anybody's.
        assume(pooled.eigenvalues[1] - pooled.eigenvalues[2] > 0.1)
        later = windows_of(seed + 1, 50, noise=1.5)
        fresh = rows_of(line.job, line.model.manifest, line.vector, later)
        t2, q = (read(line.model.manifest, line.vector).distances(fresh)).T
        limits = (
            t2_limit(pooled.kept, 0.005, 80),
            box_limit(pooled.eigenvalues[pooled.kept :], 0.005),
        )
        assert close(t2, pooled.t2(fresh) / limits[0]) < 1e-6
        assert close(q, pooled.q(fresh) / limits[1]) < 1e-6

    @pytest.mark.parametrize(("inputs", "width"), [("samples", 12), ("mean", 3)])
    def test_of_no_windows_there_are_no_rows(self, inputs: str, width: int) -> None:
        """And they have the width that rows have."""
        line = Line.start(job_of(inputs=inputs))
        rows = rows_of(line.job, line.model.manifest, line.vector, windows_of(1, 0))
        assert rows.shape == (0, width)

    @pytest.mark.parametrize("statistic", ["larger", "combined", "t2", "q"])
    @pytest.mark.parametrize("inputs", ["samples", "mean"])
    def test_network_and_numpy_agree(self, inputs: str, statistic: str) -> None:
        """What ONNX will compute, and what explains it."""
        line = Line.start(job_of(inputs=inputs, statistic=statistic, explained=0.7))
        line.round(windows_of(1, 300), windows_of(2, 100))
        fresh = windows_of(3, 60)
        rows = rows_of(line.job, line.model.manifest, line.vector, fresh)
        monitor = read(line.model.manifest, line.vector)
        assert line.outputs(fresh) == pytest.approx(monitor.distances(rows).max(1), rel=1e-4)
        assert monitor.contributions(rows).sum(1) == pytest.approx(monitor.distances(rows).max(1))

    @pytest.mark.parametrize("statistic", ["larger", "combined", "t2", "q"])
    def test_one_is_the_limit(self, statistic: str) -> None:
        """Of windows as in training about 1 % lie above, by theory alone."""
        line = Line.start(job_of(inputs="mean", statistic=statistic, explained=0.7))
        line.round(windows_of(1, 5000))
        assert 0.004 < (line.outputs(windows_of(2, 5000)) > 1).mean() < 0.02

    def test_a_broken_correlation_is_above_it(self) -> None:
        """The flow no longer follows, within its usual range."""
        line = Line.start(job_of(inputs="mean"))
        line.round(windows_of(1, 1000))
        broken = windows_of(2, 200)
        broken[:, 1] = windows_of(3, 200)[:, 1]
        assert (line.outputs(broken) > 1).mean() > 0.8

    def test_later_rounds_follow_the_newest_windows(self) -> None:
        """The second round alone decides, wherever the first one was."""
        line, direct = Line.start(job_of()), Line.start(job_of())
        line.round(windows_of(1, 200))
        line.round(windows_of(5, 300))
        direct.round(windows_of(5, 300))
        assert close(line.vector, direct.vector) < 1e-6

    def test_before_the_first_round_each_signal_counts_by_itself(self) -> None:
        """Version 0 scores: squares of standardised values over their limit."""
        line = Line.start(job_of())
        windows = windows_of(1, 10)
        rows = rows_of(line.job, line.model.manifest, line.vector, windows)
        expected = (rows**2).sum(1) / t2_limit(12, 0.01)
        assert line.outputs(windows) == pytest.approx(expected, rel=1e-5)
        assert read(line.model.manifest, line.vector).kept == 0

    def test_signals_that_stand_still_make_no_model(self) -> None:
        """The round is refused with a sentence; nothing is divided by zero."""
        line = Line.start(job_of())
        with pytest.raises(ModelError, match="no input varies"):
            line.round(np.full((20, 3, 4), 7.0, np.float32))
        with pytest.raises(DataError, match="no training windows"):
            line.delta(windows_of(1, 0))

    def test_an_agent_keeps_its_version(self) -> None:
        """Its pass moves no weight, and it tells how far its windows are spread."""
        line = Line.start(job_of())
        result = line.delta(windows_of(1, 100))
        assert np.array_equal(line.model.vector, line.vector)
        assert (result.examples, result.steps) == (100, 1)
        assert 0.1 < result.loss < 2.0


class TestRows:
    def test_by_regime(self) -> None:
        """Each sample by the condition that its speed is nearest to, as the network does."""
        job = Job(
            job=Task(name="pumps", task="reconstruction"),
            signals=[
                Signal(name="flow"),
                Signal(name="speed", unit="rpm", role="regime", resolution=100.0),
            ],
            window=Window(length=2, normalise="regime"),
            model=job_of().model,
        )
        normaliser = Normaliser(
            mean=((1.0,), (5.0,)),
            scale=((2.0,), (4.0,)),
            centroids=((600.0,), (1500.0,)),
            resolution=(100.0,),
        )
        line = Line.start(job, normaliser)
        windows = np.array([[[3.0, 9.0], [610.0, 1490.0]]], np.float32)
        found = rows_of(job, line.model.manifest, line.vector, windows)
        assert found.tolist() == [[1.0, 1.0]]

    def test_values_far_away_are_limited(self) -> None:
        """As in the network."""
        line = Line.start(job_of(inputs="mean"))
        windows = np.full((1, 3, 4), 1e6, np.float32)
        found = rows_of(line.job, line.model.manifest, line.vector, windows)
        assert found.tolist() == [[20.0, 20.0, 20.0]]


class TestContributions:
    @pytest.mark.parametrize("inputs", ["samples", "mean"])
    def test_the_broken_signal_is_named_first(self, inputs: str) -> None:
        """In words, with shares that sum to 1."""
        line = Line.start(job_of(inputs=inputs))
        line.round(windows_of(1, 500))
        for position, name in enumerate(("pressure", "flow", "current")):
            broken = windows_of(2, 1)
            broken[:, position] += 8.0 * NORMALISER.scale[0][position]
            [told] = contributions(line.job, line.model.manifest, line.vector, broken)
            assert told[0][0] == name
            assert sum(share for _, share in told) == pytest.approx(1.0)

    def test_another_model_has_none(self) -> None:
        """An autoencoder's vector is not read as components."""
        job = Job(
            job=Task(name="pumps", task="reconstruction"),
            signals=[Signal(name="flow")],
            window=Window(length=4),
            model=Autoencoder(hidden=[], bottleneck=2),
        )
        manifest = manifest_of(build(job, 1))
        with pytest.raises(ModelError, match="no principal components"):
            read(manifest, np.zeros(manifest.size, np.float32))
