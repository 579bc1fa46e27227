# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys of the roles: made, kept for their owner only, and read."""

import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from fedmill_coordinator.private import check_private
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.files import sync_folder, write_atomic
from fedmill_shared.trust import TrustRole

RoleKey = CryptoSigner
"""A private key that signs for a role."""
NAME_FIELD = "x-fedmill-name"
LARGEST_KEY_FILE = 16_384
ONLINE = (TrustRole.SNAPSHOT, TrustRole.TIMESTAMP, TrustRole.MODELS)
"""Roles whose keys the daemon has."""


def make_key(path: Path, passphrase: str = "") -> CryptoSigner:
    """A new key, put into ``path`` for its owner only, encrypted where there is a passphrase.

    Raises:
        TrustError: there is a file already; keys are never written over.
        StoreError: it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    kind = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, kind)
    _write(path, data)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomic(path.with_suffix(".pub.pem"), public)
    return CryptoSigner(key)


def read_signer(path: Path, passphrase: str = "") -> CryptoSigner:
    """The key in ``path``.

    Raises:
        TrustError: there is none, it is no Ed25519 key, or the passphrase is another.
    """
    data = _read(path)
    try:
        key = load_pem_private_key(data, password=passphrase.encode() if passphrase else None)
    except (ValueError, UnsupportedAlgorithm) as error:
        remedy = "is the passphrase right, and is this the private key?"
        raise TrustError(f"{path}: no private key can be read from it", remedy=remedy) from error
    except TypeError as error:
        wrong = "it has no passphrase" if passphrase else "it has a passphrase"
        remedy = "leave --passphrase-file out" if passphrase else "give --passphrase-file"
        raise TrustError(f"{path}: {wrong}", remedy=remedy) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError(f"{path}: this is no Ed25519 key", remedy="make one with `trust key`")
    return CryptoSigner(key)


def read_public(path: Path, name: str) -> SSlibKey:
    """The public half in ``path``, a public or an open private key, called ``name``.

    Raises:
        TrustError: there is none.
    """
    data = _read(path)
    if b"PRIVATE KEY" in data:
        return named(read_signer(path), name)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path}: no public key can be read from it") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(f"{path}: this is no Ed25519 key", remedy="make one with `trust key`")
    return _called(SSlibKey.from_crypto(key), name)


def named(signer: CryptoSigner, name: str) -> SSlibKey:
    """The public half of ``signer``, called ``name`` for people."""
    key = SSlibKey.from_dict(signer.public_key.keyid, signer.public_key.to_dict())
    return _called(key, name)


def read_online(folder: Path) -> dict[TrustRole, CryptoSigner]:
    """The daemon's keys.

    Raises:
        TrustError: one is missing, damaged, or others may read it.
    """
    found = {}
    for role in ONLINE:
        path = folder / f"{role}.pem"
        check_private(path, TrustError)
        found[role] = read_signer(path)
    return found


def _called(key: SSlibKey, name: str) -> SSlibKey:
    key.unrecognized_fields[NAME_FIELD] = name
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_KEY_FILE)
    except OSError as error:
        raise TrustError(
            f"{path}: the key cannot be read: {error.strerror or error}",
            remedy="is the stick with it in place, and is this its owner?",
        ) from error


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except FileExistsError as error:
        raise TrustError(
            f"{path}: is there already, and keys are never written over",
            remedy="name another folder",
        ) from error
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
