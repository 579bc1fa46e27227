# SPDX-License-Identifier: Apache-2.0
"""What is told of drift, to people and on disk. Imports nothing that the daemon has not anyway."""

from msgspec import Struct


class ChartTold(Struct, frozen=True, kw_only=True):
    """Where one chart stands.

    Attributes:
        chart: its name, such as ``input-ewma``.
        standing: ``quiet``, ``warned`` or ``alarmed``.
        statistic: what was measured last: of averages in deviations, of blocks as the test has it.
        warn: what it must exceed for a warning.
        alarm: the same for an alarm.
        column: what is farthest away; empty where it is all together.
        windows: that it has seen.
    """

    chart: str
    standing: str
    statistic: float
    warn: float
    alarm: float
    column: str = ""
    windows: int = 0


class Acted(Struct, frozen=True, kw_only=True):
    """What was done: the action, when (ns UTC), and the chart that it was for."""

    action: str
    at_ns: int
    chart: str
    statistic: float
    limit: float
    windows: int


class DriftTold(Struct, frozen=True, kw_only=True):
    """Drift of one job.

    Attributes:
        standing: the most serious of the charts.
        waiting: signal -> why it does not watch yet, or at all.
        charts: all that watch.
        acted: the last that was done, the newest last.
    """

    standing: str
    waiting: dict[str, str] = {}
    charts: list[ChartTold] = []
    acted: list[Acted] = []
