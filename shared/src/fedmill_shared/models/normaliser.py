# SPDX-License-Identifier: Apache-2.0
"""What the fleet agreed on before it learns: how signals are standardised. No torch."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.spec import spec_of

# Pooled sums of squares leave about 1e-8 |mean| to 1e-7 |mean| as the deviation of a constant
# signal; dividing by that would feed the network amplified rounding noise.
_CONSTANT = 1e-6
_SMALLEST_SCALE = 1e-30  # its inverse is still a finite float32


class Normaliser(Struct, frozen=True):
    """Statistics per operating condition (regimes R, input signals S, regime signals K).

    Attributes:
        mean: (R, S) in the signals' canonical units.
        scale: (R, S) standard deviations, same units.
        centroids: (R, K) typical values of the regime signals; K = 0 without regimes.
        resolution: (K,) distance at which two values of a regime signal count as one step apart.
        target_offset: mean of the regression targets, in the label's unit.
        target_scale: standard deviation of the regression targets, same unit; 0 (all targets
            equal) counts as 1.
    """

    mean: tuple[tuple[float, ...], ...]
    scale: tuple[tuple[float, ...], ...]
    centroids: tuple[tuple[float, ...], ...] = ((),)
    resolution: tuple[float, ...] = ()
    target_offset: float = 0.0
    target_scale: float = 1.0

    @property
    def regimes(self) -> int:
        """Number of operating conditions."""
        return len(self.mean)

    def inverse_scale(self) -> NDArray[np.float64]:
        """(R, S) factors that standardise; 0 silences a signal that is constant up to noise."""
        mean, scale = np.array(self.mean), np.array(self.scale)
        varies = scale > np.maximum(_CONSTANT * np.abs(mean), _SMALLEST_SCALE)
        return np.where(varies, 1.0 / np.where(varies, scale, 1.0), 0.0)

    def check(self, job: Job) -> None:
        """Raise ModelError unless every value is finite and every shape is the job's."""
        spec = spec_of(job, max(self.regimes, 1))
        inputs, regime_signals = len(spec.inputs), len(spec.regime_signals)
        fields: tuple[tuple[str, object, tuple[int, ...]], ...] = (
            ("mean", self.mean, (spec.regimes, inputs)),
            ("scale", self.scale, (spec.regimes, inputs)),
            ("centroids", self.centroids, (spec.regimes, regime_signals)),
            ("resolution", self.resolution, (regime_signals,)),
            ("target_offset", self.target_offset, ()),
            ("target_scale", self.target_scale, ()),
        )
        for name, value, shape in fields:
            try:
                array = np.array(value, np.float64)
            except ValueError as error:
                raise ModelError(f"normaliser: {name} has rows of different lengths") from error
            if array.shape != shape:
                raise ModelError(
                    f"normaliser: {name} has shape {array.shape}, job {job.name!r} wants {shape}",
                    remedy="let the fleet agree on its statistics again",
                )
            with np.errstate(over="ignore"):
                if not np.isfinite(array.astype(np.float32)).all():
                    raise ModelError(f"normaliser: {name} holds a value that float32 cannot")
        if min(self.target_scale, *map(min, self.scale)) < 0.0 or 0.0 in self.resolution:
            raise ModelError("normaliser: a scale is negative, or a resolution is zero")

    def write(self, manifest: Manifest, vector: NDArray[np.float32]) -> None:
        """Write the statistics into the buffers of a model's ``vector`` (size,), in place.

        Raises:
            ModelError: the manifest has a buffer that this normaliser does not fill.
        """
        manifest.check(vector)
        values = {
            "standardise.mean": np.array(self.mean),
            "standardise.inverse_scale": self.inverse_scale(),
            "standardise.centroids": np.array(self.centroids),
            "standardise.inverse_resolution": 1.0 / np.array(self.resolution),
            "target_offset": np.array([self.target_offset]),
            "target_scale": np.array([self.target_scale or 1.0]),
        }
        for tensor in manifest.tensors:
            if tensor.role != "buffer":
                continue
            value = values.get(tensor.name)
            if value is None or value.shape != tensor.shape:
                raise ModelError(
                    f"normaliser: buffer {tensor.name!r} of shape {tensor.shape} is not "
                    f"{'known' if value is None else f'{value.shape}'}",
                    remedy="the model was built for another number of operating conditions",
                )
            vector[tensor.offset : tensor.offset + tensor.size] = value.ravel()


def identity(job: Job) -> Normaliser:
    """The normaliser that changes nothing: for ``window.normalise = "none"``, and for tests."""
    inputs = len(job.inputs)
    return Normaliser(mean=((0.0,) * inputs,), scale=((1.0,) * inputs,))
