# SPDX-License-Identifier: Apache-2.0
"""The entropy stage: Huffman codes of bytes, as raw deflate (RFC 1951) without string matching.

Quantised deltas hold no repeated strings: matching costs time and saves nothing, and Huffman codes
alone come within one per cent of the entropy of a bell-shaped delta.
"""

import zlib

from fedmill_shared.errors import FrameError


def deflate(data: bytes | memoryview) -> bytes:
    """``data`` as raw deflate; may be longer than ``data``."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes | memoryview, length: int) -> bytes:
    """The ``length`` bytes that were deflated; at most one more is ever produced.

    Raises:
        FrameError: ``data`` is corrupt, or stands for another number of bytes.
    """
    unpacker = zlib.decompressobj(-15)
    try:
        result = unpacker.decompress(data, length + 1)
    except zlib.error as error:
        raise FrameError(
            "frame: a deflated section is corrupt", remedy="send the frame again"
        ) from error
    if len(result) != length or not unpacker.eof or unpacker.unused_data:
        raise FrameError(f"frame: a deflated section does not stand for its {length} bytes")
    return result
