# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.reader import run_end
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import DataError, SchemaError, StoreError
from fedmill_shared.signals.windows import Window

DAY = 86400.0


def window(n: int, run: str = "run", signals: int = 2, length: int = 8, fill: float = 0) -> Window:
    """Window number ``n`` of a run: samples 8n to 8n+7, one a nanosecond."""
    values = np.full((signals, length), fill or n, np.float32)
    return Window(run, "unit", n * length, (n + 1) * length - 1, values, 1.0, n)


def open_store(
    path: Path, max_bytes: int = 1 << 24, clock: ManualClock | None = None
) -> WindowStore:
    """The store at ``path``."""
    clock = clock or ManualClock()
    return WindowStore(path, clock=clock, max_bytes=max_bytes, max_age_seconds=30 * DAY)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WindowStore]:
    """An empty store."""
    with open_store(tmp_path / "windows.db") as opened:
        yield opened


def test_runs_of_a_machine(store: WindowStore) -> None:
    """Its own, and one for each part; not those of a machine that is called nearly the same."""
    assert store._read(lambda database: run_end(database, "press")) is None
    store.add([window(0, run="press-2"), window(1, run="press0"), window(2, run="pres/1")], "train")
    assert store._read(lambda database: run_end(database, "press")) is None
    store.add([window(3, run="press/P-7")], "train")
    assert store._read(lambda database: run_end(database, "press")) is not None
    store.add([window(4, run="drill")], "test")
    assert store._read(lambda database: run_end(database, "drill")) is not None


class TestLoad:
    def test_windows_come_back_with_their_labels(self, store: WindowStore) -> None:
        """Values bit for bit, ordered by run and time whatever the order of arrival."""
        generator = np.random.default_rng(0)
        given = {
            (run, n): Window(
                run,
                f"machine {run}",
                n * 8,
                n * 8 + 7,
                generator.normal(size=(2, 8)).astype("f4"),
                1.0,
                n,
            )
            for run in "ba"
            for n in (2, 0, 1)
        }
        assert store.add(list(given.values()), "train") == 6
        store.add_labels([LabelInterval("a", 0, 100, text="ok"), LabelInterval("b", 0, 15, "worn")])
        found = store.load("train")
        keys = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
        assert found.inputs.tobytes() == np.stack([given[key].values for key in keys]).tobytes()
        assert found.texts == ["ok", "ok", "ok", "worn", "worn"]
        assert found.runs == ["a", "a", "a", "b", "b"]
        assert found.units == ["machine a"] * 3 + ["machine b"] * 2
        assert found.end_ns.tolist() == [7, 15, 23, 7, 15]
        assert np.isnan(found.numbers).all()
        assert len(found) == 5

    def test_numbers_and_last_windows(self, store: WindowStore) -> None:
        """The last window of a run is the last there is, labelled or not."""
        store.add([window(n, run) for run in ("a", "b") for n in range(4)], "test")
        store.add_labels([LabelInterval("a", 0, 31, "", 31.0, 0.0), LabelInterval("b", 0, 23)])
        assert store.load("test").numbers.tolist() == [24.0, 16.0, 8.0, 0.0, 0.0, 0.0, 0.0]

    def test_a_task_wants_its_own_labels(self, store: WindowStore) -> None:
        """Classes and numbers in one store do not disturb each other."""
        store.add([window(0), window(1)], "train")
        store.add_labels([LabelInterval("run", 0, 7, "ok"), LabelInterval("run", 15, 15, "", 3, 3)])
        assert store.load("train", task="classification").texts == ["ok"]
        assert store.load("train", task="regression").numbers.tolist() == [3.0]
        assert store.labelled("regression") == {"train": 1, "validation": 0, "test": 0}
        assert store.labelled() == {"train": 2, "validation": 0, "test": 0}

    def test_splits_are_apart(self, store: WindowStore) -> None:
        """Counts and loads see one split each; an empty one is empty, not an error."""
        store.add([window(0)], "train")
        store.add([window(1), window(2)], "validation")
        assert store.counts() == {"train": 1, "validation": 2, "test": 0}
        assert len(store.load("test")) == 0
        assert len(store.load("validation").inputs) == 0

    def test_labels_may_come_first(self, store: WindowStore) -> None:
        """Ground truth that is known before its window is kept for it."""
        store.add_labels([LabelInterval("run", 0, 7, "ok")])
        store.add([window(0)], "train")
        assert store.load("train").texts == ["ok"]


class TestAdd:
    def test_the_same_window_is_stored_once(self, store: WindowStore) -> None:
        """A replay that starts over after a crash adds only what is new."""
        assert store.add([window(0), window(1)], "train") == 2
        assert store.add([window(0), window(1), window(2)], "train") == 1
        assert store.add([window(2)], "test") == 0
        assert store.counts() == {"train": 3, "validation": 0, "test": 0}

    def test_bad_windows_are_left_out(self, store: WindowStore) -> None:
        """A value that is not finite never reaches training."""
        bad = window(0, fill=float("nan"))
        assert store.add([bad, window(1)], "train") == 1
        assert store.add([bad], "train") == 0

    def test_another_shape_is_refused(self, store: WindowStore) -> None:
        """Windows of a changed job do not mix with the old ones, also after a restart."""
        with pytest.raises(SchemaError, match="cannot join"):
            store.add([window(0), window(1, length=9)], "train")
        assert store.counts()["train"] == 0
        store.add([window(0)], "train")
        with pytest.raises(SchemaError, match=r"\(2, 9\).*\(2, 8\)"):
            store.add([window(1, length=9)], "train")

    def test_nothing_is_nothing(self, store: WindowStore) -> None:
        """Empty calls change nothing."""
        before = store.generation()
        assert store.add([], "train") == 0
        store.add_labels([])
        store.add_predictions([])
        assert store.generation() == before

    def test_threads_share_a_store(self, store: WindowStore) -> None:
        """Three threads write and read at once; nothing is lost."""

        def work(name: str) -> None:
            for n in range(15):
                store.add([window(n, name)], "train")
                store.add_labels([LabelInterval(name, n * 8, n * 8 + 7, "ok")])
                store.counts()

        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.load("train")) == 45


class TestLabels:
    def test_the_latest_arrival_wins(self, store: WindowStore) -> None:
        """Also a label that was there before, and with a clock that stands still or goes back."""
        store.add([window(0)], "train")
        first, second = LabelInterval("run", 0, 7, "ok"), LabelInterval("run", 0, 9, "worn")
        store.add_labels([first, second])
        assert store.load("train").texts == ["worn"]
        store.add_labels([first])
        assert store.load("train").texts == ["ok"]
        store._clock.advance(-3600)  # type: ignore[attr-defined]  # a ManualClock
        store.add_labels([second])
        assert store.load("train").texts == ["worn"]

    @pytest.mark.parametrize(
        "label",
        [
            LabelInterval("r", 5, 4, "x"),
            LabelInterval("r", 0, 1 << 63, "x"),
            LabelInterval("r", -(1 << 64), 0, "x"),
            LabelInterval("r", 0, 1, "", float("nan"), 0.0),
            LabelInterval("r", 0, 1, "", 0.0, float("nan")),
            LabelInterval("r", 0, 1, "", float("-inf"), 0.0),
            LabelInterval("r", 0, 1, "", 0.0, 1e39),
        ],
    )
    def test_nonsense_is_refused(self, store: WindowStore, label: LabelInterval) -> None:
        """An interval that runs backwards or out of all time, or no number of 32 bits."""
        with pytest.raises(DataError, match="not usable"):
            store.add_labels([label])


class TestGeneration:
    def test_it_changes_with_its_split(self, store: WindowStore) -> None:
        """New windows and labels move their split's number and no other's; repeats move none."""
        store.add([window(0)], "train")
        store.add([window(0, "other")], "test")
        train, test, any_ = (store.generation(s) for s in ("train", "test", None))
        store.add([window(0)], "train")
        store.add_labels([LabelInterval("unknown", 0, 7, "ok")])
        assert store.generation("train") == train
        store.add_labels([LabelInterval("run", 0, 7, "ok")])
        assert store.generation("train") > train
        assert store.generation("test") == test
        assert store.generation() > any_

    def test_it_survives_a_restart(self, tmp_path: Path) -> None:
        """The number belongs to the file, not to the process."""
        with open_store(tmp_path / "s") as store:
            store.add([window(0)], "train")
            before = store.generation("train")
        with open_store(tmp_path / "s", clock=ManualClock(1)) as store:
            assert store.generation("train") == before


class TestPredictions:
    def test_they_come_back(self, store: WindowStore) -> None:
        """The newest ones in order; the same window and version again replaces."""
        for n in range(4):
            store.add_predictions([Prediction("r", n, "v1", np.array([n, 0.5], np.float32), n)])
        store.add_predictions([Prediction("r", 3, "v1", np.array([9, 9], np.float32), 8)])
        found = store.predictions(2)
        assert store.prediction_count() == 4
        assert [(p.end_ns, p.version, p.outputs.tolist(), p.scored_ns) for p in found] == [
            (2, "v1", [2, 0.5], 2),
            (3, "v1", [9, 9], 8),
        ]


class TestFaults:
    def test_a_closed_store_says_so(self, store: WindowStore) -> None:
        """Not a Python traceback of the database module."""
        store.close()
        with pytest.raises(StoreError, match=r"windows\.db"):
            store.counts()

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        """A file stands where the state folder should be."""
        (tmp_path / "state").write_text("")
        with pytest.raises(StoreError, match="state"):
            open_store(tmp_path / "state" / "windows.db")

    def test_a_folder_in_place_of_the_file(self, tmp_path: Path) -> None:
        """It cannot be opened, and it is not set aside either."""
        (tmp_path / "windows.db").mkdir()
        with pytest.raises(StoreError, match="check that it exists"):
            open_store(tmp_path / "windows.db")


class TestBackfill:
    def test_until_it_is_done(self, tmp_path: Path) -> None:
        """It is wanted once, and after a restart in its midst from where the windows end."""
        with open_store(tmp_path / "s") as store:
            beginning = store.begin_backfill("line", "press")
            assert beginning is not None
            assert beginning < 0
            assert store.begin_backfill("line", "press") == beginning
            found = [window(n, "press/part 1") for n in range(3)]
            store.add(found, "train")
        with open_store(tmp_path / "s") as store:
            assert store.begin_backfill("line", "press") == found[-1].end_ns + 1
            store.end_backfill("line")
            assert store.begin_backfill("line", "press") is None
        with open_store(tmp_path / "s") as store:
            assert store.begin_backfill("line", "press") is None
            assert store.begin_backfill("other", "oven") == beginning

    def test_a_store_of_before(self, tmp_path: Path) -> None:
        """One that has windows and never began: what comes is enough."""
        with open_store(tmp_path / "s") as store:
            store.add([window(0, "press")], "train")
            assert store.begin_backfill("line", "press") is None
