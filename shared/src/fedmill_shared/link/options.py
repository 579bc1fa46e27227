# SPDX-License-Identifier: Apache-2.0
"""The section ``[broker.tls]`` of a configuration file, the same for agents and coordinators."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from fedmill_shared.toml.faults import Fault, value_fault

IDENTITY = "identity"
"""Folder in the state folder where enrolment puts its three files."""


class TlsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS 1.3 with a certificate on both sides; without this section the link is in the clear.

    Attributes:
        ca: file with the certificate of the plant's authority; relative to the configuration
            file; empty for ``identity/ca.pem`` in the state folder.
        certificate: file with our own certificate; empty for ``identity/certificate.pem``.
        key: file with its key, which only this user may read; empty for ``identity/key.pem``.
        server_name: the name in the broker's certificate, where ``host`` is another; empty for
            ``host``.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""


def tls_faults(section: TlsSection | None) -> Iterator[Fault]:
    """What is wrong with a section: a certificate without its key, or a key without it."""
    if section is None or bool(section.certificate) == bool(section.key):
        return
    given, absent = ("certificate", "key") if section.certificate else ("key", "certificate")
    yield value_fault(
        ("broker", "tls", given),
        getattr(section, given),
        f"[broker.tls] has no {absent} for it",
        f'add {absent} = "...", or leave both out for what enrolment has put into the state folder',
    )


def settled(section: TlsSection | None, folder: Path, state: Path) -> TlsSection | None:
    """The section with absolute paths.

    Args:
        section: as in the file.
        folder: where the file is.
        state: the state folder.
    """
    if section is None:
        return None
    paths = {
        name: str(folder / given if (given := getattr(section, name)) else default)
        for name in ("ca", "certificate", "key")
        for default in [state / IDENTITY / f"{name}.pem"]
    }
    return TlsSection(**paths, server_name=section.server_name)
