# SPDX-License-Identifier: Apache-2.0
"""What a model reaches on one agent's held-out windows, as ``fedmill-agent fit`` prints it."""

from msgspec import Struct

from fedmill_shared.metrics import Statistic


class Score(Struct, frozen=True, kw_only=True):
    """One line of ``fedmill-agent fit``.

    Attributes:
        agent: whose windows they are.
        windows: how many.
        metrics: every metric by its name.
        statistic: what they come from, over all windows; scores of several agents merge by it.
        last: the same over the last window of each run only.
    """

    agent: str
    windows: int
    metrics: dict[str, float]
    statistic: Statistic
    last: Statistic
