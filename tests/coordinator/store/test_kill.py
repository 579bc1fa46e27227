# SPDX-License-Identifier: Apache-2.0
"""Kill -9 at any point: what was told as done is there, and nothing is there by half."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fedmill_coordinator.store.sql import SqlStore

SCRIPT = Path(__file__).with_name("crashing_coordinator.py")


class TestCloseRound:
    def test_is_all_or_nothing_at_every_statement(self, tmp_path: Path) -> None:
        """Killed before any of its statements or its commit, the close has not begun."""
        done = subprocess.run(
            [sys.executable, str(SCRIPT), "close", str(tmp_path / "coordinator.db")],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        *killed, ended = done.stdout.splitlines()
        assert len(killed) >= 8
        assert set(killed) == {"-9 open received,received,received 1 0 - 4"}
        assert ended == "0 closed included,included,late 2 1 1 3"


class TestRounds:
    @pytest.mark.parametrize("calls", [1, 4, 13, 40])
    def test_every_call_that_returned_is_there(self, tmp_path: Path, calls: int) -> None:
        """Killed between or inside calls, all that was told is there, and only whole rounds."""
        path = tmp_path / "coordinator.db"
        with subprocess.Popen(
            [sys.executable, str(SCRIPT), "rounds", str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            told = [child.stdout.readline().split() for _ in range(calls)]
            child.kill()
            told += [line.split() for line in child.stdout.read().splitlines()]
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with SqlStore.in_file(path) as store:
            assert_told(store, [(what, int(number)) for what, number in told])
            assert_whole(store)


def assert_told(store: SqlStore, told: list[tuple[str, int]]) -> None:
    """Every call of ``told`` left its rows."""
    for what, number in told:
        found = store.round("bearings", number)
        assert found is not None
        if what == "close":
            assert found.state == "closed"
        elif what != "open":
            assert what in {update.agent for update in store.updates("bearings", number)}


def assert_whole(store: SqlStore) -> None:
    """Every closed round has its version, only the last may be open, and the job fits both."""
    rounds, versions = store.rounds("bearings"), store.versions("bearings")
    closed = [record.round for record in rounds if record.state == "closed"]
    assert [version.number for version in versions] == [0, *closed]
    assert [record.state for record in rounds[:-1]] == ["closed"] * (len(rounds) - 1)
    for number in closed:
        states = [update.state for update in store.updates("bearings", number)]
        assert states == ["included", "included", "late"]
    job, candidate = store.job("bearings"), store.alias("bearings", "candidate")
    assert job is not None
    if closed:
        assert candidate is not None
        assert candidate.version == versions[-1].version
        assert job.rule_state == b"%d" % closed[-1]
