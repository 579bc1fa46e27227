# SPDX-License-Identifier: Apache-2.0
"""Updates on their way: offered until the coordinator has them, kept until their fate is known.

An acknowledgement of the broker proves nothing. A receipt says that the update is durable, and only
a final one, or a round result that lists the update, ends its life here.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from msgspec import Struct, structs

from fedmill_agent.residual import Residual
from fedmill_agent.signatures import Signatures
from fedmill_agent.training.protocol import Signed
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, block_count, blocks_of
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobRequest, Reason, Receipt, RoundNotice, Wait
from fedmill_shared.protocol import NEWEST, OLDEST

RESEND_SECONDS = 10.0
"""How long an update waits for its receipt before it is offered again."""

LONGEST_WAIT = 60.0
"""Seconds that a busy coordinator can put an update off."""
OUTBOX_LIMIT = 8
"""Updates of one job that wait for their fate before nothing more is trained."""
UNFIT = (Reason.DAMAGED, Reason.IMPLAUSIBLE)
"""Refused for one of these, an update has left something as unfit in the residual."""

Send = Callable[[str, Struct | bytes], None]
Verdict = Literal["forget", "add back", "clear"]
"""What becomes of the residual: it stays, gets back what was sent, or starts from zeros."""


class Delivery:
    """Owns the outbox and the residual of one job.

    Attributes:
        protocol: what the coordinator and we have in common.
        refused_in: round of the update that was put in last, if that was refused; else 0.
        latest: (round, base) of the update that was put in last.
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
        signatures: Signatures | None = None,
    ) -> None:
        """Continue from what ``folder`` holds; ``busy`` tells whether a training is in hand.

        What needs one of the ``signatures`` does not go out without.

        Raises:
            StoreError: the folder cannot be read or written.
        """
        self._send = send
        self._agent = agent
        self._busy = busy
        self._clock = clock
        self._log = log
        self._signatures = signatures or Signatures(str, lambda *_: None, clock, log)
        self._outbox = Outbox(folder / "outbox")
        self.residual = Residual(folder)
        self.protocol = NEWEST
        self.refused_in = 0
        self.latest: tuple[int, str] | None = None
        self._due: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._frame: tuple[str, bytes] = ("", b"")
        self._unsaved: Parcel | None = None
        self._told_unsaved = False
        self._resume()

    @property
    def waiting(self) -> int:
        """How many updates wait for their fate."""
        return len(self._due) + (self._unsaved is not None)

    @property
    def obstacle(self) -> str:
        """Why nothing more is to be trained: a new update could not be kept; empty if it could."""
        if self._unsaved is not None:
            return "its update cannot be kept: the disk is full"
        if len(self._due) >= OUTBOX_LIMIT:
            return f"{len(self._due)} updates wait for the coordinator"
        return ""

    def put(self, parcel: Parcel) -> None:
        """Keep a new update durably and offer it with its first blocks.

        What the disk refuses is held in memory and tried again at every tick.
        """
        self._unsaved = parcel
        self._save()

    def signed(self, signed: Signed) -> None:
        """An update has the signature that it lacked: it is kept with that, then offered."""
        parcel = self._outbox.get(signed.sha256) if signed.sha256 in self._due else None
        if parcel is None:
            return
        try:
            self._outbox.put(self._signatures.made(parcel, signed))
        except StoreError as error:
            self._signatures.failed(signed.sha256, str(error))
            return
        self.tick()

    def unsigned(self, digest: str, why: str) -> None:
        """An update could not be signed, for the reason ``why`` if that is not told already."""
        self._signatures.failed(digest, why)

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
            if self.latest is not None and self.latest[0] == receipt.round:
                self.refused_in = receipt.round
        elif receipt.fate == "late":
            self._log.warning("update.late", reason=receipt.reason, **why)
        if receipt.fate != "received":
            self._settle(digest, _verdict(receipt))

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
            delay = min(wait.retry_after, LONGEST_WAIT)
            self._due[wait.sha256] = self._clock.monotonic() + delay

    def close(self, notice: RoundNotice) -> None:
        """A round has closed: settle the update it used, and ask what became of the others."""
        for digest in list(self._due):
            parcel = self._outbox.get(digest)
            if parcel is None or parcel.offer.round > notice.closed:
                continue
            included = notice.included.get(self._agent) == digest
            if included or (self.protocol == OLDEST and parcel.offer.round == notice.closed):
                self._settle(digest, "forget" if included else "add back")
            else:
                self._due[digest] = -math.inf

    def reconnected(self) -> None:
        """Offer again whatever has no final receipt."""
        self._due = dict.fromkeys(self._due, -math.inf)
        self.tick()

    def tick(self) -> None:
        """Offer again what has had no receipt for too long."""
        self._tell_set_aside()
        self._save()
        self.settle_waiting()
        now = self._clock.monotonic()
        for digest, due in list(self._due.items()):
            if now < due or self._signatures.holds(digest) or self._occupied(digest):
                continue
            parcel = self._outbox.get(digest)
            if parcel is None:
                self._forget(digest)
            else:
                self._offer(parcel, again=True)

    def settle_waiting(self) -> None:
        """Settle what had to wait for the end of a training, or for room on the disk."""
        if self._busy() or self._unsaved is not None:
            return
        verdicts, self._verdicts = self._verdicts, {}
        for digest, verdict in verdicts.items():
            self._settle(digest, verdict)

    def _resume(self) -> None:
        """Go on with what waited when the process before this one ended."""
        for parcel in self._outbox.parcels():  # the newest round is the last
            self.residual.sent(parcel)
            self._await(parcel)
        self._tell_set_aside()

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
        self._log.info(
            "update.sent",
            round=parcel.offer.round,
            sha256=parcel.offer.sha256,
            examples=parcel.offer.examples,
            bytes=parcel.offer.size,
            loss=round(parcel.offer.loss, 5),
        )
        self._await(parcel)
        if not self._occupied(parcel.offer.sha256):
            self._offer(parcel, again=False)

    def _offer(self, parcel: Parcel, *, again: bool) -> None:
        if self._signatures.lacks(parcel.offer):
            return  # it stays due
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

    def _settle(self, digest: str, verdict: Verdict) -> None:
        if self._busy() or self._unsaved is not None:
            # The next residual is made from this one already: what was changed now would be lost.
            self._verdicts[digest] = verdict
            self._due[digest] = math.inf
            return
        if verdict == "clear":
            self.residual.clear(digest)
        elif (parcel := self._outbox.get(digest)) is not None:
            self.residual.settle(parcel, included=verdict == "forget")
        self._outbox.take(digest)
        self._forget(digest)

    def _await(self, parcel: Parcel) -> None:
        offer = parcel.offer
        self._due[offer.sha256], self._sizes[offer.sha256] = -math.inf, offer.size
        # Not the newest round: a coordinator restored from a backup opens older ones again.
        self.latest = offer.round, offer.base

    def _tell_set_aside(self) -> None:
        if self.residual.set_aside is not None:
            self._log.error("residual.set_aside", path=str(self.residual.set_aside))
            self.residual.set_aside = None
        while self._outbox.set_aside:
            path = self._outbox.set_aside.pop(0)
            self._log.error("update.set_aside", path=str(path))

    def _forget(self, digest: str) -> None:
        self._due.pop(digest, None)
        self._sizes.pop(digest, None)
        self._signatures.forget(digest)
        self._drop_frame(digest)

    def _drop_frame(self, digest: str) -> None:
        if self._frame[0] == digest:
            self._frame = "", b""


def _verdict(receipt: Receipt) -> Verdict:
    """What a final receipt means for the residual."""
    if receipt.fate == "late" and receipt.code != Reason.ABANDONED:
        return "add back"
    if receipt.fate == "refused" and receipt.code in UNFIT:
        return "clear"
    # Refused, or used in a round that came to nothing: sent again, it might spoil the next one.
    return "forget"
