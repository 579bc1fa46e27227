# SPDX-License-Identifier: Apache-2.0
"""The section ``[pki]`` of a coordinator's configuration file."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, structs

from fedmill_shared.toml.faults import Fault, value_fault

FOLDER = "pki"
"""Folder in the state folder where the authority is kept by default."""
CREDENTIAL = "credential:"
"""How a ``ca_key`` begins that the service manager hands over."""
_DEFAULTS = {"ca_certificate": "ca.pem", "ca_key": "ca.key", "crl": "crl.pem"}


class PkiSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plant's certificate authority; with this section updates must be signed.

    Attributes:
        ca_certificate: file with the authority's certificate; relative to the configuration file;
            empty for ``pki/ca.pem`` in the state folder.
        ca_key: file with its key, which only this user may read; ``credential:NAME`` for what
            systemd hands over (``LoadCredential=``); empty for ``pki/ca.key`` in the state folder.
        certificate_days: how long the certificate of an agent is good.
        crl: file with the certificates that are revoked, for the broker, which must be able to read
            it; empty for ``pki/crl.pem`` in the state folder.
    """

    ca_certificate: str = ""
    ca_key: str = ""
    certificate_days: Annotated[int, Meta(ge=1, le=825)] = 90
    crl: str = ""


def pki_faults(section: PkiSection | None) -> Iterator[Fault]:
    """What is wrong with a section: a credential whose name is none."""
    if section is None or not section.ca_key.startswith(CREDENTIAL):
        return
    name = section.ca_key.removeprefix(CREDENTIAL)
    if not name or "/" in name or name.startswith("."):
        yield value_fault(
            ("pki", "ca_key"),
            section.ca_key,
            "no credential has this name",
            'write ca_key = "credential:ca.key" and LoadCredential=ca.key:/path in the unit',
        )


def settled_pki(section: PkiSection | None, folder: Path, state: Path) -> PkiSection | None:
    """The section with absolute paths.

    Args:
        section: as in the file.
        folder: where the file is.
        state: the state folder.
    """
    if section is None:
        return None
    paths = {}
    for name, default in _DEFAULTS.items():
        given: str = getattr(section, name)
        if not given.startswith(CREDENTIAL):
            given = str(folder / given if given else state / FOLDER / default)
        paths[name] = given
    return structs.replace(section, **paths)


def key_path(section: PkiSection, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where the authority's key is; None for a credential that this process was not handed."""
    if not section.ca_key.startswith(CREDENTIAL):
        return Path(section.ca_key)
    folder = environment.get("CREDENTIALS_DIRECTORY")
    return Path(folder) / section.ca_key.removeprefix(CREDENTIAL) if folder else None
