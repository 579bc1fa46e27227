# SPDX-License-Identifier: Apache-2.0
"""Does ONNX Runtime compute what torch computes? Asked for every version before it is released."""

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.onnx_features import with_features
from fedmill_shared.onnx_session import OnnxSession, check_canary

WINDOWS = 8


def canary_inputs(job: Job, normaliser: Normaliser, seed: int) -> NDArray[np.float32]:
    """Plausible windows (8, signals, L) in canonical units.

    Inputs are normal around the mean of an operating condition with its deviation; regime signals
    lie within a quarter of their resolution around its centroid. With several conditions each
    window changes from one to the next at half its length.
    """
    generator = np.random.default_rng(seed)
    length = job.input_length
    windows = np.zeros((WINDOWS, len(job.channels), length))
    second_half = np.arange(length) >= length // 2
    regime = (np.arange(WINDOWS)[:, None] + second_half) % normaliser.regimes  # (8, L)

    def of_regime(table: tuple[tuple[float, ...], ...]) -> NDArray[np.float64]:
        return np.array(table)[regime].transpose(0, 2, 1)  # (R, S)[(8, L)] -> (8, S, L)

    mean = of_regime(normaliser.mean)
    noise = generator.standard_normal(mean.shape)
    windows[:, job.inputs] = mean + noise * of_regime(normaliser.scale)
    if normaliser.resolution:
        centroids = of_regime(normaliser.centroids)
        offset = generator.uniform(-0.25, 0.25, centroids.shape)
        windows[:, job.regimes] = centroids + offset * np.array(normaliser.resolution)[:, None]
    return windows.astype(np.float32)


def check_parity(
    template: bytes,
    weights: NDArray[np.float32],
    model: FlatModel,
    inputs: NDArray[np.float32],
    tolerance: float = 1e-4,
) -> NDArray[np.float32]:
    """Torch's outputs (N, outputs) for ``inputs`` (N, signals, L), once ONNX Runtime agrees.

    Where the template tells features, these must agree as well.

    ``model`` is the caller's own copy of the architecture, built once; it ends up holding
    ``weights`` (elements,).

    Raises:
        ModelError: the two differ by more than ``tolerance`` of the spread of the outputs, or an
            output is not finite.
    """
    model.load(weights)
    expected = model.predict(inputs)
    if not np.isfinite(expected).all():
        raise ModelError(
            "the model's output for its canary holds NaN or infinity",
            remedy="training diverged; lower the learning rate or look at the input data",
        )
    session = OnnxSession.from_template(template, weights)
    check_canary(session, inputs, expected, tolerance)
    if session.features is not None:
        _check_features(session, model, inputs, tolerance)
    return expected


def _check_features(
    session: OnnxSession, model: FlatModel, inputs: NDArray[np.float32], tolerance: float
) -> None:
    wanted = model.features(inputs)
    features = with_features(session, inputs)[1]
    error = float(np.abs(features - wanted).max()) if features.shape == wanted.shape else np.inf
    limit = tolerance * max(float(np.ptp(wanted)), float(np.abs(wanted).max()))
    if not error <= limit:  # so that NaN fails
        raise ModelError(
            f"canary: largest error of the features {error:.3g}, allowed {limit:.3g}",
            remedy="this is a fault of fedmill's exporter; tell it with the job file",
        )
