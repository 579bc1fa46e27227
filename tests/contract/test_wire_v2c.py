# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2b``: why windows are bad.

The file in ``wire_v2c`` was written once, with ``python -m tests.contract.test_wire_v2c``, and is
never written again.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from tests.contract import test_wire_v2b
from tests.contract.recording import HERE, Folder, assert_recorded_once, record

from fedmill_shared.messages import AgentState, JobPhase

BEFORE = test_wire_v2b.FOLDER
PHASE: dict[str, Any] = {"faults": {"force: out of range": 7, "speed: stuck at one value": 2}}
"""Later fields of each job in ``up-state``."""


def state() -> AgentState:
    """The state that was recorded before, with what can be told since."""
    told = BEFORE.messages["up-state"]
    assert isinstance(told, AgentState)
    jobs = {job: structs.replace(phase, **PHASE) for job, phase in told.jobs.items()}
    return structs.replace(told, jobs=jobs)


FOLDER = Folder(HERE / "wire_v2c", {"up-state": state()})


class TestState:
    def test_is_read_as_it_was_meant(self) -> None:
        """Every field has the value that was sent."""
        FOLDER.assert_meant("up-state")

    def test_each_cut_is_refused(self) -> None:
        """A message that ends early is never taken for a shorter one."""
        FOLDER.assert_cuts_refused("up-state")

    def test_software_before_reads_the_rest(self) -> None:
        """It skips what it does not know, and finds the very message that was recorded before."""
        phase = test_wire_v2b.first(JobPhase, PHASE)
        of = test_wire_v2b.first(AgentState, (), {"jobs": dict[str, phase]})  # type: ignore[valid-type]
        decoder = msgspec.json.Decoder(of)
        assert decoder.decode(FOLDER.read("up-state")) == decoder.decode(BEFORE.read("up-state"))


class TestRecord:
    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, FOLDER.wire(), tmp_path)


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
