# SPDX-License-Identifier: Apache-2.0
"""What the broker lets us do, tried after each connection with a certificate.

An ACL file never refuses a subscription, and one that is missing refuses nothing at all, so both
are found out by doing: what must be allowed is, and what must be refused is.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal

from msgspec import Struct

from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Link, Rejection
from fedmill_shared.log import Logger

Answer = Literal["", "granted", "refused"]
REMEDY = "give the listener the acl_file of fedmill: everybody may write everything"
CLOSED_REMEDY = "let its acl_file have each write below its own name; see docs/broker.md"


def fresh_nonce() -> bytes:
    """16 random bytes."""
    return os.urandom(16)


class RightsTold(Struct, frozen=True, kw_only=True):
    """What is known since the last connection.

    Attributes:
        own: of a message on a topic that is ours; empty before the broker has answered.
        foreign: of one on a topic that is nobody's, which must be refused.
        echoed: whether the other side has answered.
    """

    own: Answer = ""
    foreign: Answer = ""
    echoed: bool = False

    @property
    def complete(self) -> bool:
        """Whether the broker has answered."""
        return bool(self.own and self.foreign)

    @property
    def words(self) -> str:
        """What is known, for people."""
        said = f"own topics {self.own or 'unanswered'}, those of others "
        return said + (self.foreign or "unanswered")

    @property
    def trouble(self) -> str:
        """What is wrong, for people; empty while nothing is."""
        if self.foreign == "granted":
            return "the broker is open: it lets us write topics of others"
        return "the broker refuses us our own topics" if self.own == "refused" else ""

    @property
    def remedy(self) -> str:
        """What to do about the trouble; empty where there is none."""
        if not self.trouble:
            return ""
        return REMEDY if self.foreign == "granted" else CLOSED_REMEDY


class Rights:
    """Owns what was tried. The broker's answers come on the link's thread."""

    def __init__(
        self, own: str, foreign: str, log: Logger | None, nonce: Callable[[], bytes]
    ) -> None:
        """Nothing is tried yet.

        Args:
            own: a topic that we may write.
            foreign: one that we may not.
            log: where is told what came of it, if anywhere.
            nonce: draws what is asked back.
        """
        self._topics = own, foreign
        self._log = log
        self._draw = nonce
        self._nonce = self._payload = b""
        self._lock = threading.Lock()
        self.told = RightsTold()

    def test(self, link: Link, word: Callable[[bytes], bytes]) -> None:
        """Write both topics over ``link``; ``word`` makes a message of a nonce."""
        own, foreign = self._topics
        self._nonce, self.told = self._draw(), RightsTold()
        payload = self._payload = word(self._nonce)
        with suppress(BrokerError):  # the queue is full: the next connection tries again
            link.publish(own, payload, done=partial(self._own, self._nonce))
            link.publish(foreign, payload, done=partial(self._foreign, self._nonce))

    def ask(self, link: Link) -> None:
        """Say our word again, for the other side was not there."""
        with suppress(BrokerError):
            link.publish(self._topics[0], self._payload)

    def answer(self, nonce: bytes) -> None:
        """The other side has said ``nonce``."""
        if nonce == self._nonce:
            self._know(echoed=True)

    def _own(self, nonce: bytes, rejection: Rejection | None) -> None:
        if nonce != self._nonce:
            return
        self._know(own="granted" if rejection is None else "refused")
        if rejection is not None and self._log is not None:
            self._log.error(
                "broker.closed",
                topic=rejection.topic,
                reason=rejection.reason,
                remedy=rejection.remedy,
            )

    def _foreign(self, nonce: bytes, rejection: Rejection | None) -> None:
        if nonce != self._nonce:
            return
        self._know(foreign="granted" if rejection is None else "refused")
        if self._log is None:
            return
        if rejection is None:
            self._log.error("broker.open", topic=self._topics[1], remedy=REMEDY)
        else:
            self._log.info("broker.tested", own=self.told.own, foreign=self.told.foreign)

    def _know(self, *, own: Answer = "", foreign: Answer = "", echoed: bool = False) -> None:
        with self._lock:
            told = self.told
            self.told = RightsTold(
                own=own or told.own, foreign=foreign or told.foreign, echoed=echoed or told.echoed
            )
