# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a tag from message to message."""

from collections import deque
from dataclasses import dataclass, field

from fedmill_agent.sources.waveform import Waveform

RECENT = 64
"""As many messages as a publisher may have under way and sends again after a loss, and more."""


@dataclass(slots=True)
class Memory:
    """Owns what came for one tag lately.

    Attributes:
        topic: from which it came last.
        mixed: whether two topics that a ``+`` stands for take turns: two machines, one tag.
    """

    topic: str = ""
    mixed: bool = False
    _left: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    _recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _waveform: Waveform | None = None

    def follow(self, topic: str) -> None:
        """A message came on ``topic``."""
        if topic == self.topic:
            return
        if self.topic:
            self._left.append(self.topic)
        self.mixed = self.mixed or topic in self._left
        self.topic = topic

    def repeated(self, value: tuple[int, int]) -> bool:
        """Whether it (time, hash) came lately; if not, it is remembered."""
        if value in self._recent:
            return True
        self._recent.append(value)
        return False

    def waveform(self, rate_hz: float) -> Waveform:
        """The time line of its blocks, a new one where the rate is another."""
        if self._waveform is None or self._waveform.rate_hz != rate_hz:
            self._waveform = Waveform(rate_hz)
        return self._waveform
