# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2k``: echoes, and what the broker lets an agent do.

The files in ``wire_v2l`` were written once, with ``python -m tests.contract.test_wire_v2l``, and
are never written again.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from tests.contract import test_wire_v2b, test_wire_v2k
from tests.contract.recording import HERE, Folder, assert_recorded_once, record
from tests.contract.states import Recorded, assert_not_needed

from fedmill_shared.messages import AgentState, Echo

STATE: dict[str, Any] = {"rights": "the broker lets anybody publish as any agent"}
"""Later fields of the state."""
TOLD = test_wire_v2k.FOLDER.messages["up-state"]
ECHO = Echo(nonce=bytes(range(16)))
FOLDER = Folder(
    HERE / "wire_v2l",
    {"up-echo": ECHO, "down-echo": ECHO, "up-state": structs.replace(TOLD, **STATE)},
)


class TestMessages(Recorded):
    """Of this recording."""

    folder = FOLDER

    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, FOLDER.wire(), tmp_path)

    def test_software_before_reads_the_rest(self) -> None:
        """It skips what it does not know, and finds the very message that was recorded before."""
        read = msgspec.json.Decoder(test_wire_v2b.first(AgentState, STATE)).decode
        assert read(FOLDER.read("up-state")) == read(test_wire_v2k.FOLDER.read("up-state"))

    def test_nothing_of_it_is_needed(self) -> None:
        """What is left out means that nothing is wrong."""
        assert isinstance(TOLD, AgentState)
        for field in STATE:
            assert_not_needed(TOLD, field)


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
