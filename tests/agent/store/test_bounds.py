# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.reader import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.signals.windows import Window

DAY = 86400.0


def windows(first: int, last: int, run: str = "run", length: int = 1000) -> list[Window]:
    """Windows number ``first`` up to ``last`` of a run, 4 kB each."""
    values = np.zeros((1, length), np.float32)
    return [
        Window(run, f"unit of {run}", n * 10, n * 10 + 9, values, 1.0, n)
        for n in range(first, last)
    ]


def open_store(path: Path, max_bytes: int, clock: ManualClock | None = None) -> WindowStore:
    """A store that keeps windows for a day."""
    clock = clock or ManualClock()
    return WindowStore(path, clock=clock, max_bytes=max_bytes, max_age_seconds=DAY)


def labels(first: int, last: int, run: str = "run") -> list[LabelInterval]:
    """One class for each nanosecond."""
    return [LabelInterval(run, n, n, "ok") for n in range(first, last)]


class TestBytes:
    def test_the_file_stops_growing(self, tmp_path: Path) -> None:
        """Ten times the allowed bytes are written; the file holds, the newest windows stay."""
        path, limit = tmp_path / "s", 1 << 20
        with open_store(path, limit) as store:
            for n in range(100):
                store.add(windows(n * 25, n * 25 + 25), "train")
            kept = store.counts()["train"]
            store.add_labels([LabelInterval("run", 0, 10**9, "ok")])
            ends = store.load("train").end_ns
            assert store.discarded == 2500 - kept
            assert 120 < kept < 256
            assert ends.tolist() == [n * 10 + 9 for n in range(2500 - kept, 2500)]
        assert path.stat().st_size <= limit + 64 * 1024

    def test_the_oldest_go_whatever_their_split(self, tmp_path: Path) -> None:
        """Test windows are discarded too, and readers of that split are told."""
        with open_store(tmp_path / "s", 400_000) as store:
            store.add(windows(0, 20), "test")
            before = store.generation("test")
            store.add(windows(20, 120), "train")
            assert store.counts()["test"] == 0
            assert store.generation("test") > before

    def test_the_counter_survives_a_restart(self, tmp_path: Path) -> None:
        """What was discarded ever is known ever after."""
        with open_store(tmp_path / "s", 200_000) as store:
            store.add(windows(0, 100), "train")
            discarded = store.discarded
        assert discarded > 50
        with open_store(tmp_path / "s", 200_000) as store:
            assert store.discarded == discarded

    @pytest.mark.parametrize("length", [1, 30, 250, 900, 1100, 3000])
    def test_any_window_size_is_bounded(self, tmp_path: Path, length: int) -> None:
        """From 4 bytes to 12 kB a window: the pages in use stay within the bound."""
        with open_store(tmp_path / "s", 200_000) as store:
            for first in range(0, 1200, 60):
                store.add(windows(first, first + 60, length=length), "train")
                used, free, size = (
                    store._database.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("page_count", "freelist_count", "page_size")
                )
                assert (used - free) * size <= 200_000
            kept = store.counts()["train"]
            assert store.discarded + kept == 1200
            assert kept * 4 * length > 200_000 // 3 or kept > 500


class TestAge:
    def test_windows_leave_a_day_after_they_came(self, tmp_path: Path) -> None:
        """Age is time in the store: a replay of 1970 is not old on arrival."""
        clock = ManualClock()
        with open_store(tmp_path / "s", 1 << 22, clock) as store:
            store.add(windows(0, 3), "train")
            clock.advance(DAY / 2)
            store.add(windows(3, 5), "train")
            clock.advance(DAY / 2 + 1)
            store.add(windows(5, 6), "train")
            assert (store.counts()["train"], store.discarded) == (3, 3)
            clock.advance(2 * DAY)
            store.add(windows(6, 7), "train")
            assert (store.counts()["train"], store.discarded) == (1, 6)

    def test_labels_stay_as_long_as_their_windows(self, tmp_path: Path) -> None:
        """A label of a run that still delivers is kept, one of a run that is gone is not."""
        clock = ManualClock()
        with open_store(tmp_path / "s", 1 << 22, clock) as store:
            store.add_labels([*labels(0, 5, "gone"), LabelInterval("run", 0, 999, "ok")])
            clock.advance(DAY + 1)
            store.add(windows(0, 2), "train")
            store.add_labels([LabelInterval("new", 0, 1, "ok")])
            assert len(store.load("train")) == 2
            assert rows(store, "labels") == 2


class TestRows:
    def test_labels_and_predictions_are_bounded(self, tmp_path: Path) -> None:
        """An eighth of the bytes each, the newest stay."""
        with open_store(tmp_path / "s", 1 << 18) as store:
            outputs = np.zeros(64, np.float32)
            for n in range(0, 600, 50):
                store.add_labels(labels(n, n + 50))
                store.add_predictions(
                    [Prediction("r", i, "v", outputs, 0) for i in range(n, n + 50)]
                )
            assert rows(store, "labels") == (1 << 15) // 256
            assert [p.end_ns for p in store.predictions()] == list(range(600 - 64, 600))

    def test_repeating_one_label_pushes_no_other_out(self, tmp_path: Path) -> None:
        """A source that says the same every second keeps all that was said before."""
        with open_store(tmp_path / "s", 1 << 18) as store:
            store.add_labels(labels(0, 100))
            for _ in range(200):
                store.add_labels(labels(99, 100))
            assert rows(store, "labels") == 100

    def test_decisions_about_units_with_windows_stay(self, tmp_path: Path) -> None:
        """Of very many units the oldest are forgotten, but none whose windows are still here."""
        with open_store(tmp_path / "s", 1 << 16) as store:
            store.decide("run", "kept", lambda _: "test")
            store.decide("unit", "unit of kept", lambda _: "test")
            store.add(windows(0, 1, "kept", length=4), "test")
            for n in range(510):
                store.decide("run", f"r{n}", lambda _: "train")
            assert rows(store, "units") == (1 << 13) // 256 + 2
            assert store.decide("run", "kept", lambda _: "train") == "test"
            assert store.decide("unit", "unit of kept", lambda _: "train") == "test"
            assert store.decide("run", "r509", lambda _: "test") == "train"
            assert store.decide("run", "r0", lambda _: "validation") == "validation"


def rows(store: WindowStore, table: str) -> int:
    """Rows of a table."""
    query = f"SELECT count(*) FROM {table}"  # noqa: S608  # the names are ours
    return int(store._database.execute(query).fetchone()[0])
