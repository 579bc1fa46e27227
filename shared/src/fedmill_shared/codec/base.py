# SPDX-License-Identifier: Apache-2.0
"""What a codec is: a named pair of pure functions between a float32 vector and byte sections.

Decoding has two steps. ``Codec.open`` checks every byte that came and gives a :class:`Payload`,
which still is nearly as small as the frame; ``Payload.read`` then gives any block of the vector.
So a coordinator sums a thousand updates without ever holding one of them as float32.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import FrameError

Vector = NDArray[np.float32]

BLOCK = 4096
"""Elements of one block: of a scale, of a rotation, and what ``Payload.read`` starts at."""


@dataclass(frozen=True, slots=True)
class Section:
    """One byte section of a frame.

    Attributes:
        kind: one of ``frame.KINDS``; a codec uses each kind at most once.
        data: the bytes, numbers in little-endian order.
        aux: one unsigned 32-bit number that decoding needs beside the bytes, such as a count of
            kept elements or a Rice parameter.
    """

    kind: str
    data: bytes | memoryview
    aux: int = 0


class Payload(Protocol):
    """A vector (elements,) that was checked and not yet written out."""

    @property
    def elements(self) -> int:
        """Length of the vector."""

    def read(self, start: int, out: Vector) -> None:
        """Write elements ``start`` to ``start + len(out)`` to ``out``.

        ``start`` is a multiple of ``BLOCK``, and so is the end unless it is the vector's end.
        Every value is finite. The same bits come whatever blocks are read, in any order.
        """


@dataclass(frozen=True, slots=True)
class Dense:
    """Values as they are; ``values`` is float32 or float16 (elements,) and may be a view."""

    values: NDArray[np.floating]

    @property
    def elements(self) -> int:
        """Length of the vector."""
        return self.values.size

    def read(self, start: int, out: Vector) -> None:
        """See :class:`Payload`."""
        out[:] = self.values[start : start + out.size]


@dataclass(frozen=True, slots=True)
class Quantised:
    """Whole steps of a scale for each block.

    Attributes:
        levels: int8 (elements,).
        scales: float32 (blocks,), one for ``BLOCK`` elements.
    """

    levels: NDArray[np.int8]
    scales: Vector

    @property
    def elements(self) -> int:
        """Length of the vector."""
        return self.levels.size

    def read(self, start: int, out: Vector) -> None:
        """See :class:`Payload`."""
        stop = start + out.size
        whole = (stop - start) // BLOCK
        body = slice(start, start + whole * BLOCK)
        first = start // BLOCK
        np.multiply(
            self.levels[body].reshape(whole, BLOCK),
            self.scales[first : first + whole, np.newaxis],
            out=out[: whole * BLOCK].reshape(whole, BLOCK),
        )
        if body.stop < stop:
            np.multiply(
                self.levels[body.stop : stop],
                self.scales[first + whole],
                out=out[whole * BLOCK :],
            )


@dataclass(frozen=True, slots=True)
class Sparse:
    """Mostly zeros.

    Attributes:
        elements: length of the vector.
        indices: int32 (kept,), strictly increasing, of the elements that are not left out.
        values: float32 (kept,), their values.
    """

    elements: int
    indices: NDArray[np.int32]
    values: Vector

    def read(self, start: int, out: Vector) -> None:
        """See :class:`Payload`."""
        # Bounds of the indices' own type: for any other, every index is converted first.
        bounds = np.array((start, start + out.size), np.int32)
        first, last = np.searchsorted(self.indices, bounds)
        out[:] = 0
        out[self.indices[first:last] - start] = self.values[first:last]


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression method.

    Attributes:
        name: what the job file calls it.
        number: its byte in the frame; never reused.
        lossless: whether decoding gives every finite vector back bit for bit.
        entropy: whether the frame tries its Huffman stage on the sections.
        encode: ``(finite vector (n,), generator, seed) -> sections``. The generator is private
            randomness, the seed is public: the frame carries it to ``open``.
        open: ``(sections, n, seed) -> payload of n elements``; raises FrameError on anything
            foreign, and allocates no more than the payload needs.
        bound: ``n -> largest total bytes of sections that n elements can need``; the frame parser
            refuses more before it allocates.
        shared_seed: whether all agents of a round are to use one seed; else each has its own.
    """

    name: str
    number: int
    lossless: bool
    entropy: bool
    encode: Callable[[Vector, "np.random.Generator", int], list[Section]]
    open: Callable[[Sequence[Section], int, int], Payload]
    bound: Callable[[int], int]
    shared_seed: bool = False

    def decode(self, sections: Sequence[Section], elements: int, seed: int) -> Vector:
        """The vector (elements,) of ``sections``, writable.

        Raises:
            FrameError: the sections are foreign.
        """
        return vector_of(self.open(sections, elements, seed))


def vector_of(payload: Payload) -> Vector:
    """All of ``payload`` (elements,), writable."""
    vector = np.empty(payload.elements, np.float32)
    payload.read(0, vector)
    return vector


def size_of(payload: Payload) -> int:
    """Bytes that ``payload`` holds in memory; of kinds not known here, the most it could."""
    match payload:
        case Dense():
            return payload.values.nbytes
        case Quantised():
            return payload.levels.nbytes + payload.scales.nbytes
        case Sparse():
            return payload.indices.nbytes + payload.values.nbytes
    return 4 * payload.elements


def blocks_of(elements: int) -> int:
    """Blocks of ``BLOCK`` elements, the last one perhaps shorter."""
    return -(-elements // BLOCK)


def take(sections: Sequence[Section], lengths: Mapping[str, int]) -> list[bytes | memoryview]:
    """The data of ``sections``, which must be of the kinds and bytes of ``lengths``, in order.

    Raises:
        FrameError: a section is missing, of another kind or length, or there are more.
    """
    found = [(section.kind, len(section.data)) for section in sections]
    if found != list(lengths.items()):
        raise FrameError(
            f"frame: sections are {_listed(found)}, this codec has {_listed(lengths.items())}",
            remedy="the sender's software does not match this one; bring both to one version",
        )
    return [section.data for section in sections]


def _listed(sections: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{kind} ({length} bytes)" for kind, length in sections) or "none"
