# SPDX-License-Identifier: Apache-2.0
"""Where boxes come for a certificate: the first one with a code, later ones with the one before.

Whatever is asked twice is answered alike, so that an answer that was lost, or a coordinator that
was killed, costs nothing but asking again. Strangers learn nothing of who may enrol.
"""

from msgspec import structs

from fedmill_coordinator.pki.register import Register
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_pki import (
    CertificateRecord,
    EnrolmentRecord,
    EnrolmentState,
)
from fedmill_shared.audit import DAEMON, Audit
from fedmill_shared.clock import Clock
from fedmill_shared.crypto.certificates import read_request
from fedmill_shared.crypto.codes import check_proof, check_renewal
from fedmill_shared.crypto.keys import key_id
from fedmill_shared.errors import AuditError, IdentityError, StoreError, TrustError
from fedmill_shared.files import sha256
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    EnrolmentAnswer,
    EnrolmentRequest,
    RenewalAnswer,
    RenewalRequest,
)

PENDING_SECONDS = 10.0
RENEWAL_GAP_SECONDS = 3600.0
"""Between two certificates of an agent: enough for whatever went wrong, too little for a flood."""
MOST_CODES = 16
"""Codes of one agent, the newest, that a proof is held against."""
NO_CODE = "this code is not, or no longer, good for this agent"
_NOBODY = bytes(32)
_OVER: dict[EnrolmentState, str] = {
    "rejected": "the request was rejected",
    "replaced": "a later code took the place of this one",
    "expired": "the code has run out",
}


class IdentityDesk:
    """Answers requests for certificates."""

    def __init__(
        self, register: Register, store: Store, clock: Clock, audit: Audit, log: Logger
    ) -> None:
        """Issue from ``register``, and note it in ``audit`` before."""
        self._register = register
        self._store = store
        self._clock = clock
        self._audit = audit
        self._log = log

    def enrol(self, request: EnrolmentRequest) -> EnrolmentAnswer:
        """What is answered to a box that asks with a code.

        Raises:
            StoreError: the disk fails, or the audit log is damaged; nothing has changed, and the
                box asks again.
        """
        try:
            self._register.check_name(request.agent)
            enrolment = self._proven(request)
            return self._answer(enrolment, request, _key_in(request.csr, request.agent))
        except (IdentityError, TrustError) as error:
            self._log.warning("enrolment.refused", agent=request.agent, error=error.message)
            return EnrolmentAnswer(
                state="refused", reason=error.message, sent_ns=self._clock.now_ns()
            )

    def renew(self, agent: str, request: RenewalRequest) -> RenewalAnswer:
        """What is answered to an agent that asks for its next certificate.

        Raises:
            StoreError: the disk fails, or the audit log is damaged; nothing has changed, and the
                agent asks again.
        """
        now = self._clock.now_ns()
        try:
            self._register.check_name(agent)
            known = [each for each in self._store.certificates(agent) if each.role == "agent"]
            current = self._check_renewal(agent, request, known, now)
            answered = [each for each in known if _answers(each, request.csr, now)]
            if answered:
                return self._renewed(answered[-1])
            early = self._early(known, now)
            if early > 0:
                reason = "the last certificate is too new"
                return RenewalAnswer(state="pending", reason=reason, retry_after=early, sent_ns=now)
            record = self._next(agent, request, known, now)
        except (IdentityError, TrustError) as error:
            self._log.warning("certificate.refused", agent=agent, error=error.message)
            return RenewalAnswer(state="refused", reason=error.message, sent_ns=now)
        self._note(record, "certificate.renewed", before=current.serial)
        self._store.add_certificate(record, follows=current.serial)
        self._log.info("certificate.renewed", **_told(record))
        return self._renewed(record)

    def _proven(self, request: EnrolmentRequest) -> EnrolmentRecord:
        """The leave whose code was used for ``request``."""
        enrolments = self._store.enrolments(request.agent)[-MOST_CODES:]
        found = [each for each in enrolments if _proves(request, each.proof)]
        if not enrolments:
            _proves(request, _NOBODY)  # takes as long as for an agent that is expected
        if not found:
            raise IdentityError(NO_CODE)
        return found[-1]

    def _answer(
        self, enrolment: EnrolmentRecord, request: EnrolmentRequest, public: bytes
    ) -> EnrolmentAnswer:
        """What becomes of a request that was proven to come with the code of ``enrolment``."""
        now = self._clock.now_ns()
        if enrolment.request and enrolment.request != request.csr:
            self._log.warning("enrolment.replayed", agent=request.agent)
            raise IdentityError("the code was used before, with another request")
        match enrolment.state:
            case "issued":
                return self._again(enrolment)
            case "rejected" | "replaced" | "expired" as over:
                raise IdentityError(_OVER[over])
            case "open" if now >= enrolment.expires_ns:
                self._record(DAEMON, "enrolment.expired", enrolment.agent, "open", "expired")
                self._store.save_enrolment(self._moved(enrolment, "expired", now))
                raise IdentityError(_OVER["expired"])
            case "open" if enrolment.confirm:
                self._wait(self._moved(enrolment, "pending", now, request))
            case "open" | "accepted":
                return self._issue(self._moved(enrolment, "issued", now, request), public)
            case "pending":
                pass
        reason = "it waits until somebody accepts it with `fedmill enrol accept`"
        return EnrolmentAnswer(
            state="pending", reason=reason, retry_after=PENDING_SECONDS, sent_ns=now
        )

    def _moved(
        self,
        enrolment: EnrolmentRecord,
        state: EnrolmentState,
        now: int,
        request: EnrolmentRequest | None = None,
    ) -> EnrolmentRecord:
        moved = structs.replace(enrolment, state=state, settled_ns=now)
        if request is None:
            return moved
        return structs.replace(moved, request=request.csr, software=request.software)

    def _wait(self, enrolment: EnrolmentRecord) -> None:
        agent, request = enrolment.agent, sha256(enrolment.request)[:16]
        self._record(f"agent {agent}", "enrolment.requested", agent, "open", f"pending {request}")
        self._store.save_enrolment(enrolment)
        self._log.warning("enrolment.pending", agent=agent, request=request)

    def _issue(self, enrolment: EnrolmentRecord, public: bytes) -> EnrolmentAnswer:
        record = self._register.agent(enrolment.agent, public, enrolment.request)
        self._note(record, "certificate.issued", enrolment.settled_by or enrolment.by)
        self._store.save_enrolment(structs.replace(enrolment, serial=record.serial), record)
        self._log.info("certificate.issued", **_told(record))
        return self._enrolled(record)

    def _again(self, enrolment: EnrolmentRecord) -> EnrolmentAnswer:
        """The certificate that was issued for the very same request."""
        known = self._store.certificates(enrolment.agent)
        record = next((each for each in known if each.serial == enrolment.serial), None)
        if record is None or record.revoked_ns or record.not_after_ns <= self._clock.now_ns():
            raise IdentityError("the certificate of this code is revoked or has run out")
        return self._enrolled(record)

    def _check_renewal(
        self, agent: str, request: RenewalRequest, known: list[CertificateRecord], now: int
    ) -> CertificateRecord:
        """The certificate of the key that ``agent`` asks with, which it may connect with now."""
        own = [each for each in known if key_id(each.public_key) == request.key]
        if not own:
            raise IdentityError("the key that signed the request is none of this agent")
        current = own[-1]
        check_renewal(current.public_key, agent, request.csr, request.signature)
        if current.revoked_ns:
            raise IdentityError("the certificate of the key that signed the request is revoked")
        if current.not_after_ns <= now:
            raise IdentityError("the certificate has run out; enrol again with a new code")
        return current

    def _early(self, known: list[CertificateRecord], now: int) -> float:
        """Seconds until an agent with the certificates ``known`` may have another one."""
        # Where our clock was set back, what was issued in the future holds nobody up.
        newest = max((e.issued_ns for e in known if e.issued_ns <= now), default=0)
        return RENEWAL_GAP_SECONDS - (now - newest) / 1e9

    def _next(
        self, agent: str, request: RenewalRequest, known: list[CertificateRecord], now: int
    ) -> CertificateRecord:
        public = _key_in(request.csr, agent)
        if any(
            each.public_key == public for each in known if not _untimely(each, request.csr, now)
        ):
            raise IdentityError("the certificate request is of a key that was used before")
        return self._register.agent(agent, public, request.csr)

    def _note(
        self, record: CertificateRecord, what: str, who: str = "", *, before: str = ""
    ) -> None:
        was = f"serial {before}" if before else ""
        by = who or f"agent {record.agent}"
        self._record(by, what, record.agent, was, f"serial {record.serial}")

    def _record(self, who: str, what: str, agent: str, before: str, after: str) -> None:
        """Before the fact: a crash leaves a note too many, never one too few."""
        try:
            self._audit.record(who=who, what=what, subject=agent, before=before, after=after)
        except AuditError as error:
            raise StoreError(error.message, remedy=error.remedy) from error

    def _enrolled(self, record: CertificateRecord) -> EnrolmentAnswer:
        return EnrolmentAnswer(
            state="issued",
            certificate=record.certificate,
            ca=self._register.authority.pem,
            sent_ns=self._clock.now_ns(),
        )

    def _renewed(self, record: CertificateRecord) -> RenewalAnswer:
        return RenewalAnswer(
            state="issued",
            certificate=record.certificate,
            ca=self._register.authority.pem,
            sent_ns=self._clock.now_ns(),
        )


def _proves(request: EnrolmentRequest, proof_key: bytes) -> bool:
    try:
        check_proof(proof_key, request.agent, request.csr, request.proof)
    except TrustError:
        return False
    return True


def _answers(record: CertificateRecord, csr: bytes, now: int) -> bool:
    """Whether ``record`` is what was issued for this very request, and is good now."""
    asked = record.request == sha256(csr) and not record.revoked_ns
    return asked and record.not_before_ns <= now < record.not_after_ns


def _untimely(record: CertificateRecord, csr: bytes, now: int) -> bool:
    """Whether ``record`` was issued for this very request while our clock was wrong."""
    asked = record.request == sha256(csr) and not record.revoked_ns
    return asked and now < record.not_before_ns


def _key_in(csr: bytes, agent: str) -> bytes:
    """The public key in a certificate request of ``agent``.

    Raises:
        IdentityError: it is damaged, or of somebody else.
    """
    name, public = read_request(csr)
    if name != agent:
        raise IdentityError(f"the certificate request is of {name!r}")
    return public


def _told(record: CertificateRecord) -> dict[str, str | int]:
    days = round((record.not_after_ns - record.issued_ns) / 86_400_000_000_000)
    return {"agent": record.agent, "serial": record.serial, "days": days}
