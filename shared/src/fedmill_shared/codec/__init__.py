# SPDX-License-Identifier: Apache-2.0
"""Compression of model deltas: one method per file, and the frame that carries them all."""

from fedmill_shared.codec.base import Codec
from fedmill_shared.codec.fp32 import FP32
from fedmill_shared.codec.int8 import INT8
from fedmill_shared.errors import FrameError

CODECS: dict[str, Codec] = {codec.name: codec for codec in (FP32, INT8)}
_NUMBERS = {codec.number: codec for codec in CODECS.values()}


def by_number(number: int) -> Codec:
    """The codec with ``number`` in the frame.

    Raises:
        FrameError: no codec has it.
    """
    if number not in _NUMBERS:
        raise FrameError(
            f"frame: codec number {number} is unknown",
            remedy="the sender's software is newer than this one; bring both to one version",
        )
    return _NUMBERS[number]
