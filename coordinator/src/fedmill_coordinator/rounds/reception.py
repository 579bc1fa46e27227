# SPDX-License-Identifier: Apache-2.0
"""Takes in updates: blocks, checks, durable storage, and the receipt that says so."""

import numpy as np
from numpy.typing import NDArray

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.clock import Clock
from fedmill_shared.codec.frame import decode_frame, prefix
from fedmill_shared.errors import FedmillError, FrameError
from fedmill_shared.link.blocks import Assembler, Block
from fedmill_shared.messages import Fate, Receipt, UpdateOffer

UPDATE_SLACK = 65_536
"""Bytes an update may have beyond its raw float32 size."""


LARGEST_CHANGE = 1e6
"""No honest weight moves this far in a round; a few such updates would end the job for everyone."""


class Reception:
    """Owns the half-arrived updates of one job."""

    def __init__(self, job: str, store: Store, blobs: Blobs, clock: Clock) -> None:
        """A reception that expects nothing."""
        self._job = job
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._assemblers: dict[str, Assembler] = {}
        self._offers: dict[tuple[str, str], UpdateOffer] = {}

    def offer(
        self, agent: str, offer: UpdateOffer, current: RoundRecord | None, elements: int
    ) -> Receipt | None:
        """Prepare for the blocks of ``offer``; a receipt if there is nothing to wait for."""
        known = self._known(agent, offer)
        if known is not None:
            return known
        if offer.size > 4 * elements + UPDATE_SLACK:
            return receipt_for(offer, "refused", f"{offer.size} bytes are too many for this model")
        is_current = current is not None and current.round == offer.round
        asked = current if is_current else self._store.round(self._job, offer.round)
        if asked is None:
            return receipt_for(offer, "refused", f"round {offer.round} has not been opened")
        if offer.base != asked.base:
            return receipt_for(
                offer, "refused", f"round {offer.round} starts from {asked.base[:12]}"
            )
        assembler = self._assemblers.setdefault(agent, Assembler())
        for waiting_agent, digest in list(self._offers):
            if waiting_agent == agent and digest != offer.sha256:  # one update at a time
                self._forget(agent, digest)
        assembler.expect(offer.sha256, offer.size)
        self._offers[agent, offer.sha256] = offer
        return None

    def expects(self, agent: str, blob: str) -> bool:
        """Whether ``blob`` is an update that ``agent`` has announced and not sent whole."""
        return (agent, blob) in self._offers

    def block(
        self, agent: str, block: Block, current: RoundRecord | None, elements: int, schema: str
    ) -> Receipt | None:
        """Take one block; the receipt once the update is whole and durable, or refused."""
        offer = self._offers.get((agent, block.blob))
        if offer is None:
            return None
        if block.size != offer.size:
            self._forget(agent, block.blob)
            reason = f"update: {block.size} bytes came, {offer.size} were announced"
            return receipt_for(offer, "refused", reason)
        try:
            frame = self._assemblers[agent].add(block)
        except FrameError as error:
            self._forget(agent, block.blob)
            return receipt_for(offer, "refused", str(error))
        if frame is None:
            return None
        self._forget(agent, block.blob)
        try:
            check_update(frame, offer, elements, schema)
        except FedmillError as error:
            return receipt_for(offer, "refused", str(error))
        return self._keep(agent, offer, frame, current)

    def _keep(
        self, agent: str, offer: UpdateOffer, frame: bytes, current: RoundRecord | None
    ) -> Receipt:
        in_time = (
            current is not None and current.round == offer.round and current.base == offer.base
        )
        record = UpdateRecord(
            job=self._job,
            round=offer.round,
            agent=agent,
            base=offer.base,
            blob=self._blobs.put(frame) if in_time else offer.sha256,
            sha256=offer.sha256,
            examples=offer.examples,
            loss=offer.loss,
            wire_bytes=len(frame),
            seconds=offer.seconds,
            received_ns=self._clock.now_ns(),
            state="received" if in_time else "late",
            reason="" if in_time else "the round was closed",
        )
        self._store.add_update(record)
        return receipt_for(offer, record.state, record.reason)

    def _forget(self, agent: str, blob: str) -> None:
        del self._offers[agent, blob]
        self._assemblers[agent].forget(blob)

    def _known(self, agent: str, offer: UpdateOffer) -> Receipt | None:
        for update in self._store.updates(self._job, offer.round):
            if (update.agent, update.base) != (agent, offer.base):
                continue
            if update.sha256 == offer.sha256:
                return receipt_for(offer, update.state, update.reason)
            return receipt_for(
                offer, "refused", f"another update for round {offer.round} came first, and counts"
            )
        return None


def check_update(
    frame: bytes, offer: UpdateOffer, elements: int, schema: str
) -> NDArray[np.float32]:
    """The delta (elements,) in ``frame``, if it is what ``offer`` says.

    Raises:
        FrameError: truncated, corrupt, foreign, or made for another round, base or layout.
    """
    header, delta = decode_frame(frame, elements=elements)
    claims = {
        "content": (header.content, "delta"),
        "round": (header.round, offer.round),
        "base": (header.base, prefix(offer.base)),
        "schema": (header.schema, prefix(schema)),
        "examples": (header.examples, offer.examples),
    }
    for field, (found, wanted) in claims.items():
        if found != wanted:
            raise FrameError(f"update: {field} is {found!r} in the frame, {wanted!r} was announced")
    if offer.examples == 0:
        raise FrameError("update: made from no training window")
    largest = float(np.abs(delta).max(initial=0.0))
    if largest > LARGEST_CHANGE:
        raise FrameError(
            f"update: a weight changes by {largest:.3g}, at most {LARGEST_CHANGE:g} is plausible",
            remedy="training diverged on the agent; look at its data and its learning rate",
        )
    return delta


def receipt_for(offer: UpdateOffer, fate: Fate, reason: str = "") -> Receipt:
    """The receipt of the update that ``offer`` announced."""
    return Receipt(
        job=offer.job, round=offer.round, sha256=offer.sha256, fate=fate, reason=reason[:2000]
    )
