# SPDX-License-Identifier: Apache-2.0
"""What a codec is: a named pair of pure functions between a float32 vector and byte sections."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import FrameError

Vector = NDArray[np.float32]


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


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression method.

    Attributes:
        name: what the job file calls it.
        number: its byte in the frame; never reused.
        lossless: whether decode(encode(x)) == x for every finite x.
        entropy: whether the frame tries its Huffman stage on the sections.
        encode: ``(finite vector (n,), generator, seed) -> sections``. The generator is private
            randomness, the seed is public: the frame carries it to ``decode``.
        decode: ``(sections, n, seed) -> vector (n,)``, finite and writable; raises FrameError on
            anything foreign.
        bound: ``n -> largest total bytes of sections that n elements can need``; the frame parser
            refuses more before it allocates.
    """

    name: str
    number: int
    lossless: bool
    entropy: bool
    encode: Callable[[Vector, "np.random.Generator", int], list[Section]]
    decode: Callable[[Sequence[Section], int, int], Vector]
    bound: Callable[[int], int]


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
