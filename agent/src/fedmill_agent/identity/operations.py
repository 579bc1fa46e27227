# SPDX-License-Identifier: Apache-2.0
"""What is done to an identity folder with keys and certificates in hand.

These import cryptography: commands call them, and children of the daemon, never the daemon itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import CA, CERTIFICATE, KEY, REQUEST, IdentityFolder, read_file
from fedmill_agent.identity.term import renewal_ns
from fedmill_shared.crypto import validity
from fedmill_shared.crypto.certificates import (
    CertificateFacts,
    check_pair,
    check_validity,
    make_request,
    read_certificate,
    read_request,
)
from fedmill_shared.crypto.codes import sign_renewal
from fedmill_shared.crypto.issuer import check_issued
from fedmill_shared.crypto.keys import key_id, make_key, public_bytes, read_key, write_key
from fedmill_shared.errors import IdentityError
from fedmill_shared.files import write_atomic
from fedmill_shared.messages import RenewalRequest, encode

Note = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate is asked for with.

    Attributes:
        pem: the request (PKCS 10).
        key: short name of its key.
        made: whether the key is new, and not that of an earlier request.
    """

    pem: bytes
    key: str
    made: bool


def request(folder: IdentityFolder, agent: str, note: Note = str) -> Request:
    """A request for a certificate of ``agent``; asking again gives the same one.

    The key is made here, and never leaves the folder. ``note`` puts its short name on record before
    it is there: one that a kill or a full disk has kept from being made is on record as well.

    Raises:
        StoreError: the disk fails, or it cannot be put on record; there is no new key then.
        IdentityError: the key that waits cannot be read.
    """
    with folder.held():
        key_file = folder.begin() / KEY
        made = not key_file.exists()
        if made:
            new = make_key()
            note(key_id(public_bytes(new)))
            write_key(key_file, new)
        key = read_key(key_file)
        public = public_bytes(key)
        path = folder.next / REQUEST
        known = read_file(path) if path.exists() else b""
        if not _asks(known, agent, public):
            known = make_request(key, agent)
            write_atomic(path, known)
        return Request(known, key_id(public), made)


def request_again(
    folder: IdentityFolder, agent: str, now_ns: int, *, new_key: bool = False, note: Note = str
) -> Request:
    """A request that may be written again and again, as who sets up machines does.

    It is for the key in use while its certificate holds and is not due, so that nothing changes by
    asking; else, or where a ``new_key`` is wanted, as ``request``.

    Raises:
        StoreError: the disk fails, or a new key cannot be put on record with ``note``.
        IdentityError: a key cannot be read.
    """
    facts = None if new_key else _sound(folder)
    if facts is None or facts.agent != agent or now_ns >= renewal_ns(facts):
        return request(folder, agent, note)
    key = read_key(folder.current / KEY)
    return Request(make_request(key, agent), key_id(public_bytes(key)), made=False)


def install(
    folder: IdentityFolder, agent: str, certificate: bytes, ca: bytes, now_ns: int
) -> tuple[Facts, bool]:
    """Let the certificate, and the authority that issued it, be the identity from now on.

    Both are PEM. Returns what is known of it, and whether anything has changed.

    Raises:
        IdentityError: it is of another agent, for a key that is not here, not of this authority, or
            not valid now.
        StoreError: the disk fails; what was in use still is.
    """
    found = _checked(agent, certificate, ca)
    check_validity(found, now_ns)
    with folder.held():
        facts = _facts(found, read_certificate(ca).fingerprint)
        key = _key_of(folder, found)
        if _in_use(folder, certificate, ca, facts):
            return facts, False
        folder.put(key, certificate, ca, facts)
        return facts, True


def look(folder: IdentityFolder, agent: str) -> Facts | None:
    """What is known of the identity in use; None where there is none.

    Files that somebody put into the folder by hand are taken over, also when their time is over.

    Raises:
        IdentityError: they do not belong together, or not to ``agent``.
        StoreError: the disk fails.
    """
    with folder.held():
        if folder.by_hand:
            certificate, ca = (
                validity.read_file(folder.path / name, "certificate") for name in (CERTIFICATE, CA)
            )
            found = _checked(agent, certificate, ca)
            check_pair(found, read_key(folder.path / KEY))
            facts = _facts(found, read_certificate(ca).fingerprint)
            folder.put(folder.path / KEY, certificate, ca, facts)
        return folder.facts()


def look_at(certificate: Path, key: Path, ca: Path) -> Facts:
    """What is known of an identity whose files somebody else cares for.

    Raises:
        IdentityError: one of them cannot be read, or they do not belong together.
    """
    data = validity.read_file(certificate, "certificate")
    authority = validity.read_file(ca, "certificate of the authority")
    found = read_certificate(data)
    check_pair(found, read_key(key))
    check_issued(data, authority)
    return _facts(found, read_certificate(authority).fingerprint)


def ask_for_renewal(folder: IdentityFolder, agent: str) -> bytes:
    """A message that asks for the certificate of a new key, signed with the key in use.

    Raises:
        IdentityError: there is no key in use, or one of both keys cannot be read.
        StoreError: the disk fails.
    """
    current = read_key(folder.current / KEY)
    csr = request(folder, agent).pem
    signature = sign_renewal(current, agent, csr)
    key = key_id(public_bytes(current))
    return encode(RenewalRequest(csr=csr, key=key, signature=signature))


def authority(folder: IdentityFolder) -> bytes:
    """The certificates (PEM) of the authorities that are trusted now.

    Raises:
        IdentityError: there are none.
    """
    return validity.read_file(folder.current / CA, "certificate of the authority")


def waiting_key(folder: IdentityFolder) -> str:
    """Short name of the key that a certificate was asked for; empty where none was.

    Raises:
        IdentityError: it cannot be read.
    """
    path = folder.next / KEY
    return key_id(public_bytes(read_key(path))) if path.exists() else ""


def _sound(folder: IdentityFolder) -> Facts | None:
    try:
        return folder.facts()
    except IdentityError:
        return None


def _asks(pem: bytes, agent: str, public: bytes) -> bool:
    try:
        return read_request(pem) == (agent, public)
    except IdentityError:
        return False


def _checked(agent: str, certificate: bytes, ca: bytes) -> CertificateFacts:
    found = read_certificate(certificate)
    if found.agent != agent:
        raise IdentityError(
            f"the certificate is of {found.agent or 'nobody'!r}, and this is agent {agent!r}",
            remedy="give the certificate that was issued for this agent, or correct agent.id",
        )
    check_issued(certificate, ca)
    return found


def _key_of(folder: IdentityFolder, found: CertificateFacts) -> Path:
    """The file with the key of a certificate: that which waits, or the one in use."""
    for path in (folder.next / KEY, folder.current / KEY, folder.path / KEY):
        if path.exists() and public_bytes(read_key(path)) == found.public:
            return path
    raise IdentityError(
        f"the certificate {found.serial} is for a key that is not here",
        remedy="have one issued for the request that `fedmill-agent identity request` writes",
    )


def _in_use(folder: IdentityFolder, certificate: bytes, ca: bytes, facts: Facts) -> bool:
    current = folder.current
    try:
        return (
            folder.facts() == facts
            and read_file(current / CERTIFICATE) == certificate
            and read_file(current / CA) == ca
        )
    except (IdentityError, FileNotFoundError):
        return False


def _facts(found: CertificateFacts, authority: str) -> Facts:
    return Facts(
        agent=found.agent,
        serial=found.serial,
        not_before_ns=found.not_before_ns,
        not_after_ns=found.not_after_ns,
        fingerprint=found.fingerprint,
        key=key_id(found.public),
        authority=authority,
    )
