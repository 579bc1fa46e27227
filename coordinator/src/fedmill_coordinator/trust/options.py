# SPDX-License-Identifier: Apache-2.0
"""The section ``[trust]`` of a coordinator's configuration."""

from pathlib import Path

from msgspec import Struct


class TrustSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signed metadata; without this section agents are told releases and jobs that nobody signs.

    Attributes:
        folder: the repository of metadata and targets (TUF) that `fedmill trust init` makes;
            relative to the configuration file.
        keys: folder of the keys that the daemon signs with, of ``snapshot``, ``timestamp`` and
            ``models``; relative to the configuration file.
    """

    folder: str = "trust"
    keys: str = "keys"


def settled_trust(trust: TrustSection | None, folder: Path) -> TrustSection | None:
    """``trust`` with paths below ``folder`` made absolute."""
    if trust is None:
        return None
    return TrustSection(folder=str(folder / trust.folder), keys=str(folder / trust.keys))
