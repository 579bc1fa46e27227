# SPDX-License-Identifier: Apache-2.0
"""What an agent's state has told since ``wire_v2i``: certificate, trust, safe mode, audit log.

The files in ``wire_v2k`` were written once, with ``python -m tests.contract.test_wire_v2k``, and
are never written again.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from tests.contract import test_wire_v2b, test_wire_v2i
from tests.contract.recording import HERE, Folder, assert_recorded_once, digest, record
from tests.contract.states import Recorded, assert_not_needed

from fedmill_shared.messages import AgentState, CertificateState

STATE: dict[str, Any] = {
    "trust": "timestamp.json has run out",
    "safe_mode": "5 starts in a row failed",
    "audit": f"17:{digest('record')}",
    "certificate": CertificateState(
        serial="1a2b3c", not_after_ns=1_700_000_000_000_000_000, problem="it ends soon"
    ),
}
"""Later fields of the state."""
TOLD = test_wire_v2i.state()
FOLDER = Folder(HERE / "wire_v2k", {"up-state": structs.replace(TOLD, **STATE)})


class TestState(Recorded):
    """Of this recording."""

    folder = FOLDER

    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, FOLDER.wire(), tmp_path)

    def test_software_before_reads_the_rest(self) -> None:
        """It skips what it does not know, and finds the very message that was recorded before."""
        read = msgspec.json.Decoder(test_wire_v2b.first(AgentState, STATE)).decode
        assert read(FOLDER.read("up-state")) == read(test_wire_v2i.FOLDER.read("up-state"))

    def test_nothing_of_it_is_needed(self) -> None:
        """What is left out means that nothing is wrong, and that there is no certificate."""
        for field in STATE:
            assert_not_needed(TOLD, field)


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
