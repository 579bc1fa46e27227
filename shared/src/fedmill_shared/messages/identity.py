# SPDX-License-Identifier: Apache-2.0
"""How an agent gets its first certificate, and the next one.

A box that enrols is nobody yet: it speaks below ``fedmill/v1/enrol``, says whom it will be, and is
answered under the SHA-256 of what it said. An agent renews its certificate on its own topics.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmill_shared.messages.fields import Agent, Nanoseconds, Seconds, Text

REQUEST_LIMIT = 4096
"""Bytes of the largest signing request; ours have under 400."""
CERTIFICATE_LIMIT = 16_384

SigningRequest = Annotated[bytes, Meta(max_length=REQUEST_LIMIT)]
Certificate = Annotated[bytes, Meta(max_length=CERTIFICATE_LIMIT)]
FullSignature = Annotated[bytes, Meta(min_length=64, max_length=64)]
FullKeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
Software = Annotated[str, Meta(max_length=64)]


class EnrolmentRequest(Struct, frozen=True, kw_only=True):
    """``enrol/up``: a box asks for the certificate that its code stands for.

    The code itself never travels. To ask again means to send the same bytes again: the answer then
    is the same certificate, and another ``csr`` with a code that was used is refused.

    Attributes:
        agent: who it will be.
        csr: PKCS 10 request (PEM) for ``agent``, signed with the key that was made on the box.
        proof: signature over ``agent`` and ``csr`` with the key that the code gives, see
            :func:`fedmill_shared.crypto.codes.prove`.
        software: version of its software.
    """

    agent: Agent
    csr: SigningRequest
    proof: FullSignature
    software: Software = ""


class EnrolmentAnswer(Struct, frozen=True, kw_only=True):
    """``enrol/down/<request>``: what became of it.

    Attributes:
        state: ``issued`` with a certificate; ``pending`` until somebody accepts the box, or while
            too many ask: ask again after ``retry_after``; ``refused`` for good.
        certificate: the certificate (PEM); empty unless it is issued.
        ca: certificate (PEM) of who issued it; empty unless it is issued.
        reason: why, for people.
        retry_after: seconds to wait before asking again.
        sent_ns: the coordinator's clock as it sent this, for a box whose clock is wrong.
    """

    state: Literal["issued", "pending", "refused"]
    certificate: Certificate = b""
    ca: Certificate = b""
    reason: Text = ""
    retry_after: Seconds = 0.0
    sent_ns: Nanoseconds = 0


class RenewalRequest(Struct, frozen=True, kw_only=True):
    """``up/renew``: an agent asks for a certificate of its next key.

    Attributes:
        csr: PKCS 10 request (PEM) for the agent itself, signed with its next key.
        key: name of the key that the agent has now.
        signature: of that key over ``csr`` as a statement of renewal, see
            :func:`fedmill_shared.crypto.codes.sign_renewal`.
    """

    csr: SigningRequest
    key: FullKeyId
    signature: FullSignature


class RenewalAnswer(Struct, frozen=True, kw_only=True):
    """``down/certificate``: what became of it; fields as those of `EnrolmentAnswer`.

    ``pending`` comes where it is too early or too many ask: again after ``retry_after`` seconds.
    """

    state: Literal["issued", "pending", "refused"]
    certificate: Certificate = b""
    ca: Certificate = b""
    reason: Text = ""
    retry_after: Seconds = 0.0
    sent_ns: Nanoseconds = 0
