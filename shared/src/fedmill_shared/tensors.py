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
    except msgspec.DecodeError as error:
        raise FrameError(f"tensor cannot be decoded: {error}") from error
    if len(packed.shape) > 8 or any(side < 0 for side in packed.shape):
        raise FrameError(f"tensor of shape {packed.shape} is not possible")
    elements = prod(packed.shape)
    if elements > ELEMENT_LIMIT or len(packed.data) != 4 * elements:
        raise FrameError(f"tensor of shape {packed.shape} has {len(packed.data)} bytes")
    return np.frombuffer(packed.data, dtype="<f4").reshape(packed.shape)
