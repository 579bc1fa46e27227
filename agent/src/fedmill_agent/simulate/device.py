# SPDX-License-Identifier: Apache-2.0
"""What a simulated device is: a server that shows lines, each with samples and a part number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PART = "part"
"""Tag whose value is the number of the part in the machine; 0 for none."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a line shows.

    Attributes:
        line: its name.
        tags: of its samples.
        block: samples of each tag that are shown at a time.
        rate_hz: samples per second.
        scale: what a sample is worth where only whole numbers can be shown.
    """

    line: str
    tags: Sequence[str]
    block: int
    rate_hz: float
    scale: float


class Device(Protocol):
    """A server; used by one thread."""

    def open(self, shapes: Sequence[Shape]) -> None:
        """Begin to serve.

        Raises:
            SourceError: its port cannot be used, or its broker cannot be reached.
            ConfigError: it cannot show so much.
        """
        ...

    def part(self, line: str, number: int, time_ns: int) -> None:
        """From ``time_ns`` (UTC) on, this part is in the machine; 0 for none."""
        ...

    def block(self, line: str, values: NDArray[np.float64], end_ns: int) -> None:
        """Show samples (tags, block), the last of them measured at ``end_ns`` (UTC)."""
        ...

    def close(self) -> None:
        """Stop serving, whether it was opened or not."""
        ...
