# SPDX-License-Identifier: Apache-2.0
"""Predictions are judged by truth that comes later, whether their windows were stored or not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.agent.drift.kit import SECOND, steady, windows

from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.signals.windows import Window


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WindowStore]:
    """An empty store."""
    made = WindowStore(
        tmp_path / "windows.sqlite", clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9
    )
    yield made
    made.close()


def predicted(store: WindowStore, chosen: list[Window], version: str) -> None:
    """What a version said of windows: the number of each."""
    store.add_predictions(
        [
            Prediction(
                window.run,
                window.end_ns,
                version,
                np.array([window.index], np.float32),
                0,
                unit=window.unit,
                start_ns=window.start_ns,
            )
            for window in chosen
        ]
    )


def test_only_what_is_known_of_this_version(store: WindowStore) -> None:
    """In the order of the predictions, with the outputs as they were."""
    made = windows(steady(0, 6), run="a")
    store.add(made, "train")
    predicted(store, made, "old")
    predicted(store, made[::-1], "new")
    store.add_labels([LabelInterval("a", 2 * SECOND, 4 * SECOND, "worn")])
    found = store.judged("new", 100)
    assert [(each.outputs.tolist(), each.text) for each in found] == [
        ([3.0], "worn"),
        ([2.0], "worn"),
    ]
    assert found[0].id < found[1].id
    assert [each.outputs.tolist() for each in store.judged("new", 3)] == [[2.0]], "2, 1, 0 are last"
    assert store.judged("none", 100) == []


def test_numbers_are_judged_at_the_end_of_their_window(store: WindowStore) -> None:
    """As they are learned from."""
    made = windows(steady(0, 3), run="a")
    store.add(made, "validation")
    predicted(store, made, "v")
    store.add_labels([LabelInterval("a", 0, 3 * SECOND, "", 0.0, 3.0)])
    assert [each.number for each in store.judged("v", 10)] == pytest.approx(
        [window.end_ns / SECOND for window in made]
    )


def test_newest_windows_are_in_the_order_in_which_they_came(store: WindowStore) -> None:
    """The most recent ones of one split."""
    store.add(windows(steady(0, 5), run="b"), "train")
    store.add(windows(steady(1, 5), run="a"), "train")
    store.add(windows(steady(2, 5), run="c"), "test")
    found = store.newest("train", 7)
    assert [row.run for row in found] == ["b", "b", "a", "a", "a", "a", "a"]
    assert [row.start_ns // SECOND for row in found] == [3, 4, 0, 1, 2, 3, 4]
