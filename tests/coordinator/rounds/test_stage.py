# SPDX-License-Identifier: Apache-2.0
"""How far a job is: what is said of it is in the store already."""

import pytest

from fedmill_coordinator.rounds.stage import ENDED, Stage
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError


@pytest.fixture
def store() -> MemoryStore:
    """One job that waits."""
    made = MemoryStore()
    made.add_job(
        JobRecord(name="rig", text="", sha256="a" * 64, state="waiting", created_ns=1, updated_ns=1)
    )
    return made


@pytest.fixture
def stage(store: MemoryStore) -> Stage:
    """Where that job is."""
    return Stage("rig", store, ManualClock())


class TestStage:
    @pytest.mark.parametrize("state", ["waiting", "statistics", "running", "finished", "stopped"])
    def test_a_restart_finds_it(self, store: MemoryStore, stage: Stage, state: str) -> None:
        """Whatever state was entered, and whether there is an end to it."""
        stage.enter(state)
        again = Stage("rig", store, ManualClock())
        assert (again.state, again.paused, again.ended) == (state, False, state in ENDED)

    def test_a_pause_is_no_state(self, store: MemoryStore, stage: Stage) -> None:
        """A job is paused where it is, and goes on there."""
        stage.enter("running")
        stage.hold(paused=True)
        again = Stage("rig", store, ManualClock())
        assert (again.state, again.paused) == ("running", True)
        again.hold(paused=False)
        assert not Stage("rig", store, ManualClock()).paused

    def test_it_says_when_it_changed(self, store: MemoryStore) -> None:
        """By the wall clock."""
        clock = ManualClock()
        Stage("rig", store, clock).enter("running")
        record = store.job("rig")
        assert record is not None
        assert record.updated_ns == clock.now_ns()

    def test_what_cannot_be_stored_is_not_so(
        self, store: MemoryStore, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The disk is full: the job is where it was."""

        def full(*_: object, **__: object) -> None:
            raise StoreError("no space left on device")

        monkeypatch.setattr(store, "update_job", full)
        with pytest.raises(StoreError):
            stage.enter("stopped")
        with pytest.raises(StoreError):
            stage.hold(paused=True)
        assert (stage.state, stage.paused, stage.ended) == ("waiting", False, False)

    def test_a_job_that_nobody_entered(self) -> None:
        """It waits."""
        stage = Stage("rig", MemoryStore(), ManualClock())
        assert (stage.state, stage.paused) == ("waiting", False)
