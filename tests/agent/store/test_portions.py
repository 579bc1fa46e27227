# SPDX-License-Identifier: Apache-2.0
"""Stored windows a few at a time."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.store.portions import BYTES, WINDOWS, spread, together
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.signals.windows import Window


def open_store(path: Path, length: int = 8, count: int = 0) -> WindowStore:
    """A store with ``count`` training windows, whose values are their numbers."""
    store = WindowStore(
        path / "windows.sqlite", clock=ManualClock(), max_bytes=1 << 28, max_age_seconds=1e6
    )
    values = [np.full((1, length), n, np.float32) for n in range(count)]
    store.add([Window("r", "u", n, n, each, 1.0, n) for n, each in enumerate(values)], "train")
    return store


class TestSpread:
    @given(st.integers(0, 500), st.integers(1, 500))
    def test_places_lie_evenly(self, count: int, most: int) -> None:
        """All of them where there are few; else gaps differ by one at most."""
        places = spread(count, most)
        assert len(places) == min(count, most)
        assert places == sorted(set(places))
        assert all(0 <= place < count for place in places)
        gaps = set(np.diff([*places, count]).tolist())
        assert not gaps or max(gaps) - min(gaps) <= 1


class TestTogether:
    def test_both_bounds(self) -> None:
        """Some number of windows, some bytes, and one of whatever size."""
        assert together(8) == WINDOWS
        assert together(BYTES // 4) == 4
        assert together(2 * BYTES) == 1
        assert together(0) == WINDOWS  # of an empty store


class TestPortions:
    def test_in_order_and_bounded(self, tmp_path: Path) -> None:
        """Each window once."""
        with open_store(tmp_path, count=2 * WINDOWS + 3) as store:
            ids = store.some_windows("train", most=1000)[::-1]
            found = list(store.portions(ids))
        assert [len(there) for there, _ in found] == [WINDOWS, WINDOWS, 3]
        assert [each for there, _ in found for each in there] == ids
        values = np.concatenate([values for _, values in found])
        assert values[:, 0, 0].tolist() == list(range(2 * WINDOWS + 2, -1, -1))

    def test_large_windows_come_alone(self, tmp_path: Path) -> None:
        """Whatever their number."""
        with open_store(tmp_path, length=BYTES // 4, count=3) as store:
            ids = store.some_windows("train", most=3)
            assert [there for there, _ in store.portions(ids)] == [[each] for each in ids]

    def test_windows_that_go_meanwhile(self, tmp_path: Path) -> None:
        """The store is not held between two portions, and gives windows up."""
        with open_store(tmp_path, count=3 * WINDOWS) as store:
            ids = store.some_windows("train", most=1000)
            found = store.portions(ids)
            first, _ = next(found)
            store._write(lambda base: base.execute("DELETE FROM windows WHERE id > ?", (ids[40],)))
            assert [there for there, _ in found] == [ids[WINDOWS:41]]
            assert first == ids[:WINDOWS]
