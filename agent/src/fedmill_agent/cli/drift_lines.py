# SPDX-License-Identifier: Apache-2.0
"""Drift of a job, for people."""

from collections.abc import Iterator

from fedmill_agent.cli.meaning import utc
from fedmill_agent.drift.told import ChartTold, DriftTold


def drift_lines(told: DriftTold) -> Iterator[str]:
    """What watches, what does not and why, charts that are not quiet, and what was last done."""
    watching = len(told.charts)
    if watching:
        yield f"drift {told.standing}; {watching} charts watch"
    for signal, reason in told.waiting.items():
        yield f"drift of {signal}: {reason}"
    for chart in told.charts:
        if chart.standing != "quiet":
            yield f"{chart.standing}: {_chart(chart)}"
    for done in told.acted[-3:]:
        yield f"drift {utc(done.at_ns)}: {done.action} for {done.chart} {done.statistic:.3g}"


def _chart(chart: ChartTold) -> str:
    of = f" of {chart.column}" if chart.column else ""
    limits = f"warning above {chart.warn:.3g}, alarm above {chart.alarm:.3g}"
    return f"{chart.chart}{of} {chart.statistic:.3g}, {limits}, {chart.windows} windows"
