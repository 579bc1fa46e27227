# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2f``: what was measured of int8, where it scores.

The file in ``wire_v2g`` was written once, with ``python -m tests.contract.test_wire_v2g``, and is
never written again.
"""

from typing import Any

from tests.contract import test_wire_v2f
from tests.contract.recording import record
from tests.contract.states import LaterState, later

BEFORE = test_wire_v2f.FOLDER
PHASE: dict[str, Any] = {"int8": {"plain_ms": 0.75, "int8_ms": 0.25, "batch": 32.0}}
"""Later fields of each job in ``up-state``."""

FOLDER = later("wire_v2g", BEFORE, PHASE)


class TestState(LaterState):
    """Of this recording."""

    folder, before, phase = FOLDER, BEFORE, PHASE


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
