# SPDX-License-Identifier: Apache-2.0
"""When a value counts: the source's own time of a change, and now for one that still stands.

A server tells a change with the time of the change, and the value of a node that has not changed
for a week with a time of last week. That value holds now. So whatever stands is stamped with the
present time of the clock that the node's changes are stamped with, as far as it is known.
"""

from dataclasses import dataclass, field

NEAR_NS = 60 * 10**9
"""Within this a clock is taken for the same one, a little behind."""


@dataclass(slots=True)
class Stamps:
    """Owns what is known of the clocks behind one connection.

    Attributes:
        ahead_ns: how far the server's clock is ahead of ours.
        margin_ns: how long a change may take from the source to us.
    """

    ahead_ns: int = 0
    margin_ns: int = 0
    _ahead: dict[str, int] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)
    _made: dict[str, int] = field(default_factory=dict)

    def change(self, tag: str, stamp_ns: int, arrived_ns: int) -> int:
        """Time (ns UTC) of a value that changed at ``stamp_ns`` by its own clock.

        What comes later is newer: where the time of a standing value was guessed a little too
        late, the change counts from just after it.
        """
        self._ahead[tag] = stamp_ns - arrived_ns
        made = self._made.get(tag)
        if made is not None and 0 <= made - stamp_ns < NEAR_NS:
            stamp_ns = self._made[tag] = made + 1
        self._last[tag] = stamp_ns
        return stamp_ns

    def standing(self, tag: str, stamp_ns: int | None, arrived_ns: int) -> int:
        """Time (ns UTC) of a value that was true already and still is at ``arrived_ns``.

        ``stamp_ns`` is its own time; None where the server tells none.
        """
        known = self._ahead.get(tag)
        now = arrived_ns + (self.ahead_ns if known is None else known - self.margin_ns)
        last = self._last.get(tag)
        made = max(now, stamp_ns or 0, 0 if last is None else last + 1)
        self._made[tag] = self._last[tag] = made
        return made
