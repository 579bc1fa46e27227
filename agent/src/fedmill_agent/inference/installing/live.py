# SPDX-License-Identifier: Apache-2.0
"""A second model on the windows that another has just scored: beside it before, or behind it after.

It runs in the background, on as many windows as it can follow: those that come while sixteen wait
are not compared, so that no line is held up by a model that does not serve.
"""

from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.background import Background
from fedmill_agent.inference.installing.comparison import Comparison, Outputs
from fedmill_agent.inference.scored import Scored
from fedmill_shared.errors import FedmillError
from fedmill_shared.onnx_session import OnnxSession

MOST_WAITING = 16


class Live:
    """Owns the windows that wait for the second model.

    Attributes:
        compared: what both said so far.
    """

    def __init__(
        self,
        new: OnnxSession,
        old: OnnxSession,
        compared: Comparison,
        background: Background,
        *,
        serving: OnnxSession,
        budget_ms: float = 0.0,
    ) -> None:
        """``serving`` is the one of both that scores; with a budget the new one is timed."""
        self._new = new
        self._old = old
        self._background = background
        self._new_serves = serving is new
        self._budget = budget_ms / 1e3
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self._at_work = False
        self.compared = compared

    def take(
        self, scored: Scored, then: Callable[[], None], failed: Callable[[FedmillError], None]
    ) -> None:
        """Compare what was ``scored``; ``then`` is called on the loop when that is done."""
        room = MOST_WAITING - len(self._waiting)
        pairs = zip(scored.windows, scored.outputs, strict=True)
        self._waiting += [(window.values, row.copy()) for window, row in pairs][:room]
        self._work(then, failed)

    def _work(self, then: Callable[[], None], failed: Callable[[FedmillError], None]) -> None:
        if self._at_work or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self._at_work = True
        windows = np.stack([values for values, _ in batch])
        outputs = np.stack([row for _, row in batch])

        def done(result: tuple[Outputs, Outputs, int]) -> None:
            self._at_work = False
            new, old, slow = result
            self.compared.add(new, old, slow=slow)
            then()
            self._work(then, failed)

        def stopped(error: FedmillError) -> None:
            self._at_work = False
            failed(error)

        self._background.submit(lambda: self._run(windows, outputs), done, stopped)

    def _run(self, windows: NDArray[np.float32], outputs: Outputs) -> tuple[Outputs, Outputs, int]:
        """What the new and the old one say, and how many windows took the new one too long."""
        other = (self._old if self._new_serves else self._new).run(windows)
        slow = self._slow(windows) if self._budget else 0
        return (outputs, other, slow) if self._new_serves else (other, outputs, slow)

    def _slow(self, windows: NDArray[np.float32]) -> int:
        slow = 0
        for window in windows:
            began = perf_counter()
            self._new.run(window[None])
            slow += perf_counter() - began > self._budget
        return slow
