# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys (RFC 8032): one of them is an agent's identity, in TLS and under its updates."""

import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fedmill_shared.errors import IdentityError, StoreError
from fedmill_shared.files import sha256, sync_folder

PUBLIC_BYTES = 32
LARGEST_KEY_FILE = 16_384
_MAKE_ANEW = "restore it from a backup, or enrol again"


def make_key() -> Ed25519PrivateKey:
    """A new key from the system's randomness."""
    return Ed25519PrivateKey.generate()


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 raw bytes of the public half."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_id(public: bytes) -> str:
    """Short name of a public key: the first 16 digits of its SHA-256."""
    return sha256(public)[:16]


def write_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Put ``key`` into ``path`` as PKCS 8, for its owner only, from its first byte on.

    Raises:
        StoreError: the folder is missing, read-only or full; ``path`` is unchanged.
    """
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}",
            remedy="check free space and that the folder belongs to the service user",
        ) from error


def read_key(path: Path) -> Ed25519PrivateKey:
    """The key in ``path``.

    Raises:
        IdentityError: there is none, it cannot be read, or it is no Ed25519 key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_KEY_FILE)
    except OSError as error:
        raise IdentityError(
            f"{path}: the key cannot be read: {error.strerror or error}", remedy=_MAKE_ANEW
        ) from error
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path}: this is no private key in PEM", remedy=_MAKE_ANEW) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path}: this is no Ed25519 key", remedy=_MAKE_ANEW)
    return key
