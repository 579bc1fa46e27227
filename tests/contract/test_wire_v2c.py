# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2b``: why windows are bad.

The file in ``wire_v2c`` was written once, with ``python -m tests.contract.test_wire_v2c``, and is
never written again.
"""

from typing import Any

from tests.contract import test_wire_v2b
from tests.contract.recording import record
from tests.contract.states import LaterState, later

BEFORE = test_wire_v2b.FOLDER
PHASE: dict[str, Any] = {"faults": {"force: out of range": 7, "speed: stuck at one value": 2}}
"""Later fields of each job in ``up-state``."""

FOLDER = later("wire_v2c", BEFORE, PHASE)


class TestState(LaterState):
    """Of this recording."""

    folder, before, phase = FOLDER, BEFORE, PHASE


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
