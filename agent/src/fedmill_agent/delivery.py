# SPDX-License-Identifier: Apache-2.0
"""Updates on their way: offered until the coordinator has them, kept until their fate is known.

An acknowledgement of the broker proves nothing. A receipt says that the update is durable, and only
a final one, or a round result that lists the update, ends its life here.
"""

import math
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, structs

from fedmill_agent.residual import Residual
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, block_count, blocks_of
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobRequest, Receipt, RoundNotice, Wait
from fedmill_shared.protocol import NEWEST, OLDEST

RESEND_SECONDS = 10.0
"""How long an update waits for its receipt before it is offered again."""

Send = Callable[[str, Struct | bytes], None]


class Delivery:
    """Owns the outbox and the residual of one job.

    Attributes:
        protocol: what the coordinator and we have in common.
        refused_in: newest round whose update was refused; 0 once another was put in.
        latest: (round, base) of the newest update that was ever put in.
    """

    def __init__(
        self,
        folder: Path,
        send: Send,
        *,
        agent: str,
        busy: Callable[[], bool],
        clock: Clock,
        log: Logger,
    ) -> None:
        """Continue from what ``folder`` holds; ``busy`` tells whether a training is in hand.

        Raises:
            StoreError: the folder cannot be read or written.
        """
        self._send = send
        self._agent = agent
        self._busy = busy
        self._clock = clock
        self._log = log
        self._outbox = Outbox(folder / "outbox")
        self.residual = Residual(folder)
        self.protocol = NEWEST
        self.refused_in = 0
        self.latest: tuple[int, str] | None = None
        self._due: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._verdicts: dict[str, bool] = {}
        self._frame: tuple[str, bytes] = ("", b"")
        self._unsaved: Parcel | None = None
        self._told_unsaved = False
        if self.residual.set_aside is not None:
            log.error("residual.set_aside", path=str(self.residual.set_aside))
        for parcel in self._outbox.parcels():
            self.residual.sent(parcel)
            self._await(parcel, -math.inf)

    @property
    def stuck(self) -> bool:
        """Whether a new update cannot be kept, as on a full disk: nothing more is to be trained."""
        return self._unsaved is not None

    def put(self, parcel: Parcel) -> None:
        """Keep a new update durably and offer it with its first blocks.

        What the disk refuses is held in memory and tried again at every tick.
        """
        self._unsaved = parcel
        self._save()

    def receipt(self, receipt: Receipt) -> None:
        """The coordinator has an update, has used it, or never will."""
        digest = receipt.sha256
        if digest not in self._due:
            return
        self._due[digest] = math.inf
        self._drop_frame(digest)
        why = {"round": receipt.round, "sha256": digest, "code": receipt.code}
        if receipt.fate == "refused":
            self._log.warning("update.refused", reason=receipt.reason, **why)
            self.refused_in = max(self.refused_in, receipt.round)
        elif receipt.fate == "late":
            self._log.warning("update.late", reason=receipt.reason, **why)
        if receipt.fate != "received":
            # What was refused is unfit: sent again inside the next delta, it would spoil that too.
            self._settle(digest, included=receipt.fate != "late")

    def request(self, request: BlobRequest) -> None:
        """The coordinator lacks blocks of an update."""
        if request.blob not in self._due:
            return
        if self._frame[0] != request.blob:
            parcel = self._outbox.get(request.blob)
            if parcel is None:
                return
            self._frame = request.blob, parcel.frame
        self._due[request.blob] = self._clock.monotonic() + RESEND_SECONDS
        wanted = request.missing[:TRANSFER_WINDOW]
        for block in blocks_of(self._frame[1], wanted, name=request.blob):
            self._send("block", block)

    def wait(self, wait: Wait) -> None:
        """The coordinator is busy; offer the update again later."""
        if wait.sha256 in self._due:
            self._drop_frame(wait.sha256)
            self._due[wait.sha256] = self._clock.monotonic() + wait.retry_after

    def close(self, notice: RoundNotice) -> None:
        """A round has closed: settle the update it used, and ask what became of the others."""
        for digest in list(self._due):
            parcel = self._outbox.get(digest)
            if parcel is None or parcel.offer.round > notice.closed:
                continue
            included = notice.included.get(self._agent) == digest
            if included or (self.protocol == OLDEST and parcel.offer.round == notice.closed):
                self._settle(digest, included=included)
            else:
                self._due[digest] = -math.inf

    def reconnected(self) -> None:
        """Offer again whatever has no final receipt."""
        self._due = dict.fromkeys(self._due, -math.inf)
        self.tick()

    def tick(self) -> None:
        """Offer again what has had no receipt for too long."""
        self._save()
        self.settle_waiting()
        now = self._clock.monotonic()
        for digest, due in list(self._due.items()):
            if now < due or self._occupied(digest):
                continue
            parcel = self._outbox.get(digest)
            if parcel is None:
                self._forget(digest)
            else:
                self._offer(parcel, again=True)

    def settle_waiting(self) -> None:
        """Settle what had to wait for the end of a training, or for room on the disk."""
        if self._busy() or self.stuck:
            return
        verdicts, self._verdicts = self._verdicts, {}
        for digest, included in verdicts.items():
            self._settle(digest, included=included)

    def _save(self) -> None:
        parcel = self._unsaved
        if parcel is None:
            return
        try:
            self._outbox.put(parcel)
            self.residual.sent(parcel)
        except StoreError as error:
            if not self._told_unsaved:
                self._log.error("update.unsaved", round=parcel.offer.round, error=str(error))
            self._told_unsaved = True
            return
        self._unsaved, self._told_unsaved = None, False
        self.refused_in = 0
        self._await(parcel, -math.inf)
        if not self._occupied(parcel.offer.sha256):
            self._offer(parcel, again=False)

    def _offer(self, parcel: Parcel, *, again: bool) -> None:
        digest, count = parcel.offer.sha256, block_count(parcel.offer.size)
        self._due[digest] = self._clock.monotonic() + RESEND_SECONDS
        asked_for = self.protocol > OLDEST
        offer = structs.replace(
            parcel.offer, protocol=self.protocol, offered_again=again and asked_for
        )
        self._send("update", offer)
        if asked_for:
            count = 0 if again else min(count, TRANSFER_WINDOW)
        for block in blocks_of(parcel.frame, range(count), name=digest):
            self._send("block", block)

    def _occupied(self, digest: str) -> bool:
        """Whether another large update is being sent: they would be in each other's way."""
        if block_count(self._sizes[digest]) <= TRANSFER_WINDOW:
            return False
        now = self._clock.monotonic()
        moving = [d for d, due in self._due.items() if d != digest and now < due < math.inf]
        return any(block_count(self._sizes[other]) > TRANSFER_WINDOW for other in moving)

    def _settle(self, digest: str, *, included: bool) -> None:
        if self._busy() or self.stuck:
            # The next residual is made from this one already: what was added now would be lost.
            self._verdicts[digest] = included
            self._due[digest] = math.inf
            return
        parcel = self._outbox.get(digest)
        if parcel is not None:
            self.residual.settle(parcel, included=included)
        self._outbox.take(digest)
        self._forget(digest)

    def _await(self, parcel: Parcel, due: float) -> None:
        offer = parcel.offer
        self._due[offer.sha256], self._sizes[offer.sha256] = due, offer.size
        if self.latest is None or offer.round >= self.latest[0]:
            self.latest = offer.round, offer.base

    def _forget(self, digest: str) -> None:
        self._due.pop(digest, None)
        self._sizes.pop(digest, None)
        self._drop_frame(digest)

    def _drop_frame(self, digest: str) -> None:
        if self._frame[0] == digest:
            self._frame = "", b""
