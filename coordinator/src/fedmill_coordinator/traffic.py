# SPDX-License-Identifier: Apache-2.0
"""Bytes on the wire by job: topic and payload of every message, as agents send and receive them."""

from collections import Counter


class Traffic:
    """Counts since the last ``clear``."""

    def __init__(self) -> None:
        """Nothing has been counted."""
        self._up: Counter[str] = Counter()
        self._down: Counter[str] = Counter()

    def up(self, job: str, topic: str, payload: bytes) -> None:
        """An agent sent a message."""
        self._up[job] += len(topic) + len(payload)

    def down(self, job: str, topic: str, payload: bytes, receivers: int) -> None:
        """``receivers`` agents were sent a message."""
        self._down[job] += (len(topic) + len(payload)) * receivers

    def so_far(self, job: str) -> tuple[int, int]:
        """Bytes (up, down) of ``job``."""
        return self._up[job], self._down[job]

    def clear(self, job: str) -> None:
        """Count ``job`` from nothing again."""
        del self._up[job], self._down[job]
