# SPDX-License-Identifier: Apache-2.0
"""Small float32 arrays as bytes: canary inputs and outputs."""

from math import prod

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.errors import FrameError

ELEMENT_LIMIT = 1 << 26


class _Packed(Struct, frozen=True):
    shape: tuple[int, ...]
    data: bytes


def pack_tensor(array: NDArray[np.float32]) -> bytes:
    """Bytes of a float32 array of any shape."""
    return msgspec.msgpack.encode(_Packed(array.shape, array.astype("<f4").tobytes()))


def unpack_tensor(data: bytes) -> NDArray[np.float32]:
    """The array in ``data``.

    Raises:
        FrameError: it is truncated, foreign, or its shape and bytes disagree.
    """
    try:
        packed = msgspec.msgpack.decode(data, type=_Packed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"tensor cannot be decoded: {error}") from error
    shape = packed.shape
    # An empty side does not excuse the others: numpy cannot hold (0, 2**62) either.
    if len(shape) > 8 or min(shape, default=0) < 0 or prod(filter(None, shape)) > ELEMENT_LIMIT:
        raise FrameError(f"tensor of shape {shape[:8]} is not possible")
    if len(packed.data) != 4 * prod(shape):
        raise FrameError(f"tensor of shape {shape} has {len(packed.data)} bytes")
    return np.frombuffer(packed.data, dtype="<f4").reshape(shape)
