# SPDX-License-Identifier: Apache-2.0
"""Certificates of the broker and of the coordinator itself, in a folder each.

Their keys are made here: the coordinator's machine holds the authority's key anyway.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmill_coordinator.pki.register import DAY_NS, Register
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.crypto.certificates import CertificateFacts, check_pair, read_certificate
from fedmill_shared.crypto.issuer import check_issued
from fedmill_shared.crypto.keys import make_key, public_bytes, read_key, write_key
from fedmill_shared.errors import IdentityError
from fedmill_shared.files import make_folder, write_atomic

SERVER_DAYS = 365
"""Longer than an agent's: when the broker's runs out, the whole plant stands still."""
LEFT_NS = 30 * DAY_NS
"""A certificate that holds for longer is not issued anew."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What is in ``folder`` now, and whether it is ``new``."""

    folder: Path
    serial: str
    not_after_ns: int
    new: bool


def issue_broker(
    register: Register,
    store: Store,
    hosts: Sequence[str],
    folder: Path,
    *,
    days: int = SERVER_DAYS,
    renew: bool = False,
) -> Issued:
    """A certificate of a broker with these names and addresses, and its key, in ``folder``.

    Raises:
        IdentityError: one of ``hosts`` is no name, or the authority is not valid now.
        StoreError: it cannot be written.
    """
    held = None if renew else _held(register, folder)
    if held is not None and set(held.hosts) == set(hosts):
        return _there(folder, held)
    return _put(folder, register, store, lambda public: register.broker(hosts, public, days=days))


def issue_coordinator(
    register: Register,
    store: Store,
    name: str,
    folder: Path,
    *,
    days: int = SERVER_DAYS,
    renew: bool = False,
) -> Issued:
    """A certificate of the coordinator that connects as ``name``, and its key, in ``folder``.

    Raises:
        IdentityError: the authority is not valid now.
        StoreError: it cannot be written.
    """
    held = None if renew else _held(register, folder)
    if held is not None and held.agent == name and not held.hosts:
        return _there(folder, held)
    return _put(
        folder, register, store, lambda public: register.coordinator(name, public, days=days)
    )


def _held(register: Register, folder: Path) -> CertificateFacts | None:
    """What is in ``folder``, if it is whole, of this authority, and holds for long enough."""
    try:
        pem = (folder / "certificate.pem").read_bytes()
        facts = read_certificate(pem)
        check_pair(facts, read_key(folder / "key.pem"))
        check_issued(pem, register.authority.pem)
    except (OSError, IdentityError):
        return None
    return facts if facts.not_after_ns > register.now_ns() + LEFT_NS else None


def _there(folder: Path, facts: CertificateFacts) -> Issued:
    return Issued(folder, facts.serial, facts.not_after_ns, new=False)


def _put(
    folder: Path, register: Register, store: Store, issue: Callable[[bytes], CertificateRecord]
) -> Issued:
    key = make_key()
    record = issue(public_bytes(key))
    store.add_certificate(record)
    make_folder(folder)
    # A kill in between leaves a key without its certificate, which the next run replaces.
    write_key(folder / "key.pem", key)
    write_atomic(folder / "certificate.pem", record.certificate)
    write_atomic(folder / "ca.pem", register.authority.pem)
    return Issued(folder, record.serial, record.not_after_ns, new=True)
