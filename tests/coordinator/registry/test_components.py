# SPDX-License-Identifier: Apache-2.0
"""Versions of principal components: derived, exported, checked and compressed as any others."""

from functools import cache

import numpy as np
import onnx
import pytest
from tests.shared.monitoring.kit import NORMALISER, Line, job_of, windows_of

from fedmill_coordinator.registry.export import self_contained
from fedmill_coordinator.registry.versions import Architecture, NewVersion
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import ModelError
from fedmill_shared.learning import local
from fedmill_shared.learning.examples import make_examples
from fedmill_shared.models.sharing import shared_roles
from fedmill_shared.monitoring.inputs import rows_of
from fedmill_shared.monitoring.version import read
from fedmill_shared.onnx_session import OnnxSession


@cache
def architecture(inputs: str) -> Architecture:
    """Exported once."""
    return Architecture.create(job_of(inputs=inputs), NORMALISER)


def update(made: Architecture, base: NewVersion, windows: np.ndarray) -> local.LocalResult:
    """What an agent sends."""
    count = len(windows)
    examples = make_examples(made.job, windows, [""] * count, np.zeros(count), ["a"] * count)
    made.model.load(base.vector)
    return local.train(made.model, made.job, examples, round_=1, seed=1)


@pytest.mark.parametrize("inputs", ["samples", "mean"])
class TestVersions:
    def test_the_first_one_serves(self, inputs: str) -> None:
        """Each signal by itself, before anybody has sent a moment."""
        made = architecture(inputs)
        first = made.first(NORMALISER)
        found = OnnxSession.from_template(made.template, first.vector).run(windows_of(1, 20))
        assert found.shape == (20, 1)
        assert found.min() > 0

    def test_the_next_one_says_what_numpy_says(self, inputs: str) -> None:
        """Agents bind the weights and multiply; the frame brings all that changed."""
        made = architecture(inputs)
        first = made.first(NORMALISER)
        delta = update(made, first, windows_of(1, 400)).delta
        second = made.next(first.vector, delta, None, 1, examples=400)
        roles = shared_roles(made.job)
        _, told = decode_frame(second.frame, elements=made.learned)
        learned = made.manifest.gather(first.vector, roles) + told
        assert np.array_equal(made.manifest.gather(second.vector, roles), learned)
        fresh = windows_of(2, 50)
        found = OnnxSession.from_template(made.template, second.vector).run(fresh)[:, 0]
        rows = rows_of(made.job, made.manifest, second.vector, fresh)
        expected = read(made.manifest, second.vector).distances(rows).max(1)
        assert found == pytest.approx(expected, rel=1e-4)

    def test_it_is_one_file_for_other_tools(self, inputs: str) -> None:
        """Without the moments, which no node reads."""
        made = architecture(inputs)
        first = made.first(NORMALISER)
        file = onnx.load_model_from_string(self_contained(made.template, first.vector))
        names = {each.name for each in file.graph.initializer}
        assert {"head.loadings", "head.weights", "backbone.mean"} <= names
        assert not names & {"backbone.second", "head.eigenvalues", "head.limits", "head.kept"}

    def test_moments_of_nothing_make_no_version(self, inputs: str) -> None:
        """The round is given up with a sentence."""
        made = architecture(inputs)
        first = made.first(NORMALISER)
        windows = np.full((30, 3, 4), 5.0, np.float32)
        with pytest.raises(ModelError, match="no input varies"):
            made.next(first.vector, update(made, first, windows).delta, None, 1, examples=30)

    def test_the_same_as_in_the_laboratory_of_the_tests(self, inputs: str) -> None:
        """``kit.Line`` makes the versions that the coordinator makes."""
        made, line = architecture(inputs), Line.start(job_of(inputs=inputs))
        first = made.first(NORMALISER)
        delta = update(made, first, windows_of(1, 100)).delta
        line.round(windows_of(1, 100))
        found = made.next(first.vector, delta, None, 1, examples=100)
        assert found.vector == pytest.approx(line.vector, rel=1e-6, abs=1e-7)
