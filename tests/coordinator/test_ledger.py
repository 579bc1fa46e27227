# SPDX-License-Identifier: Apache-2.0
"""Bytes that were counted are found again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from fedmill_coordinator.counts import Counts, load_counts
from fedmill_coordinator.ledger import SAVE_SECONDS, Ledger
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord, RoundRecord, VersionRecord
from fedmill_coordinator.traffic import Traffic
from fedmill_shared.clock import ManualClock

BASE = "b" * 64


@pytest.fixture
def store() -> MemoryStore:
    """A job with a version and no round."""
    made = MemoryStore()
    made.add_job(
        JobRecord(name="rig", text="", sha256=BASE, state="running", created_ns=1, updated_ns=1)
    )
    made.add_version(
        VersionRecord(
            job="rig",
            number=0,
            version=BASE,
            base=None,
            weights=None,
            delta=None,
            canary_outputs=b"",
            round=None,
            created_ns=1,
        )
    )
    return made


@pytest.fixture
def clock() -> ManualClock:
    """The test's own time."""
    return ManualClock()


@pytest.fixture
def start(
    store: MemoryStore, clock: ManualClock, tmp_path: Path
) -> Callable[[], tuple[Traffic, Ledger]]:
    """A new process on the same rows."""

    def made() -> tuple[Traffic, Ledger]:
        traffic = Traffic()
        ledger = Ledger(traffic, store, clock, Counts(), tmp_path)
        ledger.resume("rig")
        return traffic, ledger

    return made


Start = Callable[[], tuple[Traffic, Ledger]]


def open_round(store: MemoryStore, number: int) -> RoundRecord:
    """A round that is open."""
    record = RoundRecord(
        job="rig", round=number, base=BASE, state="open", opened_ns=1, deadline_ns=2
    )
    store.open_round(record)
    return record


class TestNumber:
    """Under which round counts are saved."""

    def test_before_the_first(self, store: MemoryStore, start: Start) -> None:
        """What the statistics cost belongs to round 1."""
        traffic, ledger = start()
        traffic.up(["rig"], "a", "t", 9)
        ledger.save(["rig"])
        assert [record.round for record in store.traffic("rig", 1)] == [1]

    def test_the_open_one(self, store: MemoryStore, start: Start) -> None:
        """It is its own."""
        for number in (1, 2):
            open_round(store, number)
            if number == 1:
                store.abandon_round("rig", 1, closed_ns=3, report="{}")
        traffic, ledger = start()
        traffic.up(["rig"], "a", "t", 9)
        ledger.save(["rig"])
        assert (store.traffic("rig", 1), len(store.traffic("rig", 2))) == ([], 1)

    def test_after_the_last(self, store: MemoryStore, start: Start) -> None:
        """The number that would come next, so that nothing changes what has ended."""
        closed = structs.replace(open_round(store, 1), state="closed", closed_ns=3)
        store.close_round(
            closed,
            None,
            included=[],
            rule_state=b"",
            downlink_residual=None,
            job_state="finished",
        )
        traffic, ledger = start()
        traffic.up(["rig"], "a", "t", 9)
        ledger.save(["rig"])
        assert (store.traffic("rig", 1), len(store.traffic("rig", 2))) == ([], 1)


class TestRestart:
    """A process goes on where the one before it ended."""

    def test_counts_go_on(self, start: Start) -> None:
        """Any number of times; nothing counts twice."""
        for turn in range(1, 4):
            traffic, ledger = start()
            traffic.up(["rig"], "a", "t", 100)
            ledger.save(["rig"])
            assert traffic.total("rig") == (turn * 108, turn * 4)

    def test_nothing_was_saved(self, start: Start) -> None:
        """Counts begin at nothing."""
        traffic, _ = start()
        assert traffic.records("rig", 1) == []

    def test_a_round_that_ended_meanwhile(self, store: MemoryStore, start: Start) -> None:
        """Its bytes are its own: the next round begins with none of them."""
        open_round(store, 1)
        traffic, ledger = start()
        traffic.up(["rig"], "a", "t", 100)
        ledger.save(["rig"])
        records = traffic.records("rig", 1)
        store.abandon_round("rig", 1, closed_ns=3, report="{}", traffic=records)
        traffic.clear("rig")
        traffic.up(["rig"], "a", "t", 100)
        ledger.save(["rig"])
        assert store.traffic("rig", 1) == records
        assert store.traffic_by_agent("rig") == {"a": (216, 8)}


class TestWhen:
    """How often the disk is asked."""

    def test_every_half_minute(self, store: MemoryStore, start: Start, clock: ManualClock) -> None:
        """Not before, and then again only after as long."""
        traffic, ledger = start()
        traffic.up(["rig"], "a", "t", 9)
        clock.advance(SAVE_SECONDS - 0.1)
        ledger.save_due(["rig"])
        assert store.traffic("rig", 1) == []
        clock.advance(0.1)
        ledger.save_due(["rig"])
        saved = store.traffic("rig", 1)
        assert len(saved) == 1
        traffic.up(["rig"], "a", "t", 9)
        ledger.save_due(["rig"])
        assert store.traffic("rig", 1) == saved

    def test_nothing_new(
        self, store: MemoryStore, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What has not changed is not written again."""
        traffic, ledger = start()
        traffic.up(["rig"], "a", "t", 9)
        ledger.save(["rig"])
        saved: list[int] = []
        monkeypatch.setattr(store, "save_traffic", lambda _job, number, _: saved.append(number))
        ledger.save(["rig"])
        assert saved == []
        traffic.up(["rig"], "a", "t", 9)
        ledger.save(["rig"])
        assert saved == [1]


class TestCounts:
    """What no row remembers."""

    def test_are_saved_with_the_bytes(
        self, store: MemoryStore, clock: ManualClock, tmp_path: Path
    ) -> None:
        """A kill loses what was counted in the last half minute."""
        counts = Counts()
        ledger = Ledger(Traffic(), store, clock, counts, tmp_path)
        counts.add("updates", "rig", "refused", "forged")
        ledger.save_due(["rig"])
        assert list(load_counts(tmp_path).of("updates")) == []
        clock.advance(SAVE_SECONDS)
        ledger.save_due(["rig"])
        assert list(load_counts(tmp_path).of("updates")) == [(("rig", "refused", "forged"), 1)]
