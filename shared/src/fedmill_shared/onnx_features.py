# SPDX-License-Identifier: Apache-2.0
"""Outputs of a model together with what its last layer worked on."""

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.onnx_session import OnnxSession

Outputs = NDArray[np.float32]


def with_features(session: OnnxSession, windows: Outputs) -> tuple[Outputs, Outputs]:
    """Outputs (B, outputs) and features (B, width) for ``windows`` (B, signals, L), in one run.

    Raises:
        ModelError: the graph tells no features, or the windows are not what the model takes.
    """
    if session.features is None or session.outputs is None:
        raise ModelError(
            "the model does not tell what its last layer works on",
            remedy="its job began with older software; begin a new one with start = its name",
        )
    values = np.ascontiguousarray(windows)
    outputs = np.empty((len(values), session.outputs), np.float32)
    features = np.empty((len(values), session.features), np.float32)
    if len(values):
        session.bound(values, outputs, features)()
    return outputs, features
