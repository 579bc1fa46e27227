# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from fedmill_shared.errors import ModelError
from fedmill_shared.models.manifest import Manifest, Role, Tensor
from fedmill_shared.models.readout import readout_of, target_of


def manifest(*tensors: tuple[str, tuple[int, ...], Role]) -> Manifest:
    """A layout without gaps."""
    placed: list[Tensor] = []
    for name, shape, role in tensors:
        offset = placed[-1].offset + placed[-1].size if placed else 0
        placed.append(Tensor(name, shape, offset, role))
    return Manifest(tuple(placed))


LINEAR = manifest(
    ("backbone.0.weight", (3, 2), "backbone"),
    ("head.weight", (2, 3), "head"),
    ("head.bias", (2,), "head"),
    ("target_offset", (1,), "buffer"),
    ("target_scale", (1,), "buffer"),
)


def test_a_target_without_a_number() -> None:
    """A layout that says so is no reason to look behind the end of the weights."""
    empty = Manifest((Tensor("target_offset", (0,), 0, "buffer"),))
    assert target_of(empty, np.zeros(0, np.float32)) == (0.0, 1.0)


class TestReadoutOf:
    def test_a_linear_head(self) -> None:
        """Width, outputs, and the layer as a matrix with the bias in the last row."""
        readout = readout_of(LINEAR)
        assert readout is not None
        assert (readout.width, readout.outputs) == (3, 2)
        vector = np.arange(16, dtype=np.float32)
        np.testing.assert_array_equal(readout.matrix(vector), [[6, 9], [7, 10], [8, 11], [12, 13]])
        assert target_of(LINEAR, vector) == (14.0, 15.0)

    def test_the_last_of_several_layers(self) -> None:
        """A head with a hidden layer ends in one, too."""
        readout = readout_of(
            manifest(
                ("head.0.weight", (5, 3), "head"),
                ("head.0.bias", (5,), "head"),
                ("head.2.weight", (1, 5), "head"),
                ("head.2.bias", (1,), "head"),
            )
        )
        assert readout is not None
        assert readout.weight.name == "head.2.weight"
        assert target_of(LINEAR, np.ones(16, np.float32)) == (1.0, 1.0)

    @pytest.mark.parametrize(
        "tensors",
        [
            (),
            (("backbone.weight", (2, 3), "backbone"), ("backbone.bias", (2,), "backbone")),
            (("head.weight", (2, 3), "head"),),
            (("head.weight", (2, 3, 1), "head"), ("head.bias", (2,), "head")),
            (("head.weight", (2, 3), "head"), ("head.bias", (3,), "head")),
            (("head.0.weight", (2, 3), "head"), ("head.1.bias", (2,), "head")),
        ],
    )
    def test_no_linear_head(self, tensors: tuple[tuple[str, tuple[int, ...], Role], ...]) -> None:
        """None rather than a guess."""
        assert readout_of(manifest(*tensors)) is None


class TestPut:
    def test_is_the_way_back(self) -> None:
        """What was put is read again, and nothing else has changed."""
        readout = readout_of(LINEAR)
        assert readout is not None
        vector = np.arange(16, dtype=np.float32)
        matrix = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32).astype(np.float64)
        changed = readout.put(vector, matrix)
        np.testing.assert_array_equal(readout.matrix(changed), matrix)
        np.testing.assert_array_equal(changed[:6], vector[:6])
        np.testing.assert_array_equal(changed[14:], vector[14:])
        np.testing.assert_array_equal(vector, np.arange(16))
        np.testing.assert_array_equal(readout.put(vector, readout.matrix(vector)), vector)

    def test_what_does_not_fit_is_refused(self) -> None:
        """Another shape, and numbers that float32 cannot hold."""
        readout = readout_of(LINEAR)
        assert readout is not None
        vector = np.zeros(16, np.float32)
        with pytest.raises(ModelError, match=r"\(3, 2\) does not fit 'head.weight'"):
            readout.put(vector, np.zeros((3, 2)))
        for wrong in (np.nan, np.inf, 1e300):
            with pytest.raises(ModelError, match="NaN or infinity"):
                readout.put(vector, np.full((4, 2), wrong))
