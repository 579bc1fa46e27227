# SPDX-License-Identifier: Apache-2.0
"""Brings the blobs of one version from the wire to the shelf.

A version needs its manifest, template and canary inputs, and its weights: as a delta on a version
that is on the shelf, or as a whole snapshot. Deltas are broadcast, and so is all of the first
version; everything else is pulled, and so is what was lost. What has arrived in part is on disk,
and a restart goes on from there.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from fedmill_agent.background import Background
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, FrameError, StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, Block, block_count
from fedmill_shared.link.pull import SILENCE_SECONDS, Pull
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobRequest, VersionNotice

PATIENCE_SECONDS = 1.0
"""How long a broadcast may take to begin before the blob is asked for."""
LARGE_BYTES = 1 << 20


@dataclass(slots=True)
class _Download:
    """A blob on its way: bytes of it, seconds of the clock, and what was asked for last."""

    size: int
    resumed_bytes: int
    began: float
    due: float
    pull: Pull


class Fetch:
    """Owns the downloads of one version at a time."""

    def __init__(
        self,
        shelf: VersionShelf,
        request: Callable[[BlobRequest], None],
        clock: Clock,
        log: Logger,
        *,
        disk: Background,
        whole: Callable[[], None],
    ) -> None:
        """``request`` asks for blocks; ``whole`` is called when the last blob is on the shelf.

        On ``disk`` what has come is checked and moved: the loop waits for no slow disk.
        """
        self._disk = disk
        self._whole = whole
        self._shelf = shelf
        self._request = request
        self._clock = clock
        self._log = log
        self._job = ""
        self._downloads: dict[str, _Download] = {}
        self._settling: set[str] = set()

    @property
    def done(self) -> bool:
        """Whether nothing is on its way."""
        return not self._downloads

    def begin(self, notice: VersionNotice, *, retained: bool) -> None:
        """Fetch what the shelf lacks of ``notice``, and nothing else any more.

        What is broadcast behind a fresh notice is waited for; a ``retained`` one is too late.
        Nothing is asked for before ``tick``.

        Raises:
            StoreError: the disk fails; what was on its way before still is.
        """
        missing = lacking(self._shelf, notice)
        self._shelf.spool.keep(missing)
        self._downloads = {
            blob: self._download(blob, size, notice, retained=retained)
            for blob, size in missing.items()
        }
        self._job = notice.job

    def stop(self) -> None:
        """Nothing is wanted any more; what has come is still there."""
        self._downloads.clear()

    def forget(self) -> None:
        """Remove what has come in part, if the disk lets us: it takes room until then."""
        with suppress(StoreError):
            self._shelf.spool.keep(())

    def receive(self, block: Block) -> None:
        """Take one block; a blob that turns out to be damaged is asked for again.

        Raises:
            StoreError: the disk fails; the block is asked for again.
        """
        download = self._downloads.get(block.blob)
        if download is None or download.size != block.size or block.blob in self._settling:
            return
        if self._shelf.spool.place(block):
            blob = block.blob
            self._settling.add(blob)
            work = partial(self._shelf.spool.settle, blob, self._shelf.path(blob))
            self._disk.submit(work, lambda _: self._received(blob), partial(self._failed, blob))
            return
        now = self._clock.monotonic()
        # Patience is with silence: a slow line that delivers is not asked twice.
        download.due = now + SILENCE_SECONDS
        # Blocks come in order: behind the last one of a broadcast, nothing more is to be expected.
        if download.pull.arrived(block.index, now) or block.index == block.total - 1:
            self._pull(block.blob)

    def tick(self) -> None:
        """Ask (again) for what has not come."""
        now = self._clock.monotonic()
        for blob, download in self._downloads.items():
            if now >= download.due and blob not in self._settling:
                self._pull(blob)

    def _download(
        self, blob: str, size: int, notice: VersionNotice, *, retained: bool
    ) -> _Download:
        """Begin to fetch ``blob``, or go on with it."""
        self._shelf.spool.expect(blob, size)
        now = self._clock.monotonic()
        is_delta = notice.delta is not None and blob == notice.delta.sha256
        broadcast = not retained and (is_delta or notice.number == 0)
        return _Download(
            size=size,
            resumed_bytes=self._shelf.spool.arrived(blob),
            began=now,
            due=now + PATIENCE_SECONDS if broadcast else now,
            pull=Pull(now),
        )

    def _received(self, blob: str) -> None:
        """A blob is on the shelf."""
        self._settling.discard(blob)
        self._shelf.spool.forget(blob)
        download = self._downloads.pop(blob, None)
        if download is None:
            return
        fields = {
            "blob": blob[:12],
            "bytes": download.size,
            "seconds": round(self._clock.monotonic() - download.began, 4),
            "resumed_bytes": download.resumed_bytes,
        }
        if download.size >= LARGE_BYTES:
            self._log.info("blob.received", **fields)
        else:
            self._log.debug("blob.received", **fields)
        if self.done:
            self._whole()

    def _failed(self, blob: str, error: FedmillError) -> None:
        """A blob is not what it should be, or the disk does not take it: it is asked for again."""
        self._settling.discard(blob)
        if not isinstance(error, FrameError):
            self._shelf.spool.reopen(blob)
            self._log.error("blob.delayed", blob=blob[:12], error=str(error))
            return
        self._log.warning("block.refused", error=str(error))
        self._shelf.spool.restart(blob)
        download = self._downloads.get(blob)
        if download is not None:
            download.resumed_bytes = 0
            download.pull = Pull(self._clock.monotonic())

    def _pull(self, blob: str) -> None:
        now, download = self._clock.monotonic(), self._downloads[blob]
        download.due = now + SILENCE_SECONDS
        missing = self._shelf.spool.missing(blob, TRANSFER_WINDOW)
        # One that is whole and could not be moved to the shelf is tried again with its last block.
        indices = download.pull.ask(missing or [block_count(download.size) - 1], now)
        self._request(BlobRequest(job=self._job, blob=blob, missing=indices))


def lacking(shelf: VersionShelf, notice: VersionNotice) -> dict[str, int]:
    """Names and sizes of the blobs that ``shelf`` needs for ``notice`` and does not have."""
    blobs = [notice.manifest, notice.template, notice.canary_inputs]
    if not shelf.has(notice.version):
        on_base = notice.delta is not None and shelf.has(notice.base)
        blobs.append(notice.delta if on_base and notice.delta else notice.snapshot)
    return {blob.sha256: blob.size for blob in blobs if not shelf.has(blob.sha256)}
