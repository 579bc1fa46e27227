# SPDX-License-Identifier: Apache-2.0
"""Who made an update: its label of origin, held against the certificates of the agent it is from.

Which of them counts is not a matter of time: an update may wait in its agent's outbox while the
agent gets a new certificate, and a label can be looked at years later. A revoked one never counts.
"""

from collections.abc import Sequence

from msgspec import json

from fedmill_coordinator.rounds.admission import Fault
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.crypto.keys import key_id
from fedmill_shared.crypto.origin import verify_origin
from fedmill_shared.errors import TrustError
from fedmill_shared.log import Logger
from fedmill_shared.messages import Reason, UpdateOffer
from fedmill_shared.messages.origin import Origin


class Provenance:
    """Tells whether offers of one job are their agents' own."""

    def __init__(self, store: Store, log: Logger, *, required: bool) -> None:
        """Where signatures are not ``required``, whatever comes is taken for what it says."""
        self._store = store
        self._log = log
        self._required = required

    def fault(self, agent: str, offer: UpdateOffer, layout: str) -> Fault | None:
        """Why ``offer`` is not one of ``agent`` for the model with this ``layout``; None if it is.

        Raises:
            StoreError: the disk fails.
        """
        if not self._required:
            return None
        fault = self._judge(agent, offer, layout)
        if fault is not None and fault[0] in (Reason.UNSIGNED, Reason.FORGED):
            self._log.warning(
                "update.forged" if fault[0] == Reason.FORGED else "update.unsigned",
                agent=agent,
                round=offer.round,
                sha256=offer.sha256,
                error=fault[1],
            )
        return fault

    def _judge(self, agent: str, offer: UpdateOffer, layout: str) -> Fault | None:
        if not offer.signature:
            return Reason.UNSIGNED, "update: it has no signature, and this coordinator wants one"
        try:
            origin = verify_origin(offer, agent, keys_of(self._store.certificates(agent)))
        except TrustError as error:
            return Reason.FORGED, f"update: {error.message}"
        if origin.schema != layout:
            told = f"update: made for another model, {origin.schema[:12]} for {layout[:12]}"
            return Reason.WRONG_SCHEMA, told
        return None


def keys_of(certificates: Sequence[CertificateRecord]) -> list[bytes]:
    """Public keys that an agent with these certificates may sign with."""
    return [each.public_key for each in certificates if is_valid(each)]


def is_valid(certificate: CertificateRecord) -> bool:
    """Whether what is signed with the key of ``certificate`` counts."""
    return certificate.role == "agent" and not certificate.revoked_ns


def certificate_of(key: str, certificates: Sequence[CertificateRecord]) -> CertificateRecord | None:
    """The one among ``certificates`` with the key of this short name."""
    return next((each for each in certificates if key_id(each.public_key) == key), None)


def verify_record(update: UpdateRecord, certificates: Sequence[CertificateRecord]) -> Origin:
    """The label of origin of a stored update, held against its row once more.

    Args:
        update: as it is stored.
        certificates: of its agent.

    Raises:
        TrustError: it has none, or that is not of this agent and update.
    """
    if not update.signature:
        raise TrustError("it has no signature", remedy="it came while none were asked for")
    return verify_origin(_offer(update), update.agent, keys_of(certificates))


def _offer(update: UpdateRecord) -> UpdateOffer:
    """The offer that ``update`` came with."""
    return UpdateOffer(
        job=update.job,
        round=update.round,
        base=update.base,
        sha256=update.sha256,
        size=update.wire_bytes,
        examples=update.examples,
        loss=update.loss,
        seconds=update.seconds,
        steps=update.steps,
        shift=json.decode(update.shift, type=dict[str, tuple[float, float]]),
        key=update.key,
        origin=update.origin,
        signature=update.signature,
    )
