# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedmill_coordinator.registry.export import self_contained
from fedmill_coordinator.registry.parity import canary_inputs
from fedmill_coordinator.registry.quantised import quantise
from fedmill_shared.models.quantised import (
    REDUCED_LEVELS,
    Quantised,
    Scales,
    bind,
    ranges_session,
    unpack_quantised,
)
from fedmill_shared.onnx_session import WEIGHTS_FILE, OnnxSession

CONVOLUTIONS = ["wdcnn-group-two-regimes", "wdcnn-stem", "wdcnn-batch"]


def quantised_of(template: bytes) -> Quantised:
    """The int8 form of a template that has one."""
    blob = quantise(template)
    assert blob is not None
    return unpack_quantised(blob)


def scales_for(quantised: Quantised, weights: np.ndarray, inputs: np.ndarray) -> Scales:
    """Scales that hold every activation of ``inputs``."""
    ranges = ranges_session(quantised, weights).run(inputs)
    low, high = ranges[:, : quantised.points], ranges[:, quantised.points :]
    return Scales.of_ranges(low.min(0), high.max(0))


def int8_outputs(quantised: Quantised, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """What the int8 form says once it is calibrated on ``inputs`` themselves."""
    return bind(quantised, weights, scales_for(quantised, weights, inputs)).run(inputs)


def template_of(
    nodes: list[Any], tensors: dict[str, np.ndarray], length: int, groups: int = 1
) -> bytes:
    """A template (B, channels, length) -> (B, outputs), weights external in the given order."""
    channels = groups * next(iter(tensors.values())).shape[1]
    graph = helper.make_graph(
        [
            *nodes,
            helper.make_node("Flatten", ["last"], ["outputs"], axis=1),
        ],
        "small",
        [helper.make_tensor_value_info("windows", TensorProto.FLOAT, ["batch", channels, length])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", None])],
    )
    offset = 0
    for name, tensor in tensors.items():
        entry = graph.initializer.add(
            name=name,
            dims=tensor.shape,
            data_type=TensorProto.FLOAT,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": WEIGHTS_FILE, "offset": offset, "length": 4 * tensor.size}
        for key, value in place.items():
            entry.external_data.add(key=key, value=str(value))
        offset += 4 * tensor.size
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def flat(tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The vector of a template's weights."""
    return np.concatenate([tensor.ravel() for tensor in tensors.values()]).astype(np.float32)


def integer_convolution(
    inputs: np.ndarray, weight: np.ndarray, bias: np.ndarray, scales: Scales, *, relu: bool
) -> np.ndarray:
    """Jacob et al. 2018, eq. 7, with plain integers: what the int8 template should compute."""
    scale, zero = scales.scale.astype(np.float64), scales.zero.astype(np.int64)
    stored = np.clip(np.rint(inputs / scale[0]) + zero[0], 0, 255).astype(np.int64) - zero[0]
    steps = np.abs(weight).max((1, 2)) / scales.levels
    kernel = np.rint(weight / steps[:, None, None]).astype(np.int64)
    counted = np.rint(bias / (steps * scale[0])).astype(np.int64)
    width = weight.shape[2]
    places = np.stack(
        [stored[:, :, i : i + width] for i in range(inputs.shape[2] - width + 1)], axis=2
    )  # (B, C, L', k)
    sums = np.einsum("bclk,mck->bml", places, kernel) + counted[:, None]
    real = sums * (steps * scale[0])[:, None]
    if relu:
        real = np.maximum(real, 0.0)
    out = np.clip(np.rint(real / scale[1]) + zero[1], 0, 255) - zero[1]
    return (out * scale[1]).astype(np.float32)


class TestArithmetic:
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("levels", [127, REDUCED_LEVELS])
    def test_is_integer_arithmetic(self, *, relu: bool, levels: int) -> None:
        """A small convolution gives what plain integers give, but for a rounding at the middle."""
        generator = np.random.default_rng(0)
        tensors = {
            "weight": generator.normal(0, 0.4, (5, 3, 4)).astype(np.float32),
            "bias": generator.normal(0, 0.5, 5).astype(np.float32),
        }
        nodes = [helper.make_node("Conv", ["windows", "weight", "bias"], ["sums"])]
        nodes.append(helper.make_node("Relu" if relu else "Identity", ["sums"], ["last"]))
        quantised = quantised_of(template_of(nodes, tensors, 20))
        inputs = generator.normal(1.0, 2.0, (6, 3, 20)).astype(np.float32)
        vector = flat(tensors)
        calibrated = scales_for(quantised, vector, inputs)
        scales = Scales(calibrated.scale, calibrated.zero, levels)
        outputs = bind(quantised, vector, scales).run(inputs)
        expected = integer_convolution(
            inputs, tensors["weight"], tensors["bias"], scales, relu=relu
        ).reshape(6, -1)
        difference = np.abs(outputs - expected)
        assert difference.max() <= scales.scale[1] * 1.001
        assert np.mean(difference > 1e-5) < 0.01

    def test_batch_norm_strides_groups_and_no_bias(self) -> None:
        """The norm is folded exactly: what is left is the rounding of int8."""
        generator = np.random.default_rng(1)
        tensors = {
            "weight": generator.normal(0, 0.4, (6, 2, 3)).astype(np.float32),
            "gamma": generator.uniform(0.5, 2, 6).astype(np.float32),
            "beta": generator.normal(0, 1, 6).astype(np.float32),
            "mean": generator.normal(0, 1, 6).astype(np.float32),
            "variance": generator.uniform(0.2, 3, 6).astype(np.float32),
        }
        statistics = ["gamma", "beta", "mean", "variance"]
        nodes = [
            helper.make_node("Identity", ["windows"], ["first"]),
            helper.make_node("Conv", ["first", "weight"], ["sums"], strides=[2], group=2),
            helper.make_node("BatchNormalization", ["sums", *statistics], ["last"], epsilon=1e-3),
        ]
        template = template_of(nodes, tensors, 31, groups=2)
        inputs = generator.normal(0, 1, (8, 4, 31)).astype(np.float32)
        plain = OnnxSession.from_template(template, flat(tensors)).run(inputs)
        quantised = quantised_of(template)
        outputs = int8_outputs(quantised, flat(tensors), inputs)
        assert np.abs(outputs - plain).max() < 0.03 * np.ptp(plain)
        finer = np.abs(outputs - plain).mean() / np.ptp(plain)
        assert finer < 0.005

    def test_what_others_read_stays(self) -> None:
        """A convolution whose sums the graph gives away itself keeps its norm apart."""
        generator = np.random.default_rng(2)
        tensors = {
            name: generator.uniform(0.5, 1, shape).astype(np.float32)
            for name, shape in (("weight", (4, 2, 3)), ("a", 4), ("b", 4), ("c", 4), ("d", 4))
        }
        nodes = [
            helper.make_node("Conv", ["windows", "weight"], ["sums"]),
            helper.make_node("BatchNormalization", ["sums", "a", "b", "c", "d"], ["normed"]),
            helper.make_node("Add", ["sums", "normed"], ["last"]),
        ]
        template = template_of(nodes, tensors, 9)
        inputs = generator.normal(0, 1, (4, 2, 9)).astype(np.float32)
        plain = OnnxSession.from_template(template, flat(tensors)).run(inputs)
        outputs = int8_outputs(quantised_of(template), flat(tensors), inputs)
        assert np.abs(outputs - plain).max() < 0.03 * np.ptp(plain)


class TestArchitectures:
    def test_only_convolutions_have_one(self, exported: Any) -> None:
        """A perceptron and a recurrent network stay float32; the same template, the same bytes."""
        blob = quantise(exported.template)
        assert (blob is not None) == (exported.job.name in CONVOLUTIONS)
        assert blob == quantise(exported.template)

    @pytest.mark.parametrize("name", CONVOLUTIONS)
    def test_says_nearly_the_same(self, export_once: Callable[[str], Any], name: str) -> None:
        """With group norm, with batch norm, with a norm behind the stem, at any batch size."""
        exported = export_once(name)
        weights = exported.random_weights(3)
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        plain = OnnxSession.from_template(exported.template, weights).run(inputs)
        quantised = quantised_of(exported.template)
        session = bind(quantised, weights, scales_for(quantised, weights, inputs))
        outputs = session.run(inputs)
        assert np.abs(outputs - plain).max() < 0.1 * np.ptp(plain)
        np.testing.assert_allclose(session.run(inputs[:1]), outputs[:1], atol=1e-5)

    @pytest.mark.parametrize("name", CONVOLUTIONS)
    def test_new_weights_reach_every_tensor(
        self, export_once: Callable[[str], Any], name: str
    ) -> None:
        """The stale-weights trap: each tensor changed alone, the same int8 template must follow.

        What it says moves as the float32 model moves, by every tensor.
        """
        exported = export_once(name)
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        quantised = quantised_of(exported.template)
        base, other = exported.random_weights(0), exported.random_weights(1)
        before = OnnxSession.from_template(exported.template, base).run(inputs)
        before_int8 = int8_outputs(quantised, base, inputs)
        followed = 0
        for tensor in exported.manifest.tensors:
            changed = base.copy()
            place = slice(tensor.offset, tensor.offset + tensor.size)
            changed[place] = other[place]
            after = OnnxSession.from_template(exported.template, changed).run(inputs)
            after_int8 = int8_outputs(quantised, changed, inputs)
            spread = max(np.ptp(before), np.ptp(after))
            moved = (after - before) / spread
            moved_int8 = (after_int8 - before_int8) / spread
            assert np.abs(moved_int8 - moved).max() < 0.15, tensor.name
            if np.abs(moved).max() > 0.2:
                followed += 1
                missed = np.linalg.norm(moved_int8 - moved) / np.linalg.norm(moved)
                assert missed < 0.3, tensor.name
        assert followed >= 4

    def test_becomes_integer_convolutions(
        self, export_once: Callable[[str], Any], tmp_path: Path
    ) -> None:
        """The runtime folds all that weights decide: no float32 convolution and no fold is left."""
        exported = export_once("wdcnn-batch")
        quantised = quantised_of(exported.template)
        inputs = canary_inputs(exported.job, exported.normaliser, 0)
        scales = scales_for(quantised, exported.weights, inputs)
        model = onnx.load_model_from_string(quantised.template)
        data = np.float32(scales.levels).tobytes() + scales.scale.tobytes() + scales.zero.tobytes()
        for entry in model.graph.initializer:
            where = {pair.key: pair.value for pair in entry.external_data}
            if where.get("location") == "scales.bin":
                start, length = int(where["offset"]), int(where["length"])
                kind = np.float32 if entry.data_type == TensorProto.FLOAT else np.uint8
                value = np.frombuffer(data[start : start + length], kind).reshape(())
                entry.CopyFrom(numpy_helper.from_array(value, entry.name))
        whole = self_contained(model.SerializeToString(), exported.weights)
        runs = operators(whole, tmp_path / "optimised.onnx")
        assert runs["QLinearConv"] == 2
        assert not {"Conv", "Sqrt", "Abs", "Cast", "ReduceMax"} & set(runs)


def operators(model: bytes, path: Path) -> Counter[str]:
    """How often each operator runs once ONNX Runtime has optimised ``model``, written to a path."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)
