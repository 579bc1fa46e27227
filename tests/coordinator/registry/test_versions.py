# SPDX-License-Identifier: Apache-2.0
"""Versions: the first from statistics, each next from a delta, with the bits that agents get."""

from collections.abc import Callable

import numpy as np
import pytest

from fedmill_coordinator.registry.versions import Architecture
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import LEARNED, version_of
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.tensors import unpack_tensor

NORMALISER = Normaliser(mean=((20.0, -3.0),), scale=((4.0, 0.5),))
MakeJob = Callable[..., Job]


@pytest.fixture
def make(tiny_job: MakeJob, exported_once: None) -> Callable[..., Architecture]:
    """The architecture of the tiny job with these settings."""
    return lambda **settings: Architecture.create(tiny_job(**settings), NORMALISER)


def a_delta(elements: int, seed: int = 0) -> np.ndarray:
    """Some delta (elements,)."""
    return np.random.default_rng(seed).normal(0, 0.1, elements).astype(np.float32)


class TestFirst:
    """Version 0."""

    def test_is_what_the_job_and_the_statistics_say(
        self, make: Callable[..., Architecture]
    ) -> None:
        """The same job and normaliser give the same version; it has no delta and no residual."""
        one, two = make().first(NORMALISER), make().first(NORMALISER)
        assert one.version == two.version == version_of(one.vector)
        assert one.frame == b""
        assert not one.residual.any()
        other = make().first(Normaliser(mean=((20.0, -2.0),), scale=((4.0, 0.5),)))
        assert other.version != one.version

    def test_the_canary_is_what_onnx_runtime_computes(
        self, make: Callable[..., Architecture]
    ) -> None:
        """The outputs that travel are those of the version's own weights."""
        architecture = make()
        made = architecture.first(NORMALISER)
        session = OnnxSession.from_template(architecture.template, made.vector)
        outputs = session.run(unpack_tensor(architecture.canary))
        assert np.allclose(outputs, unpack_tensor(made.canary_outputs), atol=1e-5)

    def test_the_seed_is_the_name_of_the_job(self, make: Callable[..., Architecture]) -> None:
        """Two jobs do not start from the same weights."""
        here, there = make(), make(name="other")
        assert here.first(NORMALISER).version != there.first(NORMALISER).version


class TestNext:
    """A version and a delta make the next one."""

    def test_only_what_is_learned_moves(self, make: Callable[..., Architecture]) -> None:
        """The standardisation stays to the last bit."""
        architecture = make(downlink="fp32")
        base = architecture.first(NORMALISER).vector
        delta = a_delta(architecture.learned)
        made = architecture.next(base, delta, None, 1)
        gather = architecture.manifest.gather
        assert np.array_equal(gather(made.vector, LEARNED), gather(base, LEARNED) + delta)
        assert np.array_equal(gather(made.vector, ("buffer",)), gather(base, ("buffer",)))
        assert not made.residual.any()

    @pytest.mark.parametrize("feedback", [True, False])
    def test_the_frame_makes_the_same_bits(
        self, make: Callable[..., Architecture], *, feedback: bool
    ) -> None:
        """Whoever decodes the frame on the base has the version; the rest is the residual."""
        architecture = make(error_feedback=feedback)
        base = architecture.first(NORMALISER).vector
        delta, carried = a_delta(architecture.learned), a_delta(architecture.learned, 1)
        made = architecture.next(base, delta, carried, 3)
        header, decoded = decode_frame(made.frame, elements=architecture.learned)
        assert (header.content, header.round) == ("delta", 3)
        assert header.base == version_of(base)[:16]
        assert header.schema == architecture.manifest.digest[:16]
        learned = architecture.manifest.gather(base, LEARNED) + decoded
        assert np.array_equal(architecture.manifest.gather(made.vector, LEARNED), learned)
        if feedback:
            assert np.array_equal(made.residual, delta + carried - decoded)
        else:
            assert not made.residual.any()

    def test_a_restart_makes_the_same_bits(
        self, make: Callable[..., Architecture], tiny_job: MakeJob
    ) -> None:
        """Restored from its stored parts, the architecture makes the very same next version."""
        before = make()
        base = before.first(NORMALISER).vector
        after = Architecture.restore(tiny_job(), NORMALISER, before.template, before.canary)
        delta = a_delta(before.learned)
        one, two = before.next(base, delta, None, 5), after.next(base, delta, None, 5)
        assert (one.version, one.frame) == (two.version, two.frame)
        assert one.canary_outputs == two.canary_outputs
        assert before.manifest_blob == after.manifest_blob

    @pytest.mark.parametrize("size", [1e30, 3.4e38])
    def test_what_is_no_model_is_refused(
        self, make: Callable[..., Architecture], size: float
    ) -> None:
        """Weights that overflow, or a model that computes infinities, are never released."""
        architecture = make(downlink="fp32")
        base = architecture.first(NORMALISER).vector
        huge = architecture.next(base, a_delta(architecture.learned), None, 1).vector * 0 + size
        delta = np.full(architecture.learned, size, np.float32)
        with pytest.raises(ModelError, match="NaN or infinity"):
            architecture.next(huge.astype(np.float32), delta, None, 2)
