# SPDX-License-Identifier: Apache-2.0
"""A session with the buffers that it works on: windows are written where the graph reads them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.onnx_session import OnnxSession

BATCH = 32
"""Windows that are scored in one call at most, unless told otherwise."""
MOST_BYTES = 1 << 20
"""Of the buffer for windows, as far as one window does not have more."""

Values = NDArray[np.float32]
FLOAT = np.dtype(np.float32)


class Runtime:
    """Owns the buffers of one session; for one thread.

    A call of ONNX Runtime from Python costs some microseconds for each array that it checks, wraps
    and allocates: with input and output bound once, these are saved.
    """

    def __init__(self, session: OnnxSession, batch: int = BATCH) -> None:
        """Nothing is allocated before the first window; ``batch`` windows go into one call."""
        self.session = session
        self._batch = batch
        self._windows = np.empty((0, 0, 0), np.float32)
        self._outputs = np.empty((0, 0), np.float32)
        self._features = np.empty((0, 0), np.float32)
        self._calls: dict[tuple[int, bool], Callable[[], None]] = {}

    def infer(
        self, windows: Sequence[Values], *, features: bool = False
    ) -> tuple[Values, Values | None]:
        """Outputs (n, outputs) for n ``windows`` (signals, L), and the features if asked for.

        These are None where the graph tells none.

        Raises:
            ModelError: the windows are not what the model takes, or the runtime fails.
        """
        shape = windows[0].shape
        if len(windows) > 1 and any(each.shape != shape for each in windows):
            raise ModelError(
                "windows of one batch differ in shape",
                remedy="score windows of one job together, (signals, samples)",
            )
        plain = len(shape) == 2 and all([each.dtype == FLOAT for each in windows])  # noqa: C419  a third of a microsecond
        if not plain or self.session.outputs is None:
            return self.session.run(np.stack(windows)), None
        if self._windows.shape[1:] != shape:
            self._allocate(shape, self.session.outputs)
        told, batch = features and self.session.features is not None, len(self._windows)
        if len(windows) <= batch:
            return self._turn(windows, features=told)
        turns = [
            self._turn(windows[first : first + batch], features=told)
            for first in range(0, len(windows), batch)
        ]
        outputs = np.concatenate([each for each, _ in turns])
        found = [each for _, each in turns if each is not None]
        return outputs, np.concatenate(found) if found else None

    def _turn(self, windows: Sequence[Values], *, features: bool) -> tuple[Values, Values | None]:
        """As ``infer``, for as many windows as have room in the buffer."""
        for place, values in enumerate(windows):
            self._windows[place] = values
        self._call(len(windows), features=features)()
        outputs = self._outputs[: len(windows)].copy()
        return outputs, self._features[: len(windows)].copy() if features else None

    def _allocate(self, shape: tuple[int, ...], outputs: int) -> None:
        most = max(1, MOST_BYTES // (4 * max(1, shape[0] * shape[1])))
        batch = min(self._batch, most)
        self._calls = {}
        self._windows = np.empty((batch, *shape), np.float32)
        self._outputs = np.empty((batch, outputs), np.float32)
        self._features = np.empty((batch, self.session.features or 0), np.float32)

    def _call(self, windows: int, *, features: bool) -> Callable[[], None]:
        """The call for the first ``windows`` of the buffers."""
        key = windows, features
        if key not in self._calls:
            told = self._features[:windows] if features else None
            self._calls[key] = self.session.bound(
                self._windows[:windows], self._outputs[:windows], told
            )
        return self._calls[key]
