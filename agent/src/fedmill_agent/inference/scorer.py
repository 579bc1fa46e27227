# SPDX-License-Identifier: Apache-2.0
"""Scores windows with the active session; swapping is one assignment between two windows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.inference.runtime import BATCH, Runtime
from fedmill_agent.inference.scored import UNKNOWN, Describe, Observer, Relate, Scored, Sure
from fedmill_agent.store.predictions import Prediction
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, ModelError
from fedmill_shared.log import Logger, get_logger
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.windows import Window

TOLD_SECONDS = 60.0
"""How often it is told that an observer fails."""
Result = TypeVar("Result")


class Scorer:
    """Holds the session that scores; before the first version it lets windows pass.

    Attributes:
        clock: that tells when a window was scored.
        version: digest of the weights that score; empty before the first version.
        number: of that version: how many came before it.
        scored: windows so far.
    """

    def __init__(self, clock: Clock, log: Logger | None = None, *, batch: int = BATCH) -> None:
        """A scorer without a model; ``log`` hears of observers that fail.

        ``batch`` windows go into one call of the model at most.
        """
        self.clock = clock
        self._log = log or get_logger()
        self._batch = batch
        self._runtime: Runtime | None = None
        self._describe: Describe | None = None
        self._relate: Relate | None = None
        self._observers: tuple[Observer, ...] = ()
        self._told_due = 0.0
        self.version = ""
        self.number = 0
        self.scored = 0

    @property
    def session(self) -> OnnxSession | None:
        """What scores now; None before the first version."""
        return None if self._runtime is None else self._runtime.session

    def swap(self, version: str, session: OnnxSession, *, number: int = 0) -> None:
        """Score with ``session`` from the next window on."""
        if session is not self.session:
            self._runtime = Runtime(session, self._batch)
        self.version, self.number = version, number

    def describe(self, describe: Describe | None) -> None:
        """Ask ``describe`` how sure each prediction is, from the next batch on; None: nobody."""
        self._describe = describe

    def relate(self, relate: Relate | None) -> None:
        """Have ``relate`` bring numbers to the agent's own limit, from the next batch on."""
        self._relate = relate

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` after each batch from the next one on, behind those that came before.

        An observer may swap the model: that counts from the next batch on.
        """
        self._observers = (*self._observers, observer)

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model says of ``values`` (n, signals, length), (n, outputs); told to nobody.

        Raises:
            ModelError: there is no model, or it cannot score them.
        """
        if self._runtime is None:
            raise ModelError("no model version scores yet")
        return self._runtime.session.run(values)

    def look(
        self, values: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What the model says of windows (signals, length), and its features; told to nobody.

        Raises:
            ModelError: there is no model, or it cannot score them.
        """
        if self._runtime is None:
            raise ModelError("no model version scores yet")
        return self._runtime.infer(values, features=True)

    def score(self, windows: list[Window], *, watched: bool = True) -> list[Prediction]:
        """Predictions for ``windows``, none before the first version is installed.

        Observers see those that are ``watched``.

        Raises:
            ModelError: the model cannot score them; no observer sees them.
        """
        if self._runtime is None or not windows:
            return []
        values = [window.values for window in windows]
        outputs, features = self._runtime.infer(values, features=watched and bool(self._observers))
        self.scored += len(windows)
        now, relative, version = self.clock.now_ns(), None, self.version
        if self._relate is not None:
            relative = self._guarded(partial(self._relate, version, windows, outputs))
        sure = self._sure(outputs)
        scored = Scored(windows, outputs, features, version, now, self.number, relative, sure)
        for observer in self._observers if watched else ():
            self._guarded(partial(observer, scored))
        return _said(scored)

    def _sure(self, outputs: NDArray[np.float32]) -> Sequence[Sure]:
        """How sure the version may be of each of ``outputs`` (n, outputs)."""
        told: Sequence[Sure] | None = None
        if self._describe is not None:
            told = self._guarded(partial(self._describe, self.version, outputs))
        return [UNKNOWN] * len(outputs) if told is None else told

    def _guarded(self, what: Callable[[], Result]) -> Result | None:
        try:
            return what()
        except FedmillError as error:
            moment = self.clock.monotonic()
            if moment >= self._told_due:  # a full disk fails it with every window
                self._told_due = moment + TOLD_SECONDS
                kind = type(error).__name__
                self._log.error("observer.failed", kind=kind, error=str(error))
            return None


def _said(scored: Scored) -> list[Prediction]:
    """What is kept of ``scored``, and told to others."""
    return [
        Prediction(
            run=window.run,
            end_ns=window.end_ns,
            version=scored.version,
            outputs=outputs,
            scored_ns=scored.scored_ns,
            unit=window.unit,
            start_ns=window.start_ns,
            good_share=window.good_share,
            number=scored.number,
            confidence=sure.confidence,
            low=sure.low,
            high=sure.high,
            plausible=sure.plausible,
        )
        for window, outputs, sure in zip(scored.windows, scored.told, scored.sure, strict=True)
    ]
