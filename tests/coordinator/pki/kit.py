# SPDX-License-Identifier: Apache-2.0
"""A coordinator's authority with everything that it needs, and boxes that ask it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedmill_coordinator.pki.authority import Authority
from fedmill_coordinator.pki.desk import IdentityDesk
from fedmill_coordinator.pki.enrolling import open_enrolment
from fedmill_coordinator.pki.register import Register
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.crypto.certificates import make_request
from fedmill_shared.crypto.codes import EnrolmentCode, prove, sign_renewal
from fedmill_shared.crypto.keys import key_id, make_key, public_bytes
from fedmill_shared.messages import (
    EnrolmentAnswer,
    EnrolmentRequest,
    RenewalAnswer,
    RenewalRequest,
)

SECOND_NS = 10**9
HOUR, DAY = 3600, 86_400


class Notes:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.changes: list[tuple[str, str, str]] = []
        self.failure: Exception | None = None

    def record(
        self, *, who: str, what: str, subject: str, before: str = "", after: str = ""
    ) -> None:
        """Keep it, or fail as told."""
        if self.failure is not None:
            raise self.failure
        self.lines.append((who, what, subject))
        self.changes.append((what, before, after))


@dataclass
class Box:
    """A gateway: its key stays with it."""

    agent: str
    code: EnrolmentCode | None = None
    key: Ed25519PrivateKey = field(default_factory=make_key)

    @property
    def csr(self) -> bytes:
        """Its request."""
        return make_request(self.key, self.agent)

    def request(self, **changes: Any) -> EnrolmentRequest:
        """What it sends; ``changes`` are what somebody else made of it."""
        assert self.code is not None
        proof = prove(self.code, self.agent, self.csr)
        fields = {"agent": self.agent, "csr": self.csr, "proof": proof, "software": "0.7.0"}
        return EnrolmentRequest(**{**fields, **changes})

    def renewal(self, following: "Box", **changes: Any) -> RenewalRequest:
        """What it sends to go on with the key of the box ``following``."""
        fields = {
            "csr": following.csr,
            "key": key_id(public_bytes(self.key)),
            "signature": sign_renewal(self.key, self.agent, following.csr),
        }
        return RenewalRequest(**{**fields, **changes})


class Office:
    """The coordinator's side."""

    def __init__(self, folder: Path, store: Store | None = None, days: int = 90) -> None:
        self.clock = ManualClock()
        self.store = store or MemoryStore()
        self.notes = Notes()
        self.crl = folder / "pki" / "crl.pem"
        self.authority = Authority.make("Plant CA", self.clock.now_ns())
        self.register = Register(self.authority, self.store, self.clock, days=days, crl=self.crl)
        self.log = structlog.get_logger()
        self.desk = IdentityDesk(self.register, self.store, self.clock, self.notes, self.log)

    def box(self, agent: str = "gw7", *, hours: float = 24, confirm: bool = False) -> Box:
        """A box to which a new code was carried."""
        opened = open_enrolment(
            agent,
            self.authority.pem,
            now_ns=self.clock.now_ns(),
            ttl_ns=round(hours * HOUR) * SECOND_NS,
            confirm=confirm,
            by="anna",
        )
        self.store.add_enrolment(opened.record)
        return Box(agent, opened.code)

    def enrolled(self, agent: str = "gw7") -> Box:
        """A box that has its certificate."""
        box = self.box(agent)
        assert self.enrol(box).state == "issued"
        return box

    def enrol(self, box: Box, **changes: Any) -> EnrolmentAnswer:
        """``box`` asks."""
        return self.desk.enrol(box.request(**changes))

    def renew(self, box: Box, following: Box, **changes: Any) -> RenewalAnswer:
        """``box`` asks for its next certificate."""
        return self.desk.renew(box.agent, box.renewal(following, **changes))

    def state(self, agent: str = "gw7") -> str:
        """How the newest code of ``agent`` stands."""
        return self.store.enrolments(agent)[-1].state

    def events(self) -> list[str]:
        """What was noted in the audit log."""
        return [what for _, what, _ in self.notes.lines]
