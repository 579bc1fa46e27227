# SPDX-License-Identifier: Apache-2.0
"""Signatures under the labels of origin of updates: made by agents, verified by coordinators."""

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import msgpack

from fedmill_shared.crypto.keys import key_id, public_bytes
from fedmill_shared.crypto.statements import sign, verify
from fedmill_shared.errors import TrustError
from fedmill_shared.messages import UNREADABLE, UpdateOffer
from fedmill_shared.messages.origin import Origin, difference

PURPOSE = "update"


def sign_origin(key: Ed25519PrivateKey, statement: bytes) -> tuple[str, bytes]:
    """The name of ``key``, 16 hexadecimal digits, and its signature of 64 bytes."""
    return key_id(public_bytes(key)), sign(key, PURPOSE, statement)


def verify_origin(offer: UpdateOffer, agent: str, keys: Iterable[bytes]) -> Origin:
    """What is signed of the update that ``agent`` offers.

    Args:
        offer: with key, label and signature.
        agent: who the topic says that it is from.
        keys: public keys of that agent, 32 bytes each.

    Raises:
        TrustError: the key is not among ``keys``, the signature is not of that key, or the label is
            that of another update.
    """
    public = next((public for public in keys if key_id(public) == offer.key), None)
    if public is None:
        raise TrustError(f"key {offer.key} is none that agent {agent} may sign with")
    verify(public, PURPOSE, offer.origin, offer.signature)
    try:
        origin = msgpack.decode(offer.origin, type=Origin)
    except UNREADABLE as error:
        raise TrustError(f"its label of origin cannot be read: {error}") from error
    differs = difference(origin, offer, agent)
    if differs:
        signed = getattr(origin, differs)
        raise TrustError(f"its label of origin is of another update: {differs} is {signed!r} there")
    return origin
