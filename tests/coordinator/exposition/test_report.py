# SPDX-License-Identifier: Apache-2.0
"""How often the daemon tells how the fleet fares: telling must not slow down rounds."""

from pathlib import Path

import pytest
from msgspec import structs
from tests.coordinator.exposition.full import configured, fill

from fedmill_coordinator.counts import Counts
from fedmill_coordinator.exposition import report
from fedmill_coordinator.exposition.metric import Live
from fedmill_coordinator.exposition.report import Report
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.log import get_logger


class Told:
    """A report whose telling takes a while, and how often that was done."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.times = 0
        self.clock = ManualClock()
        config = structs.replace(configured(folder), metrics=None)
        with SqlStore.in_file(config.database) as store:
            fill(store)
        live = Live(1, connected=True, counts=Counts())
        self.report = Report(config, lambda: live, self.clock, get_logger())
        monkeypatch.setattr(report, "exposition", self._tell)

    def _tell(self, *_: object, now_ns: int) -> bytes:
        assert now_ns == self.clock.now_ns()
        self.times += 1
        self.clock.advance(self.seconds)
        return b"page"

    def after(self, seconds: float) -> int:
        """Ask after so many seconds; how often it was told in all."""
        self.clock.advance(seconds)
        assert self.report._tell() == b"page"
        return self.times


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Nothing was told yet."""
    return Told(tmp_path, monkeypatch)


def test_once_a_second(told: Told) -> None:
    """However many ask."""
    assert [told.after(0.3) for _ in range(5)] == [1, 1, 1, 1, 2]


def test_a_tenth_of_the_time_at_most(told: Told) -> None:
    """Where the fleet is large, so that it takes long."""
    told.seconds = 2.0
    assert [told.after(5.0) for _ in range(5)] == [1, 1, 1, 1, 2]
