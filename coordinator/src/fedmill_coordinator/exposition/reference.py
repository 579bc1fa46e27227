# SPDX-License-Identifier: Apache-2.0
"""The table of metrics: ``python -m fedmill_coordinator.exposition.reference docs/metrics.md``.

It replaces what stands between ``<!-- metrics -->`` and ``<!-- end of metrics -->``. The page is
changed in place; a test keeps the committed one current.
"""

import re
import sys
from pathlib import Path

from fedmill_coordinator.exposition.collector import METRICS
from fedmill_shared.errors import UsageError

REGION = re.compile(r"(<!-- metrics -->\n).*?(<!-- end of metrics -->)", re.DOTALL)


def rewritten(page: str) -> str:
    """``page`` with the table as it is declared.

    Raises:
        UsageError: no region is marked.
    """
    if REGION.search(page) is None:
        raise UsageError("no region is marked", remedy="write <!-- metrics -->")
    return REGION.sub(lambda region: region[1] + table() + region[2], page)


def table() -> str:
    """One row for each metric, in the order in which they are told."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    return "\n".join(["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|", *rows, ""])


def main(pages: list[str]) -> int:
    """Rewrite each of ``pages``."""
    for page in map(Path, pages):
        page.write_text(rewritten(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
