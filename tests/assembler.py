# SPDX-License-Identifier: Apache-2.0
"""Puts blobs together in memory, as the other side of what a test looks at."""

from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import Block, block_count


class Assembler:
    """Holds the blocks of the blobs that were expected."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, bytes]] = {}
        self._sizes: dict[str, int] = {}

    def expect(self, blob: str, size: int) -> None:
        """Accept blocks of ``blob`` from now on; asking twice keeps what has arrived."""
        self._sizes[blob] = size
        self._parts.setdefault(blob, {})

    def missing(self, blob: str) -> list[int]:
        """Indices of the blocks of an expected blob that have not arrived."""
        parts = self._parts[blob]
        return [i for i in range(block_count(self._sizes[blob])) if i not in parts]

    def add(self, block: Block) -> bytes | None:
        """The whole blob, of the name it was given, if ``block`` was its last piece."""
        if self._sizes.get(block.blob) != block.size:
            return None
        parts = self._parts[block.blob]
        parts[block.index] = block.payload
        if len(parts) < block.total:
            return None
        blob = b"".join(parts[i] for i in range(block.total))
        del self._parts[block.blob], self._sizes[block.blob]
        assert sha256(blob) == block.blob
        return blob
