# SPDX-License-Identifier: Apache-2.0
"""Asks for the blocks of one blob, a window at a time, and notices those that were lost."""

from collections.abc import Sequence

from fedmill_shared.link.blocks import TRANSFER_WINDOW

SILENCE_SECONDS = 2.0
"""How long none of the blocks that were asked for comes before they are asked for again."""


class Pull:
    """What was asked for last; times are monotonic seconds.

    Blocks come in the order in which they are sent. The last of a window therefore tells that what
    is missing of it is lost, and nobody waits for that.
    """

    def __init__(self, now: float) -> None:
        """Nothing was asked for before ``now``."""
        self._asked: list[int] = []
        self._heard = now
        self.unanswered = 0

    def ask(self, missing: Sequence[int], now: float) -> list[int]:
        """The blocks to ask for, of those ``missing``; they are awaited from ``now`` on."""
        self._asked = list(missing[:TRANSFER_WINDOW])
        self._heard = now
        self.unanswered += 1
        return list(self._asked)

    def arrived(self, index: int, now: float) -> bool:
        """Take note of block ``index``; True if it is time to ask for what is missing."""
        self._heard = now
        self.unanswered = 0
        if index not in self._asked:
            return False
        last = index == self._asked[-1]
        self._asked.remove(index)
        return last or not self._asked

    def silent(self, now: float) -> bool:
        """Whether what was asked for has not come for too long."""
        return now - self._heard >= SILENCE_SECONDS
