# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Mlp
from fedmill_shared.models import build, initial_vector, manifest_of
from fedmill_shared.models.normaliser import Normaliser, identity

NORMALISER = Normaliser(
    mean=((1.0, 2.0), (3.0, 4.0)),
    scale=((0.5, 2.0), (4.0, 0.0)),
    centroids=((100.0,), (200.0,)),
    resolution=(50.0,),
    target_offset=70.0,
    target_scale=40.0,
)


def buffers(job: Job, normaliser: Normaliser) -> dict[str, np.ndarray]:
    """Buffers of the job's first version by name."""
    manifest = manifest_of(build(job, 0, regimes=normaliser.regimes))
    vector = initial_vector(job, normaliser, 0)
    return {
        tensor.name: vector[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape)
        for tensor in manifest.tensors
        if tensor.role == "buffer"
    }


class TestInverseScale:
    def test_literal(self) -> None:
        """The inverse of each deviation; nothing for a constant signal."""
        assert NORMALISER.inverse_scale().tolist() == [[2.0, 0.5], [0.25, 0.0]]

    def test_rounding_noise_counts_as_constant(self) -> None:
        """518.67 held for a whole life has the deviation of its rounding, and is silenced."""
        held = np.full(20_000, np.float32(518.67), np.float64)
        pooled = (held**2).sum() / held.size - (held.sum() / held.size) ** 2
        noisy = Normaliser(mean=((518.67, 518.67),), scale=((abs(pooled) ** 0.5, 0.005),))
        assert noisy.inverse_scale().tolist() == [[0.0, 200.0]]

    @given(st.floats(-1e6, 1e6), st.floats(0.0, 1e6))
    def test_is_finite_in_float32(self, mean: float, scale: float) -> None:
        """No pair of statistics gives a factor that float32 cannot hold."""
        factor = Normaliser(mean=((mean,),), scale=((scale,),)).inverse_scale().astype(np.float32)
        assert np.isfinite(factor).all()


class TestCheck:
    def test_fitting_statistics_pass(self, make_job: Callable[..., Job]) -> None:
        """Two regimes, two inputs, one regime signal."""
        NORMALISER.check(make_job(Mlp()))
        identity(make_job(Mlp(), normalise="none")).check(make_job(Mlp(), normalise="none"))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"mean": ((1.0,), (3.0,))}, "mean has shape"),
            ({"mean": ((1.0, 2.0), (3.0,))}, "different lengths"),
            ({"mean": ((1.0, float("nan")), (3.0, 4.0))}, "float32"),
            ({"scale": ((1.0, 1e39), (3.0, 4.0))}, "float32"),
            ({"scale": ((1.0, -1.0), (3.0, 4.0))}, "negative"),
            ({"centroids": ((100.0,),)}, "centroids has shape"),
            ({"resolution": (0.0,)}, "zero"),
            ({"target_scale": -1.0}, "negative"),
            ({"mean": ()}, "mean has shape"),
        ],
    )
    def test_foreign_statistics_are_refused(
        self, make_job: Callable[..., Job], change: dict[str, object], message: str
    ) -> None:
        """Shapes, finiteness and signs are checked by name."""
        with pytest.raises(ModelError, match=message):
            msgspec.structs.replace(NORMALISER, **change).check(make_job(Mlp()))

    def test_two_regimes_need_a_regime_job(self, make_job: Callable[..., Job]) -> None:
        """A job that normalises globally has one row."""
        with pytest.raises(ModelError, match="global"):
            NORMALISER.check(make_job(Mlp(), normalise="global"))


class TestWrite:
    def test_buffers_of_the_first_version(self, make_job: Callable[..., Job]) -> None:
        """Statistics arrive in the vector under the names of the network's buffers."""
        found = buffers(make_job(Mlp(), regression=True), NORMALISER)
        assert {name: value.tolist() for name, value in found.items()} == {
            "standardise.mean": [[1.0, 2.0], [3.0, 4.0]],
            "standardise.inverse_scale": [[2.0, 0.5], [0.25, 0.0]],
            "standardise.centroids": [[100.0], [200.0]],
            "standardise.inverse_resolution": [np.float32(0.02)],
            "target_offset": [70.0],
            "target_scale": [40.0],
        }

    def test_identity(self, make_job: Callable[..., Job]) -> None:
        """Without normalisation the network sees canonical units."""
        job = make_job(Mlp(), normalise="none")
        found = buffers(job, identity(job))
        assert found["standardise.mean"].tolist() == [[0.0, 0.0]]
        assert found["standardise.inverse_scale"].tolist() == [[1.0, 1.0]]

    def test_equal_targets_keep_their_unit(self, make_job: Callable[..., Job]) -> None:
        """A target deviation of zero would fix the output for ever."""
        still = msgspec.structs.replace(NORMALISER, target_scale=0.0)
        assert buffers(make_job(Mlp(), regression=True), still)["target_scale"].tolist() == [1.0]

    def test_other_number_of_regimes_is_refused(self, make_job: Callable[..., Job]) -> None:
        """Statistics of two conditions do not go into a model of three."""
        manifest = manifest_of(build(make_job(Mlp()), 0, regimes=3))
        with pytest.raises(ModelError, match="operating conditions"):
            NORMALISER.write(manifest, np.zeros(manifest.size, np.float32))

    def test_survives_the_wire(self) -> None:
        """MessagePack gives the same statistics back."""
        data = msgspec.msgpack.encode(NORMALISER)
        assert msgspec.msgpack.decode(data, type=Normaliser) == NORMALISER
