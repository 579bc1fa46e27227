# SPDX-License-Identifier: Apache-2.0
"""What agents may ask for of one job: the blobs of versions, sent in blocks to whose turn it is."""

from collections.abc import Iterable

from fedmill_coordinator.registry.turns import EVERYBODY, Turns
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.voice import Voice
from fedmill_shared.errors import FrameError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, block_count, check_index, read_blocks
from fedmill_shared.messages import BlobName, BlobRequest


class Offers:
    """Owns which blobs of one job are on offer, and who waits for blocks of them.

    They lie on shelves, one for each version that is told: the newest, the released, and those that
    an agent may have to go back to. One blob may lie on several of them.
    """

    def __init__(self, job: str, blobs: Blobs, voice: Voice) -> None:
        """Nothing is on offer."""
        self._job = job
        self._blobs = blobs
        self._voice = voice
        self._shelves: dict[str, dict[str, int]] = {}
        self._turns = Turns()

    @property
    def names(self) -> set[str]:
        """Blobs that are on offer."""
        return {name for shelf in self._shelves.values() for name in shelf}

    def lay_out(self, shelf: str, blobs: Iterable[BlobName]) -> None:
        """Put ``blobs`` on a shelf in place of what it had."""
        found = {blob.sha256: blob.size for blob in blobs}
        if found == self._shelves.get(shelf):
            return
        self._shelves[shelf] = found
        self._turns.keep(self.names)

    def push(self, blobs: Iterable[BlobName]) -> None:
        """Send all of ``blobs`` to everybody, without being asked."""
        for blob in blobs:
            self._turns.ask(EVERYBODY, blob.sha256, range(block_count(blob.size)))

    def request(self, agent: str, request: BlobRequest) -> None:
        """``agent`` lacks blocks of a blob: a window of them waits for its turn.

        Raises:
            FrameError: the blob is not on offer, or has no such block.
        """
        size = self._size(request.blob)
        if size is None:
            raise FrameError(f"blob {request.blob[:12]} is part of no version that is on offer")
        window = request.missing[:TRANSFER_WINDOW]
        for index in window:
            check_index(index, size)
        self._turns.ask(agent, request.blob, window)

    def serve(self, budget: int) -> int:
        """Send at most ``budget`` blocks that agents wait for; how many were sent.

        Raises:
            StoreError: a blob that is on offer cannot be read.
        """
        sent = 0
        while (turn := self._turns.next(budget - sent)) is not None:
            for block in read_blocks(self._blobs.path(turn.blob), turn.blob, turn.indices):
                if turn.agent == EVERYBODY:
                    self._voice.broadcast(self._job, "block", block)
                else:
                    self._voice.tell(self._job, turn.agent, "block", block)
            sent += len(turn.indices)
        return sent

    def _size(self, blob: str) -> int | None:
        found = (shelf[blob] for shelf in self._shelves.values() if blob in shelf)
        return next(found, None)
