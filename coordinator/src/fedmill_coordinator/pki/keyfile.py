# SPDX-License-Identifier: Apache-2.0
"""Where the authority lies on the disk."""

import os
from collections.abc import Mapping
from pathlib import Path

from fedmill_coordinator.pki.authority import Authority
from fedmill_coordinator.pki.options import CREDENTIAL, PkiSection, key_path
from fedmill_coordinator.private import check_private
from fedmill_shared.crypto.certificates import read_certificate
from fedmill_shared.crypto.keys import read_key, write_key
from fedmill_shared.crypto.validity import read_file
from fedmill_shared.errors import IdentityError
from fedmill_shared.files import make_folder, write_atomic


def make_authority(section: PkiSection, name: str, now_ns: int) -> Authority:
    """Make the plant's authority and write both of its files; the key first.

    Raises:
        IdentityError: one of the files is there, or the key is a credential.
        StoreError: they cannot be written.
    """
    certificate, key = Path(section.ca_certificate), _writable_key(section)
    for path in (key, certificate):
        if path.exists():
            raise IdentityError(
                f"{path}: is there already, and every certificate of the plant hangs on it",
                remedy="`fedmill ca show` tells of it; move both files aside to begin anew",
            )
        make_folder(path.parent)
    authority = Authority.make(name, now_ns)
    write_key(key, authority.key)
    write_atomic(certificate, authority.pem)
    return authority


def load_authority(section: PkiSection, environment: Mapping[str, str] = os.environ) -> Authority:
    """The plant's authority.

    Raises:
        IdentityError: a file is missing or damaged, they do not belong together, others than its
            owner may read the key, or it is a credential that this process was not handed.
    """
    path = key_path(section, environment)
    if path is None:
        raise IdentityError(
            f"[pki] ca_key is {section.ca_key!r}, which only the coordinator's service is handed",
            remedy="run this where the key's file is, and name it with --ca-key",
        )
    pem = read_authority_certificate(section)
    check_private(path, IdentityError, environment)
    return Authority.load(pem, read_key(path))


def read_authority_certificate(section: PkiSection) -> bytes:
    """The authority's own certificate (PEM), which anybody may know.

    Raises:
        IdentityError: it is missing or damaged.
    """
    path = Path(section.ca_certificate)
    try:
        present = path.exists()
    except OSError:
        present = True  # reading it says why
    if not present:
        raise IdentityError(
            f"{path}: there is no certificate authority", remedy="make one with `fedmill ca init`"
        )
    pem = read_file(path, "authority's certificate")
    read_certificate(pem)
    return pem


def _writable_key(section: PkiSection) -> Path:
    if section.ca_key.startswith(CREDENTIAL):
        raise IdentityError(
            f"[pki] ca_key is {section.ca_key!r}, and a credential cannot be written",
            remedy="make the authority with --ca-key PATH, the file that the unit loads",
        )
    return Path(section.ca_key)
