# SPDX-License-Identifier: Apache-2.0
"""The page of metrics: true to what is declared."""

from pathlib import Path

import pytest

from fedmill_coordinator.exposition.collector import METRICS
from fedmill_coordinator.exposition.reference import main, rewritten
from fedmill_shared.errors import UsageError

PAGE = "docs/metrics.md"


class TestPage:
    def test_the_table_is_current(self, root: Path) -> None:
        """The committed one is what the declarations say."""
        text = (root / PAGE).read_text()
        stale = f"stale: run python -m fedmill_coordinator.exposition.reference {PAGE}"
        assert rewritten(text) == text, stale

    def test_each_metric_has_a_row(self, root: Path) -> None:
        """Name, kind, labels, and what it means."""
        text = (root / PAGE).read_text()
        for metric in METRICS:
            labels = ", ".join(metric.labels)
            assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |" in text

    def test_a_stale_table_is_replaced(self, tmp_path: Path) -> None:
        """What stands around it stays."""
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- metrics -->\nstale row\n<!-- end of metrics -->\nafter\n")
        main([str(page)])
        text = page.read_text()
        assert text.startswith("before\n<!-- metrics -->\n| Metric |")
        assert text.endswith("<!-- end of metrics -->\nafter\n")
        assert "stale row" not in text

    def test_a_page_without_a_place_for_it(self) -> None:
        """Nothing is guessed."""
        with pytest.raises(UsageError, match="no region is marked"):
            rewritten("text")
