# SPDX-License-Identifier: Apache-2.0
"""A store of validation windows and a model that is asked about them, for all that sweep."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tests.agent.kit import Journal

from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ModelError


@dataclass
class SweepBench:
    """One gateway; a subclass says what its model gives, and what learns from that."""

    folder: Path
    store: WindowStore
    clock: ManualClock
    version: str = "v1"
    seconds: float = 0.0
    fails: bool = False
    batches: list[int] = field(default_factory=list)
    journal: Journal = field(default_factory=Journal)

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Self]:
        """With an empty store."""
        clock = ManualClock()
        path = folder / "windows.sqlite"
        with WindowStore(path, clock=clock, max_bytes=1 << 26, max_age_seconds=1e6) as store:
            yield cls(folder, store, clock)

    def outputs(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model says of ``values`` (n, signals, length), (n, outputs)."""
        raise NotImplementedError

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same in ``seconds`` of time, unless it ``fails``."""
        if self.fails:
            raise ModelError("the model failed to run")
        self.batches.append(len(values))
        self.clock.advance(self.seconds)
        return self.outputs(values)
