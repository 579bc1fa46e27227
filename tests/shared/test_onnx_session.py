# SPDX-License-Identifier: Apache-2.0
import gc
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fedmill_shared.errors import ModelError
from fedmill_shared.models.schema import METADATA_KEY
from fedmill_shared.onnx_session import WEIGHTS_FILE, OnnxSession, check_canary

TOLERANCE = 1e-3
INPUTS = np.arange(24, dtype=np.float32).reshape(4, 2, 3) / 10
FACTOR, SHIFT = np.float32(3.0), np.float32(0.5)


def tiny_model(*, external: bool = True, weights: np.ndarray | None = None) -> bytes:
    """Outputs = flatten(windows) @ (W * 3) + (b + 0.5): the runtime folds both brackets at load."""
    weight = helper.make_tensor("W", TensorProto.FLOAT, (6, 2), np.zeros(12))
    bias = helper.make_tensor("b", TensorProto.FLOAT, (2,), np.zeros(2))
    for tensor, start in ((weight, 0), (bias, 12)):
        size = int(np.prod(tensor.dims))
        del tensor.float_data[:]
        if external:
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": WEIGHTS_FILE, "offset": 4 * start, "length": 4 * size}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
        else:
            tensor.raw_data = weights[start : start + size].tobytes()
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["windows"], ["flat"]),
            helper.make_node("Mul", ["W", "factor"], ["scaled"]),
            helper.make_node("Add", ["b", "shift"], ["shifted"]),
            helper.make_node("MatMul", ["flat", "scaled"], ["product"]),
            helper.make_node("Add", ["product", "shifted"], ["outputs"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("windows", TensorProto.FLOAT, ("batch", 2, 3))],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ("batch", 2))],
        [
            weight,
            bias,
            helper.make_tensor("factor", TensorProto.FLOAT, (), [FACTOR]),
            helper.make_tensor("shift", TensorProto.FLOAT, (), [SHIFT]),
        ],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    helper.set_model_props(model, {"author": "test"})
    return model.SerializeToString()


def weights_of(seed: int) -> np.ndarray:
    """Fourteen weights: W (6, 2), then b (2,)."""
    return np.random.default_rng(seed).standard_normal(14).astype(np.float32)


def expected_of(weights: np.ndarray, inputs: np.ndarray = INPUTS) -> np.ndarray:
    """The tiny model in numpy."""
    flat = inputs.reshape(len(inputs), 6)
    return flat @ (weights[:12].reshape(6, 2) * FACTOR) + weights[12:] + SHIFT


def with_features(kind: int = TensorProto.FLOAT) -> bytes:
    """The tiny model that also tells the flat windows, as numbers of another kind if wanted."""
    model = onnx.load_model_from_string(tiny_model())
    model.graph.node.append(helper.make_node("Cast", ["flat"], ["features"], to=kind))
    told = helper.make_tensor_value_info("features", kind, ("batch", 6))
    model.graph.output.append(told)
    return model.SerializeToString()


class TestTelemetry:
    def test_nothing_is_written_at_home(self, tmp_path: Path) -> None:
        """Importing the runtime and running a model leaves an empty HOME empty."""
        home, model = tmp_path / "home", tmp_path / "tiny.onnx"
        home.mkdir()
        model.write_bytes(tiny_model(external=False, weights=weights_of(0)))
        code = (
            "import sys, pathlib, numpy\n"
            "from fedmill_shared.onnx_session import OnnxSession\n"
            "assert 'onnxruntime' not in sys.modules\n"
            "session = OnnxSession.from_file(pathlib.Path(sys.argv[1]))\n"
            "session.run(numpy.zeros((1, 2, 3), numpy.float32))\n"
            "assert 'onnxruntime' in sys.modules\n"
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
        subprocess.run(
            [sys.executable, "-c", code, str(model)], env={**kept, "HOME": str(home)}, check=True
        )
        assert list(home.rglob("*")) == []


class TestBound:
    """A call with buffers that are bound once."""

    def test_it_reads_and_writes_the_buffers(self) -> None:
        """Each call scores what stands there by then; the outputs are those of ``run``."""
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        windows, outputs = np.zeros((4, 2, 3), np.float32), np.empty((4, 2), np.float32)
        call = session.bound(windows, outputs)
        for factor in (1, -2, 3):
            windows[:] = factor * INPUTS
            call()
            np.testing.assert_array_equal(outputs, session.run(windows))

    def test_part_of_a_buffer(self) -> None:
        """The first windows of a larger one; what stands behind them is untouched."""
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        windows, outputs = INPUTS.copy(), np.full((4, 2), 7, np.float32)
        session.bound(windows[:3], outputs[:3])()
        np.testing.assert_array_equal(outputs[:3], session.run(INPUTS[:3]))
        assert outputs[3].tolist() == [7, 7]

    def test_the_buffers_live_as_long_as_the_call(self) -> None:
        """The runtime knows addresses only: nobody else needs to hold them."""
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        outputs = np.empty((4, 2), np.float32)
        call = session.bound(INPUTS.copy(), outputs)
        gc.collect()
        del session
        call()
        np.testing.assert_allclose(outputs, expected_of(weights_of(0)), 1e-5)

    def test_features(self) -> None:
        """Written if asked for; ``run`` gives the outputs alone."""
        session = OnnxSession.from_template(with_features(), weights_of(0))
        assert (session.outputs, session.features) == (2, 6)
        outputs, features = np.empty((4, 2), np.float32), np.empty((4, 6), np.float32)
        session.bound(INPUTS, outputs, features)()
        np.testing.assert_array_equal(features, INPUTS.reshape(4, 6))
        np.testing.assert_array_equal(outputs, session.run(INPUTS))

    def test_features_that_are_none(self) -> None:
        """A graph without them, and one that calls something else so."""
        for template in (tiny_model(), with_features(TensorProto.DOUBLE)):
            assert OnnxSession.from_template(template, weights_of(0)).features is None

    def test_windows_of_another_shape_are_refused(self) -> None:
        """As ``run`` refuses them."""
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        with pytest.raises(ModelError, match="windows are float32"):
            session.bound(np.zeros((1, 2, 4), np.float32), np.empty((1, 2), np.float32))

    def test_a_runtime_that_fails_says_so(self) -> None:
        """A buffer for outputs that are not what the graph gives."""
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        call = session.bound(INPUTS.copy(), np.empty((4, 3), np.float32))
        with pytest.raises(ModelError, match="the model failed to run"):
            call()


class TestFromTemplate:
    def test_weights_reach_every_place(self) -> None:
        """The folding trap: new weights give new outputs although the runtime folds constants."""
        template = tiny_model()
        for seed in range(3):
            session = OnnxSession.from_template(template, weights_of(seed))
            np.testing.assert_allclose(session.run(INPUTS), expected_of(weights_of(seed)), 1e-5)

    def test_buffer_may_be_reused(self) -> None:
        """The runtime has its own copy once the session exists."""
        weights = weights_of(1)
        session = OnnxSession.from_template(tiny_model(), weights)
        weights[:] = np.nan
        np.testing.assert_allclose(session.run(INPUTS), expected_of(weights_of(1)), 1e-5)

    def test_metadata(self) -> None:
        """The file's own key-value pairs."""
        assert OnnxSession.from_template(tiny_model(), weights_of(0)).metadata == {"author": "test"}

    def test_foreign_weights_are_refused(self) -> None:
        """Too few elements, another type or another shape."""
        for wrong in (weights_of(0)[:13], weights_of(0).astype(np.float64), np.zeros((2, 7), "f4")):
            with pytest.raises(ModelError, match=r"loaded|not a flat float32"):
                OnnxSession.from_template(tiny_model(), wrong)

    def test_elements_of_the_schema_are_checked(self) -> None:
        """A vector that is too long would load silently."""
        model = onnx.load_model_from_string(tiny_model())
        schema = {
            "job": "j",
            "task": "regression",
            "signals": [{"name": "v"}],
            "window": {},
            "classes": [],
        }
        schema |= {"label_unit": "1", "manifest": "", "elements": 14}
        helper.set_model_props(model, {METADATA_KEY: msgspec.json.encode(schema).decode()})
        template = model.SerializeToString()
        OnnxSession.from_template(template, weights_of(0))
        with pytest.raises(ModelError, match="15 elements, the template wants 14"):
            OnnxSession.from_template(template, np.zeros(15, np.float32))

    @pytest.mark.parametrize("data", [b"", b"not a model", tiny_model()[:100]])
    def test_damaged_templates_are_refused(self, data: bytes) -> None:
        """Whatever the runtime raises becomes a ModelError."""
        with pytest.raises(ModelError):
            OnnxSession.from_template(data, weights_of(0))


class TestFromFile:
    def test_self_contained(self, tmp_path: Path) -> None:
        """A file with its weights inside needs nothing else."""
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_model(external=False, weights=weights_of(2)))
        np.testing.assert_allclose(
            OnnxSession.from_file(path).run(INPUTS), expected_of(weights_of(2)), 1e-5
        )

    def test_missing_and_incomplete_files_are_refused(self, tmp_path: Path) -> None:
        """No file, or a template without its weights."""
        with pytest.raises(ModelError, match="no such model file"):
            OnnxSession.from_file(tmp_path / "absent.onnx")
        path = tmp_path / "template.onnx"
        path.write_bytes(tiny_model())
        with pytest.raises(ModelError, match="cannot be loaded"):
            OnnxSession.from_file(path)

    def test_a_file_of_another_kind_is_named(self, tmp_path: Path) -> None:
        """With what to give in its place; versions have nothing to do with it."""
        path = tmp_path / "strokes.csv"
        path.write_text("time,force\n0,1\n")
        with pytest.raises(ModelError, match=r"strokes.csv: the model cannot be loaded") as told:
            OnnxSession.from_file(path)
        assert told.value.remedy == "give an ONNX file, as `fedmill models export` writes it"

    def test_model_with_another_input_is_refused(self, tmp_path: Path) -> None:
        """A model of an image or of integers is not one of windows."""
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2))
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))
        node = helper.make_node("Relu", ["x"], ["y"])
        graph = helper.make_graph([node], "g", [value], [result])
        opsets = [helper.make_opsetid("", 20)]
        path = tmp_path / "other.onnx"
        path.write_bytes(
            helper.make_model(graph, ir_version=10, opset_imports=opsets).SerializeToString()
        )
        with pytest.raises(ModelError, match="does not take one float32 tensor"):
            OnnxSession.from_file(path)


class TestRun:
    @pytest.mark.parametrize("batch", [1, 3, 7])
    def test_any_batch(self, batch: int) -> None:
        """The batch is free."""
        inputs = np.random.default_rng(0).standard_normal((batch, 2, 3)).astype(np.float32)
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        np.testing.assert_allclose(session.run(inputs), expected_of(weights_of(0), inputs), 1e-5)

    def test_views_need_no_copy_by_the_caller(self) -> None:
        """Strided and read-only windows, as a ring buffer gives them."""
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        strided = np.repeat(INPUTS, 2, axis=2)[:, :, ::2]
        strided.flags.writeable = False
        np.testing.assert_array_equal(session.run(strided), session.run(INPUTS))

    @pytest.mark.parametrize(
        "windows",
        [INPUTS.astype(np.float64), INPUTS[0], INPUTS[:, :1], INPUTS[:, :, :2], INPUTS[..., None]],
    )
    def test_other_windows_are_refused(self, windows: np.ndarray) -> None:
        """Before the runtime sees them, and with both shapes."""
        session = OnnxSession.from_template(tiny_model(), weights_of(0))
        with pytest.raises(ModelError, match=r"the model takes float32 \(any, 2, 3\)"):
            session.run(windows)


class TestCanary:
    WEIGHTS = weights_of(3)
    EXPECTED = expected_of(weights_of(3)).astype(np.float32)

    @pytest.fixture
    def session(self) -> OnnxSession:
        """The right weights."""
        return OnnxSession.from_template(tiny_model(), self.WEIGHTS)

    def test_right_weights_pass(self, session: OnnxSession) -> None:
        """The outputs of the version it was made for are accepted."""
        check_canary(session, INPUTS, self.EXPECTED, TOLERANCE)

    def test_stale_weights_fail_with_the_error(self) -> None:
        """One weight 2 % of the spread off, and the message carries the number."""
        stale = self.WEIGHTS.copy()
        stale[12] += 0.02 * np.ptp(self.EXPECTED)
        session = OnnxSession.from_template(tiny_model(), stale)
        error = f"{0.02 * np.ptp(self.EXPECTED):.3g}"
        with pytest.raises(ModelError, match=f"largest error {error}"):
            check_canary(session, INPUTS, self.EXPECTED, TOLERANCE)

    def test_units_do_not_hide_stale_weights(self) -> None:
        """Micrometres in metres, or kelvins far from zero: the spread is what counts."""
        for scale, offset in ((1e-6, 0.0), (1.0, 1000.0)):
            weights = (self.WEIGHTS * scale).astype(np.float32)
            weights[12:] = offset - SHIFT
            good = OnnxSession.from_template(tiny_model(), weights)
            expected = good.run(INPUTS)
            check_canary(good, INPUTS, expected, TOLERANCE)
            weights[:12] *= 1.1
            stale = OnnxSession.from_template(tiny_model(), weights)
            with pytest.raises(ModelError, match="largest error"):
                check_canary(stale, INPUTS, expected, TOLERANCE)

    def test_not_a_number_fails(self) -> None:
        """A model that computes NaN is refused, whatever the tolerance."""
        session = OnnxSession.from_template(tiny_model(), np.full(14, np.nan, np.float32))
        with pytest.raises(ModelError, match="largest error nan"):
            check_canary(session, INPUTS, self.EXPECTED, 1e9)

    def test_winning_class_must_agree(self, session: OnnxSession) -> None:
        """Inside a wide tolerance, a flipped class still refuses; a tie up to rounding does not."""
        flipped = self.EXPECTED[:, ::-1].copy()
        with pytest.raises(ModelError, match="4 of 4 windows change class"):
            check_canary(session, INPUTS, flipped, 10.0)
        tied = np.repeat(self.EXPECTED.max(1, keepdims=True), 2, axis=1)
        check_canary(session, INPUTS, tied, 10.0)

    def test_other_output_shape_is_refused(self, session: OnnxSession) -> None:
        """Three classes expected of a model with two."""
        with pytest.raises(ModelError, match=r"shape \(4, 2\), expected \(4, 3\)"):
            check_canary(session, INPUTS, np.zeros((4, 3), np.float32), TOLERANCE)
