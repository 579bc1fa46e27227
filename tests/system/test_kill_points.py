# SPDX-License-Identifier: Apache-2.0
"""Kill -9 at every step that changes a disk or tells somebody: the job ends as if nothing was.

One process is killed several times in the course of a job, so that the cost of starting a
federation is shared: each start fails at the next point of a list. Numbers of calls are chosen so
that they come before, in the midst of and after the updates of a round.
"""

import signal
from pathlib import Path

import pytest
from tests.faults.federation import FaultyFleet, faulty
from tests.system.fleet import COORDINATOR, a_job

pytestmark = [pytest.mark.system, pytest.mark.drill]

COORDINATOR_KILLS = {
    "version 0 and rounds": (
        "before-commit:3",
        "before-version-add",
        "after-version-add",
        "before-round-open:2",
        "after-round-open:2",
        "before-round-close",
        "after-commit:9",
    ),
    "files and messages": (
        "before-rename:6",
        "after-write:9",
        "before-fsync:5",
        "after-round-close:2",
        "before-update-add:3",
        "after-update-add:2",
        "after-publish:9",
    ),
}
AGENT_KILLS = {
    "windows and model": (
        "before-window-commit:3",
        "after-window-commit:5",
        "before-write:2",
        "before-shelf-activate:2",
        "after-shelf-activate:2",
        "before-trainer-submit:2",
    ),
    "outbox and residual": (
        "before-outbox-put:2",
        "after-outbox-put",
        "before-outbox-take",
        "after-outbox-take",
        "before-residual-save:2",
        "after-residual-save",
        "before-rename:9",
    ),
    "messages": ("after-trainer-submit:3", "before-publish:6", "after-publish:9", "before-fsync:6"),
}
WINDOWS = {"train": 94, "validation": 0, "test": 94}
"""Of two recordings of a second in each of the two splits."""


def kill_one_by_one(fleet: FaultyFleet, name: str, points: tuple[str, ...]) -> None:
    """Start ``name`` to be killed at each of ``points``, then for good, and end the job."""
    for point in points:
        fleet.start_faulty(name, point)
        assert fleet.end_of(name) == -signal.SIGKILL, point
    fleet.start(name)
    fleet.finish()


@pytest.mark.parametrize("kills", COORDINATOR_KILLS)
def test_coordinator(tmp_path: Path, kills: str) -> None:
    """Every round is closed once, with the update of every agent, and every version is there."""
    job = a_job(rounds=60, deadline_seconds=60.0)
    with faulty(tmp_path / "fleet", job, start=("agent-1", "agent-2")) as fleet:
        kill_one_by_one(fleet, COORDINATOR, COORDINATOR_KILLS[kills])
        fleet.check_books()


@pytest.mark.parametrize("kills", AGENT_KILLS)
def test_agent(tmp_path: Path, kills: str) -> None:
    """Every round waits for its update and has it once; windows are stored once."""
    job = a_job(rounds=60, deadline_seconds=60.0, minimum=1)
    with faulty(tmp_path / "fleet", job, agents=1, start=(COORDINATOR,)) as fleet:
        kill_one_by_one(fleet, "agent-1", AGENT_KILLS[kills])
        fleet.check_books()
        with fleet.windows("agent-1") as store:
            windows = {str(split): count for split, count in store.counts().items()}
        assert windows == WINDOWS
