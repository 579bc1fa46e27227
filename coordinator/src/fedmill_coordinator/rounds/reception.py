# SPDX-License-Identifier: Apache-2.0
"""Takes in updates: offers, blocks, checks, durable storage, and the receipt that says so."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec import json, structs

from fedmill_coordinator.pki.limits import Seldom
from fedmill_coordinator.rounds.admission import (
    Fault,
    Standing,
    check_offer,
    inspect_frame,
    receipt_for,
    staleness_fault,
)
from fedmill_coordinator.rounds.provenance import Provenance
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, Block, block_count
from fedmill_shared.link.pull import Pull
from fedmill_shared.link.spool import Spool
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobRequest, Reason, Receipt, UpdateOffer, Wait
from fedmill_shared.protocol import OLDEST
from fedmill_shared.seeds import seed_for

LARGE_AT_ONCE = 16
"""Updates of more than one window of blocks that may be on their way at the same time."""
OFFERS_PER_AGENT = 4
PATIENT_ASKS = 5
"""Windows in a row that may stay unanswered before the agent has to offer again."""
WHOLE_TRIES = 3
"""Times that the blocks of an update may come without making what was announced."""
RETRY_SECONDS = 2.0
ABANDONED_NS = 7 * 86_400 * 10**9
"""So long after its last block an update in parts is kept for an agent that stays away."""


@dataclass(frozen=True, slots=True)
class Again:
    """The answer to an update that was taken down before: what has become of it."""

    receipt: Receipt


Answer = Receipt | Again | BlobRequest | Wait


@dataclass(slots=True)
class _Arriving:
    offer: UpdateOffer
    pull: Pull
    began: float
    resumed_bytes: int
    damaged: int = 0

    @property
    def large(self) -> bool:
        return block_count(self.offer.size) > TRANSFER_WINDOW


class Reception:
    """Owns the half-arrived updates of one job; they survive a restart on disk."""

    def __init__(
        self,
        job: str,
        folder: Path,
        *,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        log: Logger,
        signed: bool = False,
    ) -> None:
        """Expect nothing yet; ``folder`` is for what has arrived in part.

        Only ``signed`` updates are taken where that is wanted.
        """
        self._job = job
        self._store = store
        self._blobs = blobs
        self._folder = folder
        self._clock = clock
        self._log = log
        self._damage = Seldom(clock)
        self._provenance = Provenance(store, log, required=signed)
        self._spools: dict[str, Spool] = {}
        self._arriving: dict[str, dict[str, _Arriving]] = {}

    def offer(self, agent: str, offer: UpdateOffer, standing: Standing) -> Answer | None:
        """Prepare for ``offer``; what to answer at once, None if its blocks are on their way."""
        stored = self._store.update(self._job, offer.round, agent, offer.base)
        if stored is not None and stored.sha256 == offer.sha256:
            return Again(receipt_for(offer, stored.state, (stored.code, stored.reason)))
        asked = self._store.round(self._job, offer.round)
        # What is forged must not count as the one that came first, nor as anything else.
        fault = self._provenance.fault(agent, offer, standing.layout) or _superseded(stored)
        fault = fault or check_offer(offer, asked, standing)
        if fault is not None:
            return receipt_for(offer, "refused", fault)
        late = staleness_fault(agent, offer, asked, standing)
        if late is not None:
            return self._note_late(agent, offer, late)
        mine = self._arriving.setdefault(agent, {})
        if offer.sha256 not in mine and self._busy(offer):
            return _wait(agent, offer)
        return self._expect(agent, offer, mine, standing)

    def expects(self, agent: str, blob: str) -> bool:
        """Whether ``blob`` is an update that ``agent`` has announced and not sent whole."""
        return blob in self._arriving.get(agent, ())

    def block(self, agent: str, block: Block, standing: Standing) -> Answer | None:
        """Take one block; what to answer to it.

        Raises:
            StoreError: the disk fails; the block is asked for again.
        """
        arriving = self._arriving.get(agent, {}).get(block.blob)
        if arriving is None:
            return None
        offer, now = arriving.offer, self._clock.monotonic()
        if block.size != offer.size:
            self._forget(agent, block.blob)
            reason = f"update: {block.size} bytes came, {offer.size} were announced"
            return receipt_for(offer, "refused", (Reason.DAMAGED, reason))
        spool = self._spool(agent)
        more = arriving.pull.arrived(block.index, now)
        try:
            whole = spool.add(block)
        except FrameError as error:
            # A disk may have lost what a restart found there; the agent's copy may be whole.
            arriving.damaged += 1
            self._damage.tell(agent, partial(self._tell_damage, agent, offer, error))
            if arriving.damaged < WHOLE_TRIES:
                return self._request(agent, arriving, now)
            self._forget(agent, block.blob)
            return receipt_for(offer, "refused", (Reason.DAMAGED, str(error)))
        if whole:
            return self._complete(agent, arriving, standing)
        return self._request(agent, arriving, now) if more else None

    def tick(self, online: Collection[str]) -> Iterator[tuple[str, BlobRequest]]:
        """Requests for blocks that agents which are ``online`` seem to have sent in vain."""
        now = self._clock.monotonic()
        for agent, mine in self._arriving.items():
            if agent not in online:
                continue
            for arriving in mine.values():
                if not arriving.pull.silent(now) or arriving.pull.unanswered >= PATIENT_ASKS:
                    continue
                request = self._request(agent, arriving, now)
                if request is not None:
                    yield agent, request

    def tidy(self) -> None:
        """Remove what has arrived in part of updates that nobody offers any more.

        An agent that is away, perhaps since before a restart, has a week to come back to it.
        """
        for agent, spool in self._spools.items():
            spool.keep(self._arriving.get(agent, {}).keys())
        if not self._spools:  # nothing was ever taken in since the start
            return
        oldest = self._clock.now_ns() - ABANDONED_NS
        for folder in self._folder.iterdir():
            if folder.name not in self._spools and folder.stat().st_mtime_ns < oldest:
                Spool(folder).keep(())
                folder.rmdir()

    def _expect(
        self, agent: str, offer: UpdateOffer, mine: dict[str, _Arriving], standing: Standing
    ) -> Answer | None:
        now, spool = self._clock.monotonic(), self._spool(agent)
        while offer.sha256 not in mine and len(mine) >= OFFERS_PER_AGENT:
            self._forget(agent, next(iter(mine)))
        spool.expect(offer.sha256, offer.size)
        arriving = mine.get(offer.sha256)
        if arriving is None:
            arriving = _Arriving(offer, Pull(now), now, spool.arrived(offer.sha256))
        arriving.offer = offer
        mine[offer.sha256] = arriving
        arriving.pull.unanswered = 0
        if not spool.missing(offer.sha256, 1):  # the disk failed to keep what is whole
            return self._complete(agent, arriving, standing)
        if offer.protocol > OLDEST and offer.offered_again:
            return self._request(agent, arriving, now)
        # The first window comes without being asked for; all of it from software of protocol 1.
        arriving.pull.ask(range(block_count(offer.size)), now)
        return None

    def _request(self, agent: str, arriving: _Arriving, now: float) -> BlobRequest | None:
        """What is missing; None if nothing is, or software of protocol 1 sends it unasked."""
        blob = arriving.offer.sha256
        missing = self._spool(agent).missing(blob, TRANSFER_WINDOW)
        if not missing or arriving.offer.protocol <= OLDEST:
            return None
        return BlobRequest(job=self._job, blob=blob, missing=arriving.pull.ask(missing, now))

    def _complete(self, agent: str, arriving: _Arriving, standing: Standing) -> Receipt:
        offer = arriving.offer
        path = self._spool(agent).path(offer.sha256)
        try:
            frame = path.read_bytes()
        except OSError as error:
            self._forget(agent, offer.sha256)
            raise StoreError(
                f"{path}: cannot be read: {error.strerror or error}",
                remedy="check the disk; the agent sends the update once more",
            ) from error
        fault, norm = inspect_frame(frame, offer, standing)
        # The key may have been revoked while the blocks were on their way.
        fault = fault or self._provenance.fault(agent, offer, standing.layout)
        if fault is not None:
            self._forget(agent, offer.sha256)
            return receipt_for(offer, "refused", fault)
        return self._keep(agent, arriving, standing, norm)

    def _keep(self, agent: str, arriving: _Arriving, standing: Standing, norm: float) -> Receipt:
        offer = arriving.offer
        # The round may have closed, and others after it, while the blocks were on their way.
        late = staleness_fault(agent, offer, self._store.round(self._job, offer.round), standing)
        if late is not None:
            self._forget(agent, offer.sha256)
            return self._note_late(agent, offer, late)
        self._blobs.adopt(self._spool(agent).path(offer.sha256), offer.sha256)
        self._forget(agent, offer.sha256)
        self._store.add_update(structs.replace(self._record(agent, offer), norm=norm))
        self._log.debug(
            "update.received",
            agent=agent,
            round=offer.round,
            staleness=standing.round - offer.round,
            bytes=offer.size,
            seconds=round(self._clock.monotonic() - arriving.began, 3),
            resumed_bytes=arriving.resumed_bytes,
        )
        return receipt_for(offer, "received")

    def _tell_damage(self, agent: str, offer: UpdateOffer, error: FrameError, times: int) -> None:
        self._log.warning(
            "block.refused", agent=agent, round=offer.round, times=times, error=str(error)
        )

    def _note_late(self, agent: str, offer: UpdateOffer, late: Fault) -> Receipt:
        code, reason = late
        late_one = structs.replace(
            self._record(agent, offer), state="late", code=str(code), reason=reason
        )
        self._store.add_update(late_one)
        return receipt_for(offer, "late", late)

    def _record(self, agent: str, offer: UpdateOffer) -> UpdateRecord:
        return UpdateRecord(
            job=self._job,
            round=offer.round,
            agent=agent,
            base=offer.base,
            blob=offer.sha256,
            sha256=offer.sha256,
            examples=offer.examples,
            loss=offer.loss,
            wire_bytes=offer.size,
            seconds=offer.seconds,
            received_ns=self._clock.now_ns(),
            steps=offer.steps,
            shift=json.encode(offer.shift).decode(),
            key=offer.key,
            origin=offer.origin,
            signature=offer.signature,
        )

    def _busy(self, offer: UpdateOffer) -> bool:
        # Software of protocol 1 sends at once, and knows no other answer than a receipt.
        if block_count(offer.size) <= TRANSFER_WINDOW or offer.protocol <= OLDEST:
            return False
        now = self._clock.monotonic()
        moving = [a for mine in self._arriving.values() for a in mine.values() if a.large]
        return sum(not arriving.pull.silent(now) for arriving in moving) >= LARGE_AT_ONCE

    def _spool(self, agent: str) -> Spool:
        if agent not in self._spools:
            self._spools[agent] = Spool(self._folder / agent)
        return self._spools[agent]

    def _forget(self, agent: str, blob: str) -> None:
        del self._arriving[agent][blob]
        self._spool(agent).forget(blob)


def _superseded(stored: UpdateRecord | None) -> Fault | None:
    if stored is None:
        return None
    reason = f"another update for round {stored.round} came first, and counts"
    return Reason.SUPERSEDED, reason


def _wait(agent: str, offer: UpdateOffer) -> Wait:
    """Come back later; not all at the same time."""
    share = seed_for(agent, offer.sha256) % 1000 / 1000
    return Wait(job=offer.job, sha256=offer.sha256, retry_after=RETRY_SECONDS * (1 + share))
