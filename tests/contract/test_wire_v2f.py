# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2d``: how many windows waited too long for their turn.

The file in ``wire_v2f`` was written once, with ``python -m tests.contract.test_wire_v2f``, and is
never written again.
"""

from typing import Any

from tests.contract import test_wire_v2d
from tests.contract.recording import record
from tests.contract.states import LaterState, later

BEFORE = test_wire_v2d.FOLDER
PHASE: dict[str, Any] = {"windows_skipped": 42}
"""Later fields of each job in ``up-state``."""

FOLDER = later("wire_v2f", BEFORE, PHASE)


class TestState(LaterState):
    """Of this recording."""

    folder, before, phase = FOLDER, BEFORE, PHASE


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
