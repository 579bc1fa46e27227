# SPDX-License-Identifier: Apache-2.0
"""Where every tensor of a model lies in its one flat float32 vector.

The federation's vector, the checkpoint and the ONNX external-data file are the same bytes; this
manifest lays out training, codec and ONNX binding alike. No torch here: agents read it too.
"""

from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
from msgspec import Struct, json
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.files import sha256

Role = Literal["backbone", "head", "norm", "adapter", "buffer", "control"]
"""What a tensor is for. ``control`` holds SCAFFOLD's variates: it travels with the model and is no
part of it, so no graph and no module knows it."""
LEARNED: tuple[Role, ...] = ("backbone", "head", "norm", "adapter")


def vector_bytes(vector: NDArray[np.float32]) -> bytes:
    """Little-endian bytes of a vector: the blob, the file and the external data of a version."""
    return vector.astype("<f4", copy=False).tobytes()


def version_of(vector: NDArray[np.float32]) -> str:
    """SHA-256 of a vector's bytes: the name of a model version."""
    return sha256(vector_bytes(vector))


class Tensor(Struct, frozen=True):
    """One tensor: its name in the graph, its shape, its first element in the vector, its role."""

    name: str
    shape: tuple[int, ...]
    offset: int
    role: Role

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class Manifest(Struct, frozen=True, dict=True):
    """All tensors of one architecture, gapless and in the order of their offsets."""

    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        offset = 0
        for tensor in self.tensors:
            if tensor.offset != offset or any(side < 0 for side in tensor.shape):
                raise ModelError(f"manifest: tensor {tensor.name!r} does not start at {offset}")
            offset += tensor.size

    @property
    def size(self) -> int:
        """Number of float32 elements in the vector."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def bound(self) -> tuple[Tensor, ...]:
        """Tensors that a module and a graph have: all but control variates."""
        return tuple(tensor for tensor in self.tensors if tensor.role != "control")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the layout: what a delta's ``schema`` names."""
        return sha256(json.encode(self))

    def ranges(self, roles: tuple[Role, ...]) -> list[tuple[int, int]]:
        """Merged ``(start, stop)`` element ranges of the tensors with one of ``roles``."""
        merged: list[tuple[int, int]] = []
        for tensor in self.tensors:
            if tensor.role not in roles or tensor.size == 0:
                continue
            start, stop = tensor.offset, tensor.offset + tensor.size
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], stop)
            else:
                merged.append((start, stop))
        return merged

    def count(self, roles: tuple[Role, ...]) -> int:
        """Number of elements with one of ``roles``."""
        return sum(stop - start for start, stop in self.ranges(roles))

    def views(self, vector: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Every tensor in ``vector`` (size,) by name, in its shape: the same memory.

        Raises:
            ModelError: the vector does not fit the manifest.
        """
        self.check(vector)
        return {
            tensor.name: vector[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape)
            for tensor in self.tensors
        }

    def gather(self, vector: NDArray[np.float32], roles: tuple[Role, ...]) -> NDArray[np.float32]:
        """The elements of ``vector`` (size,) with one of ``roles``, in order."""
        self.check(vector)
        parts = [vector[start:stop] for start, stop in self.ranges(roles)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def scatter(
        self, vector: NDArray[np.float32], part: NDArray[np.float32], roles: tuple[Role, ...]
    ) -> NDArray[np.float32]:
        """A copy of ``vector`` (size,) whose elements with ``roles`` are those of ``part``."""
        self.check(vector)
        ranges = self.ranges(roles)
        if part.shape != (self.count(roles),):
            raise ModelError(f"manifest: {part.shape} elements do not fit roles {', '.join(roles)}")
        result = vector.copy()
        done = 0
        for start, stop in ranges:
            result[start:stop] = part[done : done + stop - start]
            done += stop - start
        return result

    def check(self, vector: NDArray[np.float32]) -> None:
        """Raise ModelError unless ``vector`` is float32 of this manifest's size."""
        if vector.dtype != np.float32 or vector.shape != (self.size,):
            raise ModelError(
                f"model vector has {vector.dtype} {vector.shape}, the manifest wants "
                f"float32 ({self.size},)",
                remedy="the agent and the coordinator disagree on the architecture",
            )
