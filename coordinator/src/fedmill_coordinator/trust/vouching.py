# SPDX-License-Identifier: Apache-2.0
"""What the daemon asks of whoever signs, and the one that signs nothing."""

from pathlib import Path
from typing import Protocol

from fedmill_coordinator.trust.options import TrustSection
from fedmill_coordinator.voice import LinkVoice
from fedmill_shared.audit import Audit
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger
from fedmill_shared.messages import ReleaseNotice


class Vouching(Protocol):
    """Signs releases, and knows which jobs the operator signed."""

    def check_job(self, path: Path) -> None:
        """Return if the job file at ``path`` may be run.

        Raises:
            TrustError: it is not the signed one.
        """

    def check_text(self, path: Path, job: str, text: bytes) -> None:
        """Return if agents will take ``text`` of ``job``, which the file at ``path`` makes.

        Raises:
            TrustError: they will not.
        """

    def vouch(self, release: ReleaseNotice) -> None:
        """Sign ``release`` unless that is done, and let agents know.

        Raises:
            StoreError: it cannot be signed now.
        """

    def announce(self) -> None:
        """The broker may have lost everything: tell it all."""

    def tick(self) -> None:
        """Do what is due; never raises."""


class Nobody:
    """Without ``[trust]``: nothing is signed, and nobody asks for it."""

    def check_job(self, path: Path) -> None:
        """Any may be run."""

    def check_text(self, path: Path, job: str, text: bytes) -> None:
        """Any is taken."""

    def vouch(self, release: ReleaseNotice) -> None:
        """Do nothing."""

    def announce(self) -> None:
        """Do nothing."""

    def tick(self) -> None:
        """Do nothing."""


def make_vouching(
    trust: TrustSection | None, voice: LinkVoice, clock: Clock, log: Logger, audit: Audit
) -> Vouching:
    """Whoever signs for a coordinator with this configuration.

    Raises:
        TrustError: keys or metadata are missing, damaged, or do not belong together.
    """
    if trust is None:
        return Nobody()
    from fedmill_coordinator.trust.keeper import Keeper  # noqa: PLC0415  few plants sign yet

    return Keeper(
        Path(trust.folder), Path(trust.keys), voice.publish_metadata, clock, log, audit=audit
    )
