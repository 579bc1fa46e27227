# SPDX-License-Identifier: Apache-2.0
"""Updates that wait for their signature: an agent that has an identity sends none without."""

import math
from collections.abc import Callable

from msgspec import structs

from fedmill_agent.training.protocol import Signed
from fedmill_shared.clock import Clock
from fedmill_shared.link.outbox import Parcel
from fedmill_shared.log import Logger
from fedmill_shared.messages import UpdateOffer

AGAIN_SECONDS = 30.0
"""How long after an update could not be signed that is tried again."""


class Signatures:
    """Has the training process sign what it could not sign when that was made."""

    def __init__(
        self,
        identity: Callable[[], str],
        ask: Callable[[UpdateOffer, str], None],
        clock: Clock,
        log: Logger,
    ) -> None:
        """``identity`` names the file with the key, empty for none; ``ask`` has an offer signed."""
        self._identity = identity
        self._ask = ask
        self._clock = clock
        self._log = log
        self._due: dict[str, float] = {}
        self._told = False

    def holds(self, sha256: str) -> bool:
        """Whether an update lacks a signature, and need not be looked at yet."""
        return self._clock.monotonic() < self._due.get(sha256, -math.inf)

    def lacks(self, offer: UpdateOffer) -> bool:
        """Whether ``offer`` must be signed before it goes out; if so, that is asked for."""
        identity = self._identity()
        if not identity or offer.signature:
            return False
        if not self.holds(offer.sha256):
            self._due[offer.sha256] = math.inf
            self._ask(offer, identity)
        return True

    def made(self, parcel: Parcel, signed: Signed) -> Parcel:
        """``parcel`` with the signature that was asked for."""
        self.forget(signed.sha256)
        self._told = False
        self._log.info("update.signed", round=parcel.offer.round, key=signed.key)
        offer = structs.replace(
            parcel.offer, key=signed.key, origin=signed.origin, signature=signed.signature
        )
        return structs.replace(parcel, offer=offer)

    def failed(self, sha256: str, why: str) -> None:
        """It could not be signed: the update waits, nothing is lost, and it is told once."""
        self._due[sha256] = self._clock.monotonic() + AGAIN_SECONDS
        if why and not self._told:
            self._told = True
            self._log.error("update.unsigned", sha256=sha256, error=why)

    def forget(self, sha256: str) -> None:
        """This update is gone, or needs nothing any more."""
        self._due.pop(sha256, None)
