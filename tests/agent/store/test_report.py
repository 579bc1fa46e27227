# SPDX-License-Identifier: Apache-2.0
"""How labels do: closed forms of their rate, delay and fate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmill_agent.labels.record import Entry, Label, settled
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.report import DAY_NS
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.signals.windows import Window

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WindowStore]:
    """Ten windows of a second each that end now, of two splits, stored now."""
    with WindowStore(
        tmp_path / "w", clock=ManualClock(NOW), max_bytes=1 << 24, max_age_seconds=1e9
    ) as made:
        values = np.zeros((1, 4), np.float32)
        for split, numbers in (("train", range(8)), ("test", range(8, 10))):
            made.add(
                [
                    Window(
                        "u",
                        "u",
                        NOW - (10 - n) * SECOND,
                        NOW - (9 - n) * SECOND - 1,
                        values,
                        1.0,
                        n,
                    )
                    for n in numbers
                ],
                split,
            )
        yield made


def say(store: WindowStore, *arrivals: int, refused: bool = False, **fields: Any) -> None:
    """A label of window 0 at each of these times, each of its own identity."""
    usual: dict[str, Any] = {"unit": "u", "start": NOW // SECOND - 10, "end": NOW // SECOND - 9}
    for arrived_ns in arrivals:
        name = {"id": f"{arrived_ns} {fields}"}
        record = settled(Label(**(usual | name | fields)), "a test")
        store.add_truths([Entry(record, arrived_ns)], [refused], position=1)


class TestReport:
    def test_nothing(self, store: WindowStore) -> None:
        """Zeros, and no numbers where there are none."""
        found = store.label_report(NOW)
        assert (found.labels, found.per_day, found.windows, found.labelled) == (0, 0.0, 10, 0)
        assert np.isnan([found.delay_median_seconds, found.lowest]).all()

    def test_the_rate_is_that_of_the_last_week(self, store: WindowStore) -> None:
        """Since the first label if that is less, and the first day counts as a whole one."""
        say(store, NOW, NOW - DAY_NS // 2, class_="good")
        assert store.label_report(NOW).per_day == 2.0
        say(store, *(NOW - 2 * DAY_NS + k for k in range(4)), class_="good")
        assert store.label_report(NOW).per_day == pytest.approx(3.0)
        say(store, *(NOW - 30 * DAY_NS - k for k in range(50)), class_="good")
        assert store.label_report(NOW).per_day == pytest.approx(6 / 7)

    def test_the_delay_ends_when_the_truth_was_known(self, store: WindowStore) -> None:
        """Or when it came, where nobody tells; a label of the future has none."""
        end = NOW // SECOND - 9
        for seconds in range(1, 21):
            say(store, NOW + 50 * SECOND, class_="good", made=end + seconds)
        found = store.label_report(NOW)
        assert found.delay_median_seconds == pytest.approx(10.5)
        assert found.delay_p95_seconds == pytest.approx(19.05)
        say(store, *(NOW + 91 * SECOND + k for k in range(100)), class_="good")
        assert store.label_report(NOW).delay_median_seconds == pytest.approx(100.0, abs=1e-6)

    def test_that_of_a_part_is_counted_from_its_last_window(self, store: WindowStore) -> None:
        """It has no times of its own."""
        say(store, NOW + 5 * SECOND, class_="good", part="u", start=None, end=None)
        assert store.label_report(NOW).delay_median_seconds == pytest.approx(5.0, abs=1e-6)

    def test_fates(self, store: WindowStore) -> None:
        """Late, corrected, withdrawn, refused, of nothing; recordings apart."""
        say(store, NOW - 1, class_="early")
        say(store, NOW, NOW + 1, class_="late")
        say(store, NOW, class_="brunt", refused=True)
        say(store, NOW, class_="good", start=5, end=6)
        say(store, NOW, NOW + 1, deleted=True)
        for revision in range(3):
            say(store, NOW, class_="fixed", id="fixed", revision=revision)
        store.add_labels([LabelInterval("u", NOW - 5 * SECOND, NOW, "good")])
        found = store.label_report(NOW)
        assert (found.labels, found.recorded, found.late, found.corrected) == (5, 1, 3, 1)
        assert (found.deleted, found.refused, found.without_window) == (2, 1, 1)
        assert (found.labelled, found.conflicting) == (6, 1)
        assert sum(found.balance.values()) == 6
        assert found.balance["good"] == 5

    def test_numbers_have_a_range(self, store: WindowStore) -> None:
        """Over all splits."""
        say(store, NOW, value=9.0, start_value=0.0, end=NOW // SECOND - 1e-9)
        found = store.label_report(NOW)
        assert found.labelled == 10
        assert found.lowest == pytest.approx(0.9, abs=1e-6)
        assert found.highest == pytest.approx(9.0, abs=1e-6)
