# SPDX-License-Identifier: Apache-2.0
"""Values of one message, put together into readings tag by tag."""

import numpy as np

from fedmill_agent.sources.live import BAD, GOOD, LONGEST_TEXT, Readings


class Pieces:
    """Owns the values of one message; a text ends a piece, so that none is lost behind another."""

    def __init__(self, arrived_ns: int) -> None:
        """Of a message that came at ``arrived_ns`` (ns UTC)."""
        self._arrived_ns = arrived_ns
        self._open: dict[tuple[str, bool], list[tuple[int, float, int]]] = {}
        self._done: list[Readings] = []

    def add(
        self,
        tag: str,
        time_ns: int,
        value: float,
        quality: int,
        text: str = "",
        *,
        historical: bool = False,
    ) -> None:
        """One value; a number that is not finite is bad, whatever its source calls it."""
        told = quality if quality != GOOD or abs(value) < float("inf") else BAD
        self._open.setdefault((tag, historical), []).append((time_ns, value, told))
        if text:
            self._end(tag, text[:LONGEST_TEXT], historical=historical)

    def add_block(self, block: Readings) -> None:
        """Values that belong together already."""
        self._end(block.tag, historical=block.historical)
        self._done.append(block)

    def readings(self) -> list[Readings]:
        """All of them."""
        for tag, historical in list(self._open):
            self._end(tag, historical=historical)
        return self._done

    def _end(self, tag: str, text: str = "", *, historical: bool) -> None:
        values = self._open.pop((tag, historical), None)
        if not values:
            return
        times, numbers, quality = zip(*values, strict=True)
        self._done.append(
            Readings(
                tag,
                np.array(times, np.int64),
                np.array(numbers, np.float64),
                np.array(quality, np.uint16),
                self._arrived_ns,
                text,
                historical,
            )
        )
