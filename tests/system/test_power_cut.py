# SPDX-License-Identifier: Apache-2.0
"""The power fails at some write: what is on the disk then is enough to go on from.

The state folder is copied in the midst of a write; a file that was about to be synced keeps only
half of what was written. The process that wrote it is killed a moment later, and the next one
finds the copy in the place of the folder: what happened after the cut, also what others were told,
is not on this disk. The cuts of one process follow each other in the course of a job, so that the
cost of starting a federation is shared.
"""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.faults.federation import FaultyFleet, faulty
from tests.system.fleet import COORDINATOR, a_job

pytestmark = [pytest.mark.system, pytest.mark.drill]

POINTS = ("before-fsync", "before-rename", "after-rename")
SEED = 20


def cuts(name: str, largest: int) -> list[str]:
    """Each point with the number of a call, the same in every run."""
    rng = random.Random(f"{SEED} {name}")
    return [f"{point}:{rng.randint(2, largest)}" for point in POINTS]


def cut_power(fleet: FaultyFleet, name: str, point: str, copy: Path) -> None:
    """Run ``name`` until its state is copied at ``point``, and put the copy in its place."""
    fleet.start_faulty(name, point, f"copy:{copy}")
    fleet.wait(f"a copy at {point}", copy.exists)
    fleet.kill(name)
    state = fleet.state_folder(name)
    shutil.rmtree(state)
    copy.rename(state)


def test_coordinator(tmp_path: Path) -> None:
    """It goes on from the disk, whatever it had said after each cut; agents follow it."""
    job = a_job(rounds=30, deadline_seconds=20.0)
    with faulty(tmp_path / "fleet", job, start=("agent-1", "agent-2")) as fleet:
        for point in cuts(COORDINATOR, 20):
            cut_power(fleet, COORDINATOR, point, tmp_path / "copy")
        fleet.start(COORDINATOR)
        fleet.finish()
        fleet.check_books(every_agent=False)


def test_agent(tmp_path: Path) -> None:
    """It takes part again after each cut, and no update of it counts twice."""
    job = a_job(rounds=30, deadline_seconds=20.0, minimum=1)
    with faulty(tmp_path / "fleet", job, agents=1, start=(COORDINATOR,)) as fleet:
        for point in cuts("agent", 14):
            cut_power(fleet, "agent-1", point, tmp_path / "copy")
        fleet.start("agent-1")
        fleet.finish()
        fleet.check_books(every_agent=False)


def test_agent_that_lost_the_last_transactions_of_its_windows(tmp_path: Path) -> None:
    """The write-ahead log ends in the midst of a frame: recordings are read again, once each."""
    job = a_job(rounds=3, deadline_seconds=20.0, minimum=1)
    with faulty(tmp_path / "fleet", job, agents=1, start=(COORDINATOR,)) as fleet:
        cut_power(fleet, "agent-1", "after-window-commit:6", tmp_path / "copy")
        (log,) = fleet.state("agent-1").glob("jobs/*/windows-*.sqlite-wal")
        with log.open("r+b") as file:
            file.truncate(log.stat().st_size * 2 // 3)
        fleet.start("agent-1")
        fleet.finish()
        fleet.check_books()
        with fleet.windows("agent-1") as store:
            assert sum(store.counts().values()) == 188
        (database,) = fleet.state("agent-1").glob("jobs/*/windows-*.sqlite")
        with sqlite3.connect(database) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
