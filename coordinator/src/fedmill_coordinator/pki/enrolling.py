# SPDX-License-Identifier: Apache-2.0
"""What a person decides about who becomes an agent: codes, acceptance, fetched requests."""

from dataclasses import dataclass

from msgspec import structs

from fedmill_coordinator.pki.register import Register
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord
from fedmill_coordinator.store.rules_pki import WAITING
from fedmill_shared.crypto.certificates import read_certificate, read_request
from fedmill_shared.crypto.codes import EnrolmentCode, make_code
from fedmill_shared.errors import IdentityError
from fedmill_shared.files import sha256


@dataclass(frozen=True, slots=True)
class Opened:
    """A code, and all of it that is kept."""

    code: EnrolmentCode
    record: EnrolmentRecord


@dataclass(frozen=True, slots=True)
class Standing:
    """How an enrolment stands: its state in a word, and whether it goes on."""

    state: str
    waits: bool
    request: str


@dataclass(frozen=True, slots=True)
class Preauthorised:
    """A certificate, and whether it is ``new`` and not stored yet."""

    record: CertificateRecord
    new: bool


def open_enrolment(
    agent: str, authority: bytes, *, now_ns: int, ttl_ns: int, confirm: bool, by: str
) -> Opened:
    """Leave for ``agent`` to enrol with a new code, until ``ttl_ns`` from now.

    Raises:
        IdentityError: ``authority``, its certificate (PEM), is damaged.
    """
    code = make_code(read_certificate(authority).fingerprint)
    record = EnrolmentRecord(
        proof=code.proof_key(),
        agent=agent,
        created_ns=now_ns,
        expires_ns=now_ns + ttl_ns,
        confirm=confirm,
        by=by,
    )
    return Opened(code, record)


def standing(record: EnrolmentRecord, now_ns: int) -> Standing:
    """How ``record`` stands at ``now_ns``: a code may have run out without anybody's noting it."""
    request = sha256(record.request)[:16] if record.request else ""
    if record.state == "open" and now_ns >= record.expires_ns:
        return Standing("expired", waits=False, request=request)
    return Standing(record.state, waits=record.state in WAITING, request=request)


def decide(
    store: Store, agent: str, *, accepted: bool, reason: str, by: str, now_ns: int
) -> EnrolmentRecord:
    """The enrolment of ``agent`` that waits, as it becomes; it is not stored yet.

    Raises:
        IdentityError: there is none to decide about.
    """
    going = [each for each in store.enrolments(agent) if standing(each, now_ns).waits]
    states = ("pending",) if accepted else WAITING
    found = [each for each in going if each.state in states]
    if not found:
        told = f"its code is {going[-1].state}" if going else "it has no code that is good"
        raise IdentityError(
            f"agent {agent!r}: nothing waits to be decided, {told}",
            remedy="see `fedmill enrol list --all`",
        )
    state = "accepted" if accepted else "rejected"
    return structs.replace(found[-1], state=state, settled_ns=now_ns, settled_by=by, reason=reason)


def preauthorise(register: Register, store: Store, agent: str, csr: bytes) -> Preauthorised:
    """The certificate of ``agent`` for the key in ``csr``: the one that holds, or a new one.

    Raises:
        IdentityError: the request is damaged, of another agent, or of a key that was revoked.
    """
    register.check_name(agent)
    name, public = read_request(csr)
    if name != agent:
        raise IdentityError(
            f"the certificate request is of {name!r}, not of {agent!r}",
            remedy="fetch it from the right box, or correct agent.id there",
        )
    known = [each for each in store.certificates(agent) if each.public_key == public]
    if any(each.revoked_ns for each in known):
        raise IdentityError(
            f"the key in the request of {agent!r} was revoked",
            remedy="make a new one on the box: `fedmill-agent identity request --new-key`",
        )
    good = [each for each in known if register.holds(each)]
    if good:
        return Preauthorised(good[-1], new=False)
    return Preauthorised(register.agent(agent, public, csr), new=True)
