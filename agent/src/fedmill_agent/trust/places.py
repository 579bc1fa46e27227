# SPDX-License-Identifier: Apache-2.0
"""Where in its state folder an agent keeps what it hears, what it checked and what it was brought.

::

    trust/incoming/       what came, unchecked: metadata/, targets/config/
    trust/metadata/       what was checked, by python-tuf: the floor that nothing goes below
    trust/verified.json   what is signed, for the daemon
    trust/overlay.json    the remote configuration that was good
    trust/seen.json       the highest release of each job that was heard of
    trust/import/<name>/  a bundle that was checked and waits, or is being installed
    trust/import.lock     held while one is copied there
"""

from pathlib import Path


class TrustPlaces:
    """Paths below ``<state>/trust``."""

    def __init__(self, state: str | Path) -> None:
        """Nothing is made."""
        self.folder = Path(state) / "trust"
        self.incoming = self.folder / "incoming"
        self.metadata = self.folder / "metadata"
        self.verified = self.folder / "verified.json"
        self.overlay = self.folder / "overlay.json"
        self.seen = self.folder / "seen.json"
        self.imports = self.folder / "import"
