# SPDX-License-Identifier: Apache-2.0
"""What the coordinator remembers of certificates, and of who may get one."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_coordinator.store.records import Count, Sha256

Serial = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,40}\Z")]
PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
Pem = Annotated[bytes, Meta(max_length=16_384)]
Role = Literal["agent", "broker", "coordinator"]
EnrolmentState = Literal["open", "pending", "accepted", "issued", "rejected", "expired", "replaced"]


class CertificateRecord(Struct, frozen=True, kw_only=True):
    """A certificate that the plant's CA has issued.

    Attributes:
        serial: its serial number in hexadecimal digits, without zeros before it.
        agent: its common name: who it is for.
        role: what it is for: an agent, the broker, or the coordinator itself.
        public_key: raw Ed25519 public key in it.
        fingerprint: SHA-256 of its DER.
        request: SHA-256 of the signing request (PEM) that it answers.
        certificate: itself, PEM.
        not_before_ns: when it begins to be valid.
        not_after_ns: when it ends to be valid.
        issued_ns: when it was made.
        revoked_ns: when it was revoked; 0 while it is not.
        reason: why it was revoked, for people.
    """

    serial: Serial
    agent: str
    role: Role = "agent"
    public_key: PublicKey
    fingerprint: Sha256
    request: Sha256
    certificate: Pem
    not_before_ns: Count
    not_after_ns: Count
    issued_ns: Count
    revoked_ns: Count = 0
    reason: str = ""


class EnrolmentRecord(Struct, frozen=True, kw_only=True):
    """Leave for one agent to get its first certificate, with the code that was printed for it.

    Attributes:
        proof: public half of the key that the code gives: enough to check a proof, not to make one.
        agent: whom it is for.
        created_ns: when the code was printed.
        expires_ns: from when on the code is worth nothing.
        confirm: whether somebody must accept the box that comes with the code.
        state: ``open`` until a box comes with the code; ``pending`` until somebody accepts it;
            ``accepted`` until the box asks again; then over: ``issued``, ``rejected``, ``expired``
            or ``replaced`` by a later code for the agent.
        by: login name of who made the code.
        request: signing request (PEM) that came with the code; empty before that.
        software: version of the software of the box.
        serial: serial number of the certificate that was issued; empty before that.
        settled_ns: when ``state`` last changed; 0 while it is ``open``.
        settled_by: login name of who accepted or rejected it.
        reason: why it was rejected, for people.
    """

    proof: PublicKey
    agent: str
    created_ns: Count
    expires_ns: Count
    confirm: bool = False
    state: EnrolmentState = "open"
    by: str = ""
    request: Pem = b""
    software: str = ""
    serial: str = ""
    settled_ns: Count = 0
    settled_by: str = ""
    reason: str = ""
