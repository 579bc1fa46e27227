# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2c``: releases, how far agents are with them, wishes.

The files in ``wire_v2d`` were written once, with ``python -m tests.contract.test_wire_v2d``, and
are never written again.
"""

from typing import Any

import msgspec
from msgspec import structs
from tests.contract import recording, test_wire_v2b, test_wire_v2c
from tests.contract.recording import HERE, Folder, digest, record
from tests.contract.states import Recorded, assert_not_needed, assert_rest_is_read

from fedmill_shared.messages import (
    ALL,
    UP,
    AgentState,
    InstallReport,
    InstallState,
    JobPhase,
    ReleaseNotice,
    VersionNotice,
    Wish,
)

BEFORE = test_wire_v2c.FOLDER
PHASE: dict[str, Any] = {
    "install": InstallReport(
        version=digest("version"),
        state=InstallState.ROLLED_BACK,
        release=3,
        gate="soak",
        reason="2 of 40 windows gave no number",
        evidence={"agreement": 0.9375, "p99_ms": 1.25},
        since_ns=1_700_000_000_000_000_000,
        serving=digest("base"),
    )
}
"""Later fields of each job in ``up-state``."""
NOTICE = recording.MESSAGES["all-version"]
SINCE = {"all-version": {"serve": False}}
"""Later fields of the other messages."""
NEW = {"all-release", "up-wish"}
"""Kinds of message that came with them."""


def state() -> AgentState:
    """The state that was recorded before, with what can be told since."""
    told = BEFORE.messages["up-state"]
    assert isinstance(told, AgentState)
    jobs = {job: structs.replace(phase, **PHASE) for job, phase in told.jobs.items()}
    return structs.replace(told, jobs=jobs)


def version() -> VersionNotice:
    """The version that was recorded first, which is not to be served by itself."""
    assert isinstance(NOTICE, VersionNotice)
    return structs.replace(NOTICE, **SINCE["all-version"])


MESSAGES: dict[str, msgspec.Struct] = {
    "up-state": state(),
    "up-wish": Wish(
        job="press", kind="round", reason="force: PSI 0.4", evidence={"psi": 0.4, "windows": 200.0}
    ),
    "all-version": version(),
    "all-release": ReleaseNotice(
        job="press", release=4, notice=version(), agents=["gw-1", "gw-2"], signature=b"signed"
    ),
    "all-release-everyone": ReleaseNotice(job="press", release=5, notice=version()),
}
FOLDER = Folder(HERE / "wire_v2d", MESSAGES)


class TestMessages(Recorded):
    """Of this recording."""

    folder = FOLDER

    def test_every_one_is_recorded(self) -> None:
        """No file is left to chance, and every new kind is among them."""
        assert FOLDER.kinds() == {*MESSAGES}
        kinds = {f"up-{kind}" for kind in UP} | {f"all-{kind}" for kind in ALL}
        assert FOLDER.kinds() >= NEW
        assert kinds >= NEW


class TestSoftwareBefore:
    def test_reads_the_rest_of_a_state(self) -> None:
        """It skips what it does not know, and finds the very message that was recorded before."""
        phase = test_wire_v2b.first(JobPhase, PHASE)
        of = test_wire_v2b.first(AgentState, (), {"jobs": dict[str, phase]})  # type: ignore[valid-type]
        decoder = msgspec.json.Decoder(of)
        assert decoder.decode(FOLDER.read("up-state")) == decoder.decode(BEFORE.read("up-state"))

    def test_reads_the_rest_of_a_version(self) -> None:
        """It would serve it; a job whose versions are not all served is one that it refuses."""
        assert_rest_is_read(FOLDER.read("all-version"), NOTICE, SINCE["all-version"])

    def test_serves_what_it_is_told_to(self) -> None:
        """What software before says of a version means that it is served, as it was until now."""
        assert_not_needed(NOTICE, "serve")


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
