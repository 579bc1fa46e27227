# SPDX-License-Identifier: Apache-2.0
"""How large, how lopsided and how spiky a signal is.

The usual ones of condition monitoring, as in Y. Lei, Z. He, Y. Zi, Q. Hu, "Fault diagnosis of
rotating machinery based on multiple ANFIS combination with GAs", Mechanical Systems and Signal
Processing 21 (2007) 2280-2294.
"""

import numpy as np
from numpy.typing import NDArray

_RESOLUTION = float(np.finfo(np.float32).eps)


def time_statistics(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(windows, signals, 8) of ``values`` (windows, signals, length).

    With x the samples, m their mean and s their deviation (of the population):

    0. mean, m
    1. deviation, s
    2. rms, the root of the mean of x^2
    3. peak, the largest |x|
    4. skewness, the mean of ((x - m) / s)^3
    5. kurtosis, the mean of ((x - m) / s)^4: 3 for normal noise, more where there are impulses
    6. crest factor, peak / rms
    7. impulse factor, peak / mean of |x|

    The first four have the signal's unit. Where s is below the resolution of float32, skewness and
    kurtosis are 0; so are the factors of a signal that is 0.
    """
    mean = values.mean(axis=2, keepdims=True)
    centred = values - mean
    deviation = np.sqrt(np.square(centred).mean(axis=2, keepdims=True))
    constant = deviation <= _RESOLUTION * np.abs(mean)
    standard = np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))
    square = standard * standard
    size = np.abs(values)
    peak, average = size.max(axis=2), size.mean(axis=2)
    rms = np.sqrt(np.square(values).mean(axis=2))
    return np.stack(
        [
            mean[:, :, 0],
            deviation[:, :, 0],
            rms,
            peak,
            (square * standard).mean(axis=2),
            (square * square).mean(axis=2),
            _ratio(peak, rms),
            _ratio(peak, average),
        ],
        axis=2,
    )


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(below > 0.0, above / np.where(below > 0.0, below, 1.0), 0.0)
