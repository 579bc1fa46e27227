# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from fedmill_shared.errors import ModelError
from fedmill_shared.models.manifest import LEARNED, Manifest, Tensor

MANIFEST = Manifest(
    tensors=(
        Tensor(name="backbone.weight", shape=(2, 2), offset=0, role="backbone"),
        Tensor(name="head.weight", shape=(1, 2), offset=4, role="head"),
        Tensor(name="norm.weight", shape=(2,), offset=6, role="norm"),
        Tensor(name="mean", shape=(1,), offset=8, role="buffer"),
    )
)
VECTOR = np.arange(9, dtype=np.float32)


class TestManifest:
    def test_size(self) -> None:
        """The vector has as many elements as all tensors together."""
        assert MANIFEST.size == 9

    def test_adjacent_ranges_merge(self) -> None:
        """Neighbouring tensors of the asked roles are one range."""
        assert MANIFEST.ranges(LEARNED) == [(0, 8)]
        assert MANIFEST.ranges(("backbone", "norm")) == [(0, 4), (6, 8)]
        assert MANIFEST.ranges(("adapter",)) == []

    def test_count(self) -> None:
        """Elements of the asked roles, wherever they lie."""
        assert MANIFEST.count(("backbone", "norm")) == 6
        assert MANIFEST.count(LEARNED) == 8
        assert MANIFEST.count(("control",)) == 0

    def test_control_variates_are_bound_to_nothing(self) -> None:
        """They lie in the vector, and no module or graph has them."""
        control = Tensor(name="control.head.weight", shape=(1, 2), offset=9, role="control")
        wide = Manifest(tensors=(*MANIFEST.tensors, control))
        assert wide.bound == MANIFEST.tensors == MANIFEST.bound
        assert wide.size == 11
        assert wide.ranges((*LEARNED, "control")) == [(0, 8), (9, 11)]

    def test_gather_and_scatter(self) -> None:
        """Scatter puts back what gather took, and leaves the rest alone."""
        part = MANIFEST.gather(VECTOR, ("backbone", "norm"))
        assert part.tolist() == [0, 1, 2, 3, 6, 7]
        changed = MANIFEST.scatter(VECTOR, part + 10, ("backbone", "norm"))
        assert changed.tolist() == [10, 11, 12, 13, 4, 5, 16, 17, 8]
        assert VECTOR.tolist() == list(range(9))
        assert MANIFEST.gather(VECTOR, ("adapter",)).shape == (0,)

    def test_views_are_the_same_memory(self) -> None:
        """Each tensor by its name and in its shape; what is written there is in the vector."""
        vector = VECTOR.copy()
        views = MANIFEST.views(vector)
        assert {name: view.shape for name, view in views.items()} == {
            tensor.name: tensor.shape for tensor in MANIFEST.tensors
        }
        views["head.weight"][0, 1] = 50
        assert vector.tolist() == [0, 1, 2, 3, 4, 50, 6, 7, 8]
        with pytest.raises(ModelError, match="wants"):
            MANIFEST.views(vector[1:])

    def test_gap_is_refused(self) -> None:
        """A manifest with a hole would shift every tensor behind it."""
        with pytest.raises(ModelError, match="does not start at 0"):
            Manifest(tensors=(Tensor(name="a", shape=(1,), offset=1, role="head"),))

    def test_wrong_vectors_are_refused(self) -> None:
        """Type and size are checked before any byte is used."""
        with pytest.raises(ModelError, match="float64"):
            MANIFEST.check(VECTOR.astype(np.float64))
        with pytest.raises(ModelError, match=r"\(9,\)"):
            MANIFEST.gather(VECTOR[:8], LEARNED)
        with pytest.raises(ModelError, match="do not fit"):
            MANIFEST.scatter(VECTOR, VECTOR[:3], ("head",))

    def test_digest_names_the_layout(self) -> None:
        """Any change of name, shape or role is another digest."""
        first = MANIFEST.tensors[0]
        other = Manifest(
            tensors=(
                Tensor(name=first.name, shape=(4,), offset=0, role=first.role),
                *MANIFEST.tensors[1:],
            )
        )
        assert MANIFEST.digest != other.digest
        assert len(MANIFEST.digest) == 64
