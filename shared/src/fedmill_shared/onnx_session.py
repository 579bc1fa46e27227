# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: the only module that imports it, because it phones home unless told not to first.

Since 1.29 the library collects telemetry on Linux by default, writes to ``~/.cache/Microsoft`` at
import and uploads by HTTPS; only ``ORT_DISABLE_TELEMETRY`` in the environment before the first
import prevents both (its ``Privacy.md``; microsoft/onnxruntime#27379).
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.models.readout import FEATURES
from fedmill_shared.models.schema import METADATA_KEY, read_schema

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

WEIGHTS_FILE = "weights.bin"
"""External-data location that every template names; it never exists as a file."""
SCALES_FILE = "scales.bin"
"""External-data location of an int8 template's scales (``models.quantised``)."""

# Two runtimes on two processors round differently, by this much of the largest output.
_ROUNDING = 1e-5


class OnnxSession:
    """A loaded model: float32 windows (B, signals, L) in, float32 outputs (B, outputs) out.

    Attributes:
        metadata: the file's own key-value pairs; fedmill's is read by ``models.schema``.
        outputs: numbers that it says of each window; None where the file does not tell.
        features: numbers that its last layer works on, float32 (B, features); None where the
            graph tells none.
    """

    def __init__(self, model: bytes | str, options: Any) -> None:
        """Used by the constructors below; ``options`` are ONNX Runtime's session options."""
        try:
            self._session = _runtime().InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except _exceptions() as error:
            raise _refusal("the model cannot be loaded", error) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 3:
            raise ModelError(
                "the model does not take one float32 tensor (windows, signals, samples)",
                remedy="use a model exported by fedmill",
            )
        if outputs[0].type != "tensor(float)" or len(outputs[0].shape) != 2:
            raise ModelError(
                "the model does not give one float32 tensor (windows, outputs)",
                remedy="use a model exported by fedmill",
            )
        self._input: str = inputs[0].name
        self._outputs: list[str] = [outputs[0].name]
        self._shape: list[int | str | None] = inputs[0].shape[1:]
        self.outputs = _width(outputs[0])
        told = [each for each in outputs[1:] if each.name == FEATURES]
        self.features = _width(told[0]) if told else None
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    @classmethod
    def from_template(
        cls, template: bytes, weights: NDArray[np.float32], *, scales: bytes = b""
    ) -> Self:
        """Bind ``weights`` (elements,) to a graph-only ``template``; both may be freed afterwards.

        ``scales`` are those that an int8 template needs.

        Weights come in as external data and never with ``SessionOptions.add_initializer``: that
        leaves the old values wherever the runtime has folded them into other constants.

        Raises:
            ModelError: the runtime refuses the model, or the weights do not fit it.
        """
        if weights.dtype != np.float32 or weights.ndim != 1:
            raise ModelError(
                f"weights are {weights.dtype} {weights.shape}, not a flat float32 vector"
            )
        files = {WEIGHTS_FILE: np.ascontiguousarray(weights).view(np.uint8)}
        if scales:
            files[SCALES_FILE] = np.frombuffer(scales, np.uint8)
        options = _options()
        options.add_external_initializers_from_files_in_memory(
            list(files), list(files.values()), [data.nbytes for data in files.values()]
        )
        session = cls(template, options)
        if METADATA_KEY in session.metadata:
            elements = read_schema(session.metadata).elements
            if elements != weights.size:
                raise ModelError(
                    f"weights have {weights.size} elements, the template wants {elements}",
                    remedy="take weights and template from the same model version",
                )
        return session

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Load a self-contained ONNX file.

        Raises:
            ModelError: the file is missing, or the runtime refuses it.
        """
        if not path.is_file():
            raise ModelError(f"{path}: no such model file", remedy="check the path")
        try:
            return cls(str(path), _options())
        except ModelError as error:
            if error.__cause__ is None:
                raise
            raise ModelError(
                f"{path}: {error.message}",
                remedy="give an ONNX file, as `fedmill models export` writes it",
            ) from error

    def run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (B, outputs) for ``windows`` (B, signals, L).

        Raises:
            ModelError: the windows are not what the model takes, or the runtime fails.
        """
        self._check(windows)
        try:
            outputs: NDArray[np.float32] = self._session.run(self._outputs, {self._input: windows})[
                0
            ]
        except _exceptions() as error:
            raise _refusal("the model failed to run", error) from error
        return outputs

    def bound(
        self,
        windows: NDArray[np.float32],
        outputs: NDArray[np.float32],
        features: NDArray[np.float32] | None = None,
    ) -> Callable[[], None]:
        """A call that scores what stands in ``windows`` by then, and copies nothing.

        Args:
            windows: (B, signals, L), C-contiguous, as are the others; kept alive by the call.
            outputs: (B, outputs), where the outputs are written to.
            features: (B, features), where these are written to; None: nobody asks for them.

        Raises:
            ModelError: the windows are not what the model takes; from the call, the runtime fails.
        """
        self._check(windows)
        binding, run, failures = self._session.io_binding(), self._session, _exceptions()
        arrays = {self._input: windows, self._outputs[0]: outputs}
        if features is not None:
            arrays[FEATURES] = features
        for name, array in arrays.items():
            bind = binding.bind_input if array is windows else binding.bind_output
            bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

        def call(_alive: object = arrays) -> None:
            try:
                run.run_with_iobinding(binding)
            except failures as error:
                raise _refusal("the model failed to run", error) from error

        return call

    def _check(self, windows: NDArray[np.float32]) -> None:
        if windows.dtype != np.float32 or not self._fits(windows.shape):
            raise ModelError(
                f"windows are {windows.dtype} {windows.shape}, the model takes float32 "
                f"(any, {', '.join(map(str, self._shape))})",
                remedy="signals and window.length must be those of the model's job",
            )

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 3 and all(
            wanted == side or not isinstance(wanted, int)
            for side, wanted in zip(shape[1:], self._shape, strict=True)
        )


def _width(output: Any) -> int | None:
    """Columns of an output (B, columns) of float32; None where that is not what it is."""
    columns = output.shape[1] if len(output.shape) == 2 else None
    return columns if isinstance(columns, int) and output.type == "tensor(float)" else None


def check_canary(
    session: OnnxSession,
    inputs: NDArray[np.float32],
    expected: NDArray[np.float32],
    tolerance: float,
) -> None:
    """Compare ``session`` on ``inputs`` (N, signals, L) with ``expected`` (N, outputs).

    The largest absolute error may be ``tolerance`` times the spread (largest minus smallest) of
    the expected outputs, plus rounding. The spread, and not the size: a number in a large or a
    tiny unit, or far from zero, would otherwise let stale weights pass. Of several logits the same
    one must win.

    Raises:
        ModelError: it names the largest error.
    """
    outputs = session.run(inputs)
    if outputs.shape != expected.shape or expected.size == 0 or expected.ndim != 2:
        raise ModelError(f"canary: outputs have shape {outputs.shape}, expected {expected.shape}")
    rounding = _ROUNDING * float(np.abs(expected).max())
    limit = tolerance * float(np.ptp(expected)) + rounding
    error = float(np.abs(outputs.astype(np.float64) - expected).max())
    if not error <= limit:  # so that NaN fails
        raise ModelError(
            f"canary: largest error {error:.3g}, allowed {limit:.3g}",
            remedy="this version does not compute here what it computed where it was made; keep "
            "the one that runs",
        )
    winner = np.take_along_axis(expected, outputs.argmax(1)[:, None], 1)[:, 0]
    wrong = int((expected.max(1) - winner > rounding).sum())
    if wrong:
        raise ModelError(
            f"canary: {wrong} of {len(expected)} windows change class (largest error {error:.3g})",
            remedy="keep the version that runs",
        )


@cache
def _runtime() -> Any:
    import onnxruntime  # noqa: PLC0415  41 MiB that only a process with a model should pay

    return onnxruntime


@cache
def _exceptions() -> tuple[type[Exception], ...]:
    """Everything the runtime raises: its classes have no common base below Exception."""
    state = _runtime().capi.onnxruntime_pybind11_state
    found = [item for item in vars(state).values() if isinstance(item, type)]
    own = [item for item in found if issubclass(item, Exception)]
    return (*own, RuntimeError, ValueError)


def _refusal(what: str, error: Exception) -> ModelError:
    first_line = str(error).partition("\n")[0]
    return ModelError(
        f"{what}: {first_line}",
        remedy="model and weights must come from the same version, made for this ONNX Runtime",
    )


def _options() -> Any:
    """As little memory and as few threads as possible: a gateway has other work."""
    options = _runtime().SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
