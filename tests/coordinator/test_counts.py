# SPDX-License-Identifier: Apache-2.0
"""Counters that outlive the daemon."""

from pathlib import Path

import pytest

from fedmill_coordinator.counts import FILE, MOST_SERIES, Counts, load_counts
from fedmill_shared.errors import StoreError


class TestCounts:
    def test_by_labels(self) -> None:
        """Each kind for itself; another name has nothing to do with it."""
        counts = Counts()
        counts.add("updates", "rig", "refused", "forged")
        counts.add("updates", "rig", "refused", "forged", by=2)
        counts.add("updates", "rig", "received", "")
        counts.add("updates_of_others", "rig")
        assert dict(counts.of("updates")) == {
            ("rig", "received", ""): 1,
            ("rig", "refused", "forged"): 3,
        }

    def test_without_labels(self) -> None:
        """One number."""
        counts = Counts()
        counts.add("messages_refused")
        assert list(counts.of("messages_refused")) == [((), 1)]

    def test_goes_on_after_a_restart(self, tmp_path: Path) -> None:
        """Counters never fall."""
        counts = Counts()
        counts.add("updates", "rig", "late", "too_stale", by=7)
        counts.save(tmp_path)
        again = load_counts(tmp_path)
        again.add("updates", "rig", "late", "too_stale")
        assert list(again.of("updates")) == [(("rig", "late", "too_stale"), 8)]

    def test_nothing_new_is_not_written(self, tmp_path: Path) -> None:
        """A coordinator at rest leaves the disk at rest."""
        counts = Counts()
        counts.add("updates", "rig")
        counts.save(tmp_path)
        (tmp_path / FILE).unlink()
        counts.save(tmp_path)
        assert not (tmp_path / FILE).exists()
        counts.add("updates", "rig")
        counts.save(tmp_path)
        assert (tmp_path / FILE).exists()

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"updates|rig": "many"}', b"\xff"])
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        """They begin anew, as Prometheus expects of a restart; the coordinator starts."""
        (tmp_path / FILE).write_bytes(content)
        assert list(load_counts(tmp_path).of("updates")) == []

    def test_unreadable(self, tmp_path: Path) -> None:
        """What would hide that it cannot be written either is told."""
        (tmp_path / FILE).mkdir()
        with pytest.raises(StoreError, match=r"counts\.json: cannot be read"):
            load_counts(tmp_path)

    def test_a_copy_stands_still(self) -> None:
        """Another thread reads it while the daemon counts on."""
        counts = Counts()
        counts.add("a")
        copy = counts.copy()
        counts.add("a")
        assert list(copy.of("a")) == [((), 1)]

    def test_is_bounded(self) -> None:
        """Whatever is counted: no stranger fills the memory with labels."""
        counts = Counts()
        for number in range(MOST_SERIES + 5):
            counts.add("a", str(number))
        counts.add("a", "0")
        found = dict(counts.of("a"))
        assert len(found) == MOST_SERIES
        assert found[("0",)] == 2
