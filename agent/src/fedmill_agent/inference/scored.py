# SPDX-License-Identifier: Apache-2.0
"""A batch of windows with what the model said of them, for all who watch the scoring."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.signals.windows import Window


class Sure(Protocol):
    """How sure the model may be of one window; None where that is not known."""

    @property
    def confidence(self) -> float | None:
        """Probability of the class, or of the interval to hold the number; 0 to 1."""

    @property
    def low(self) -> float | None:
        """Lower end of the interval, in the label's unit."""

    @property
    def high(self) -> float | None:
        """Its upper end."""

    @property
    def plausible(self) -> tuple[str, ...] | None:
        """Classes that cannot be ruled out, perhaps none."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    confidence: float | None = None
    low: float | None = None
    high: float | None = None
    plausible: tuple[str, ...] | None = None


UNKNOWN: Sure = _Unknown()
"""Nothing is claimed."""


class Scored(Struct, frozen=True, eq=False):
    """What one version said of some windows, in their order.

    Attributes:
        windows: n windows, cleaned, in the units of the job.
        outputs: float32 (n, outputs), as the graph gives them: logits, or numbers in the label's
            unit.
        features: float32 (n, width), what the graph's head works on; None where it tells none.
        version: digest of the weights that scored.
        scored_ns: when, by the agent's clock.
        number: of the version: how many came before it.
        relative: float32 (n, 1), outputs of a job without labels over the agent's own limit; None
            where it has none to bring them to.
        sure: how sure the version may be of each of the outputs.
    """

    windows: Sequence[Window]
    outputs: NDArray[np.float32]
    features: NDArray[np.float32] | None
    version: str
    scored_ns: int
    number: int = 0
    relative: NDArray[np.float32] | None = None
    sure: Sequence[Sure] = ()

    @property
    def told(self) -> NDArray[np.float32]:
        """Float32 (n, outputs), what people and alarms hear: ``relative`` where there is such."""
        return self.outputs if self.relative is None else self.relative


Describe = Callable[[str, NDArray[np.float32]], Sequence[Sure]]
"""How sure a version, named by its digest, may be of each of its outputs (n, outputs)."""

Relate = Callable[[str, Sequence[Window], NDArray[np.float32]], NDArray[np.float32]]
"""What a version, named by its digest, said of windows, over the agent's limit; both (n, 1)."""

Observer = Callable[[Scored], None]
"""Is called on the daemon's loop after each batch; what it raises is told, and ends no scoring."""
