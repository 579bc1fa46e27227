# SPDX-License-Identifier: Apache-2.0
"""Scores windows with the active session; swapping is one assignment between two windows."""

import numpy as np

from fedmill_agent.store.reader import Prediction
from fedmill_shared.clock import Clock
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.windows import Window


class Scorer:
    """Holds the session that scores; before the first version it lets windows pass."""

    def __init__(self, clock: Clock) -> None:
        """A scorer without a model."""
        self._clock = clock
        self._session: OnnxSession | None = None
        self.version = ""
        self.scored = 0

    def swap(self, version: str, session: OnnxSession) -> None:
        """Score with ``session`` from the next window on."""
        self._session, self.version = session, version

    def score(self, windows: list[Window]) -> list[Prediction]:
        """Predictions for ``windows``, none before the first version is installed."""
        if self._session is None or not windows:
            return []
        outputs = self._session.run(np.stack([window.values for window in windows]))
        self.scored += len(windows)
        now = self._clock.now_ns()
        return [
            Prediction(window.run, window.end_ns, self.version, row, now)
            for window, row in zip(windows, outputs, strict=True)
        ]
