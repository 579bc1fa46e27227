# SPDX-License-Identifier: Apache-2.0
"""When the open round may close, and when it has to.

Kept on the monotonic clock while the process runs, so that a jump of the wall clock changes
nothing; a restart takes what the wall clock leaves of a deadline, at most the whole.
"""

import math
from dataclasses import dataclass

from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.clock import Clock
from fedmill_shared.job import Federation


@dataclass(frozen=True, slots=True)
class Limits:
    """Two times of a phase, monotonic s.

    Attributes:
        deadline: when the phase ends at the latest.
        earliest: when the open round may close at the soonest.
    """

    deadline: float
    earliest: float = 0.0


def limits_of(settings: Federation, now: float, seconds: float) -> Limits:
    """Those of a round that opens ``now``, monotonic s, and has ``seconds``."""
    return Limits(now + seconds, now + settings.earliest_seconds)


def resumed(settings: Federation, current: RoundRecord, clock: Clock) -> Limits:
    """Those of the round ``current``, which was open when the process before this one ended."""
    now_ns, longest = clock.now_ns(), settings.deadline_seconds
    left = min(max(0.0, (current.deadline_ns - now_ns) / 1e9), longest)
    gone = min(max(0.0, (now_ns - current.opened_ns) / 1e9), longest)
    whole = limits_of(settings, clock.monotonic(), left)
    return Limits(whole.deadline, whole.earliest - gone)


def attempts(settings: Federation, current: RoundRecord) -> int:
    """How often the round ``current`` was extended, as its times tell.

    An agent whose update was refused trains again for an attempt that is new to it. Where
    extensions came before their deadlines this is fewer than there were, until the next.
    """
    whole = (current.deadline_ns - current.opened_ns) / 1e9
    return max(0, math.ceil(round(whole / settings.deadline_seconds, 6)) - 1)
