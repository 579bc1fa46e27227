# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.bounds import Rules
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.ring import Discard, file_bytes, used_bytes
from fedmill_agent.store.space import Level
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


def open_store(
    path: Path, max_bytes: int, clock: ManualClock | None = None, rules: Rules | None = None
) -> WindowStore:
    """A store that keeps windows for a day."""
    clock = clock or ManualClock()
    return WindowStore(path, clock=clock, max_bytes=max_bytes, max_age_seconds=DAY, rules=rules)


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
            assert kept * 4 * length > 200_000 // 3 or kept > 450


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
    query = f"SELECT count(*) FROM {table}"  # noqa: S608  the names are ours
    return int(store._database.execute(query).fetchone()[0])


def used(store: WindowStore) -> int:
    """Bytes of the pages in use."""
    return used_bytes(store._database)


def stored(store: WindowStore) -> list[int]:
    """Numbers of the windows that are there, in the order in which they came."""
    rows = store._database.execute("SELECT start_ns FROM windows ORDER BY id").fetchall()
    return [row[0] // 10 for row in rows]


def predictions(first: int, last: int, scored_ns: int = 0) -> list[Prediction]:
    """Predictions number ``first`` up to ``last``, half a kB each."""
    outputs = np.zeros(64, np.float32)
    return [Prediction("r", n, "v", outputs, scored_ns) for n in range(first, last)]


class TestReload:
    def test_a_hundred_of_them_lose_nothing(self, tmp_path: Path) -> None:
        """Opened a hundred times, each with other rules that suffice: all is there."""
        for n in range(100):
            discard: Discard = ("oldest", "thin", "newest")[n % 3]
            rules = Rules(discard, 1 << 20)
            with open_store(tmp_path / "s", (1 << 24) + n, rules=rules) as store:
                store.add(windows(n, n + 1, length=10), "train")
                store.add_labels([LabelInterval("run", n * 10, n * 10 + 9, f"class {n}")])
                store.add_predictions(predictions(n, n + 1))
                assert store.discarded == 0
        with open_store(tmp_path / "s", 1 << 24) as store:
            assert store.load("train").texts == [f"class {n}" for n in range(100)]
            assert [p.end_ns for p in store.predictions()] == list(range(100))


class TestNewest:
    rules = Rules(discard="newest")

    def test_what_comes_is_refused_and_counted(self, tmp_path: Path) -> None:
        """The first windows stay for ever; a repeat of one of them is no refusal."""
        with open_store(tmp_path / "s", 400_000, rules=self.rules) as store:
            added = sum(store.add(windows(n, n + 10), "train") for n in range(0, 200, 10))
            assert stored(store) == list(range(added))
            assert 50 < added < 100
            assert store.discarded == 200 - added
            assert used(store) <= 400_000
            assert store.add(windows(0, 10), "train") == 0
            assert store.discarded == 200 - added

    def test_age_makes_room_again(self, tmp_path: Path) -> None:
        """What is too old goes whatever the policy."""
        clock = ManualClock()
        with open_store(tmp_path / "s", 400_000, clock, self.rules) as store:
            store.add(windows(0, 200), "train")
            clock.advance(DAY + 1)
            assert store.add(windows(200, 210), "train") == 10
            assert stored(store) == list(range(200, 210))

    def test_predictions(self, tmp_path: Path) -> None:
        """The first ones stay; what a prediction that is there says may change."""
        with open_store(tmp_path / "s", 1 << 18, rules=self.rules) as store:
            for n in range(0, 600, 50):
                store.add_predictions(predictions(n, n + 50))
            store.add_predictions([Prediction("r", 3, "v", np.ones(64, np.float32), 7)])
            found = store.predictions()
            assert [p.end_ns for p in found] == list(range(64))
            assert found[3].outputs.tolist() == [1.0] * 64


class TestThin:
    rules = Rules(discard="thin")

    def test_the_past_becomes_sparse_and_the_present_stays_whole(self, tmp_path: Path) -> None:
        """Ten times what fits: from the oldest on, gaps of 2^k, and none among the newest."""
        with open_store(tmp_path / "s", 1 << 20, rules=self.rules) as store:
            for n in range(0, 2500, 5):
                store.add(windows(n, n + 5), "train")
                assert used(store) <= 1 << 20
            found = np.array(stored(store))
            assert 100 < len(found) == 2500 - store.discarded
            gaps = np.diff(found)
            quarter = len(gaps) // 4
            assert found[0] < 100  # a straight ring would have lost the first two thousand
            assert (gaps[-quarter:] == 1).all()
            means = [gaps[i * quarter : (i + 1) * quarter].mean() for i in range(4)]
            assert means == sorted(means, reverse=True)

    def test_runs_that_take_turns_lose_alike(self, tmp_path: Path) -> None:
        """Two machines that deliver alternately, and three, and one window of many each."""
        for runs in (2, 3, 24):
            with open_store(tmp_path / f"s{runs}", 1 << 20, rules=self.rules) as store:
                for n in range(1200):
                    store.add(windows(n, n + 1, f"run {n % runs:02}"), "train")
                query = "SELECT count(*) FROM windows GROUP BY run"
                counts = [row[0] for row in store._database.execute(query)]
                assert len(counts) == runs
                assert max(counts) <= 1.35 * min(counts) + 2

    def test_labels_of_windows_that_stay_stay(self, tmp_path: Path) -> None:
        """Every window that is left has the label it had."""
        with open_store(tmp_path / "s", 400_000, rules=self.rules) as store:
            for n in range(300):
                store.add(windows(n, n + 1), "train")
                store.add_labels([LabelInterval("run", n * 10, n * 10 + 9, f"class {n}")])
            kept = stored(store)
            assert store.load("train").texts == [f"class {n}" for n in kept]

    def test_predictions(self, tmp_path: Path) -> None:
        """As many as fit, the oldest still among them, and the newest."""
        with open_store(tmp_path / "s", 1 << 18, rules=self.rules) as store:
            for n in range(600):
                store.add_predictions(predictions(n, n + 1))
            ends = [p.end_ns for p in store.predictions()]
            assert 48 <= len(ends) <= 64
            assert ends[0] < 20
            assert ends[-20:] == list(range(580, 600))

    def test_too_few_to_thin(self, tmp_path: Path) -> None:
        """Two windows that do not fit together: the older one goes."""
        with open_store(tmp_path / "s", 1_000_000, rules=self.rules) as store:
            for n in range(3):
                store.add(windows(n, n + 1, length=150_000), "train")
                assert used(store) <= 1_000_000
            assert stored(store) == [2]

    def test_the_splits_that_changed_are_told(self, tmp_path: Path) -> None:
        """Readers of a split that became sparse load it again."""
        with open_store(tmp_path / "s", 400_000, rules=self.rules) as store:
            store.add(windows(0, 40), "test")
            before = store.generation("test")
            store.add(windows(40, 120), "train")
            assert store.generation("test") > before


class TestPredictions:
    def test_they_have_bytes_of_their_own(self, tmp_path: Path) -> None:
        """An eighth of the file unless told otherwise."""
        rules = Rules(predictions_max_bytes=1 << 14)
        with open_store(tmp_path / "s", 1 << 18, rules=rules) as store:
            store.add_predictions(predictions(0, 100))
            assert store.prediction_count() == (1 << 14) // 512

    def test_they_have_an_age_of_their_own(self, tmp_path: Path) -> None:
        """An hour after they were made they go."""
        clock = ManualClock()
        rules = Rules(predictions_max_age_seconds=3600.0)
        with open_store(tmp_path / "s", 1 << 18, clock, rules) as store:
            store.add_predictions(predictions(0, 5, clock.now_ns()))
            clock.advance(3601)
            store.add_predictions(predictions(5, 7, clock.now_ns()))
            assert [p.end_ns for p in store.predictions()] == [5, 6]

    def test_another_version_wrote_too(self, tmp_path: Path) -> None:
        """Rows that were not counted are counted when they are met."""
        with open_store(tmp_path / "s", 1 << 18) as store:
            store.add_predictions(predictions(0, 10))
            store._database.execute(
                "INSERT INTO predictions (run, end_ns, version, outputs, scored_ns)"
                " SELECT 'old', end_ns, version, outputs, 0 FROM predictions"
            )
            store.add_predictions(predictions(10, 70))
            assert store.prediction_count() == 64


class TestLevel:
    @pytest.mark.parametrize("discard", ["oldest", "thin", "newest"])
    def test_a_scarce_disk_holds_the_file_where_it_is(
        self, tmp_path: Path, discard: Discard
    ) -> None:
        """Below half of the floor a window takes the place of another; with room it grows again."""
        level: list[Level] = ["ample"]
        rules = Rules(discard=discard, level=lambda: level[0])
        with open_store(tmp_path / "s", 1 << 24, rules=rules) as store:
            store.add(windows(0, 400), "train")
            size = file_bytes(store._database)
            level[0] = "scarce"
            for n in range(400, 600, 5):
                store.add(windows(n, n + 5), "train")
            assert file_bytes(store._database) <= size + 20 * 8192
            assert (stored(store)[-1] > 590) is (discard != "newest")
            level[0] = "ample"
            store.add(windows(600, 1000), "train")
            assert store.discarded < 250
            assert file_bytes(store._database) > 1.5 * size

    def test_a_fresh_store_may_grow_a_little_on_a_scarce_disk(self, tmp_path: Path) -> None:
        """A megabyte, or it would be of no use on a small disk."""
        rules = Rules(level=lambda: "scarce")
        with open_store(tmp_path / "s", 1 << 24, rules=rules) as store:
            store.add(windows(0, 100), "train")
            assert store.counts()["train"] == 100
            store.add(windows(100, 1000), "train")
            assert used(store) <= 1_000_000

    def test_predictions_hold_on_a_low_disk(self, tmp_path: Path) -> None:
        """They take no more space, the newest are there, and windows still grow."""
        level: list[Level] = ["ample"]
        rules = Rules(level=lambda: level[0])
        with open_store(tmp_path / "s", 1 << 24, rules=rules) as store:
            store.add_predictions(predictions(0, 1000))
            level[0] = "low"
            for n in range(1000, 1200, 10):
                store.add_predictions(predictions(n, n + 10))
            assert [p.end_ns for p in store.predictions()] == list(range(200, 1200))
            store.add(windows(0, 400), "train")
            assert store.counts()["train"] == 400
