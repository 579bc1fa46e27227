# SPDX-License-Identifier: Apache-2.0
"""The int8 form of a template: what coordinator and agents must agree on. No torch, no onnx.

Static quantisation with zero points (Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877; ONNX operators
``QuantizeLinear`` and ``DequantizeLinear``): an activation x is stored as ``round(x / scale) +
zero`` in uint8, a weight as ``round(w / scale)`` in int8 with one scale for each output channel.

The weights are the same float32 external data as those of the plain template, and the graph says
how their int8 form follows from them; so new weights are bound as ever. Scales and zero points of
the activations come from windows that only the agent has: they are a second external file.
"""

from dataclasses import dataclass

import numpy as np
from msgspec import Struct, msgpack
from numpy.typing import NDArray

from fedmill_shared.errors import FrameError, ModelError
from fedmill_shared.messages import UNREADABLE
from fedmill_shared.onnx_session import OnnxSession

QUANTISED_LIMIT = 64 << 20
"""Bytes of the two graphs together, at most."""
MOST_POINTS = 10_000
FULL_LEVELS, REDUCED_LEVELS = 127, 63
"""Steps of a weight on each side of zero. Half of them on processors whose 8-bit multiplication
saturates at 16 bits (AVX2 and AVX-512 without VNNI)."""
TINY = 1e-30
"""Smallest scale: of what is always zero."""


class Quantised(Struct, frozen=True, kw_only=True):
    """The blob that travels: two graphs without weights.

    Attributes:
        template: as the plain template, with int8 convolutions; its scales are external data.
        ranges: gives float32 (B, 2 * points), the smallest value of every quantised activation in
            each window, then the largest of each.
        points: quantised activations.
    """

    template: bytes
    ranges: bytes
    points: int


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """How activations are stored: ``scale`` float32 and ``zero`` uint8, (points,) each.

    ``levels`` is what the largest weight of a channel becomes.
    """

    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]
    levels: int = FULL_LEVELS

    @classmethod
    def of_ranges(
        cls, low: NDArray[np.float32], high: NDArray[np.float32], levels: int = FULL_LEVELS
    ) -> "Scales":
        """Scales for activations between ``low`` and ``high`` (points,); zero is always exact."""
        below, above = np.minimum(low, 0.0), np.maximum(high, 0.0)
        scale = np.maximum((above - below) / np.float32(255.0), np.float32(TINY))
        zero = np.clip(np.rint(-below / scale), 0, 255)
        return cls(scale.astype(np.float32), zero.astype(np.uint8), levels)


def pack_quantised(quantised: Quantised) -> bytes:
    """The blob of both graphs."""
    return msgpack.encode(quantised)


def unpack_quantised(blob: bytes) -> Quantised:
    """The graphs in ``blob``.

    Raises:
        FrameError: it is too large, or cannot be decoded.
    """
    if len(blob) > QUANTISED_LIMIT:
        raise FrameError(f"int8 template of {len(blob)} bytes exceeds {QUANTISED_LIMIT}")
    try:
        quantised = msgpack.decode(blob, type=Quantised)
    except UNREADABLE as error:
        raise FrameError(f"int8 template cannot be decoded: {error}") from error
    if not 0 < quantised.points <= MOST_POINTS:
        raise FrameError(f"int8 template has {quantised.points} quantised activations")
    return quantised


def scales_layout(points: int) -> dict[str, tuple[int, int]]:
    """Offset and bytes of each part of the scales' file: ``levels``, ``scale.0``, ``zero.0``..."""
    layout = {"levels": (0, 4)}
    for point in range(points):
        layout[f"scale.{point}"] = 4 + 4 * point, 4
        layout[f"zero.{point}"] = 4 + 4 * points + point, 1
    return layout


def bind(quantised: Quantised, vector: NDArray[np.float32], scales: Scales) -> OnnxSession:
    """``vector`` (elements,) in the int8 template.

    Raises:
        ModelError: scales or weights do not fit it, or the runtime refuses it.
    """
    scale, points = scales.scale, quantised.points
    if scale.shape != (points,) or scales.zero.shape != (points,):
        raise ModelError(
            f"int8: {scale.shape} scales and {scales.zero.shape} zero points, the template wants "
            f"({points},)"
        )
    if scale.dtype != np.float32 or scales.zero.dtype != np.uint8:
        raise ModelError(f"int8: scales are {scale.dtype}, zero points {scales.zero.dtype}")
    if not (np.isfinite(scale).all() and (scale > 0).all() and 0 < scales.levels <= FULL_LEVELS):
        raise ModelError("int8: a scale is not a positive number", remedy="calibrate anew")
    data = np.float32(scales.levels).astype("<f4").tobytes() + scale.astype("<f4").tobytes()
    return OnnxSession.from_template(
        quantised.template, vector, scales=data + scales.zero.tobytes()
    )


def ranges_session(quantised: Quantised, vector: NDArray[np.float32]) -> OnnxSession:
    """``vector`` (elements,) in the template that gives ranges: (B, S, L) -> (B, 2 * points).

    Raises:
        ModelError: the weights do not fit it, or the runtime refuses it.
    """
    return OnnxSession.from_template(quantised.ranges, vector)
