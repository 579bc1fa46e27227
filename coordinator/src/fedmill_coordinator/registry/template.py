# SPDX-License-Identifier: Apache-2.0
"""The graph-only ONNX template: exported once per architecture, bound to new weights ever after.

Two shortcuts give a model that silently computes with old numbers, and are avoided here. Patching
an *optimised* export by parameter name is wrong, because by then the optimiser has folded batch
norms into convolutions of the same name, reordered the gates of a GRU and merged equal tensors.
Embedding weights and replacing them at load with ``add_initializer`` is wrong, because the runtime
folds the embedded ones first. So the weights are graph inputs while the exporter optimises, and
external data in the file.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import onnx_ir
import torch
from onnxscript.optimizer import optimize_ir
from torch import nn

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models import manifest_of
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.models.readout import FEATURES, readout_of
from fedmill_shared.models.schema import METADATA_KEY, encode_schema, schema_of
from fedmill_shared.onnx_session import WEIGHTS_FILE

INPUT, OUTPUT = "windows", "outputs"


def export_template(job: Job, module: nn.Module) -> bytes:
    """The ONNX graph of ``module`` without weights: a few KiB, any batch size.

    Every parameter and buffer is an external initialiser at its place in the manifest's vector.
    The same job and architecture give the same bytes; nothing of this machine is in them. Where a
    linear layer gives the first output, the second one, ``features`` (B, width), is what that layer
    works on: a value that the graph computes anyway, so it costs nothing and no fusion.

    Raises:
        ModelError: the exporter cannot translate the module.
    """
    manifest = manifest_of(module)
    with _quiet():
        program = _exported(job, module)
        # What the model only remembers, as moments do, no node reads, and the exporter has none.
        read = [each for each in manifest.bound if each.name in program.graph.initializers]
        _weights_to_inputs(program.graph, read)
        optimize_ir(program)
    if job.needs_labels:
        _tell_features(program.graph, manifest)
    model = onnx_ir.to_proto(program)
    _strip(model)
    _weights_to_external_data(model.graph, read)
    model.metadata_props.add(key=METADATA_KEY, value=encode_schema(schema_of(job, manifest)))
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _exported(job: Job, module: nn.Module) -> onnx_ir.Model:
    # A copy: tracing sets attributes of a GRU, and evaluation mode is not the caller's.
    traced = copy.deepcopy(module).eval()
    # Two windows, because a batch of one would be specialised to.
    windows = torch.zeros(2, len(job.channels), job.input_length)
    try:
        program = torch.onnx.export(
            traced,
            (windows,),
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(
            f"job {job.name!r}: the architecture cannot be translated to ONNX",
            remedy="its forward pass must not branch on the values of a window",
        ) from error
    if program is None:
        raise ModelError(f"job {job.name!r}: the ONNX exporter gave no program")
    return program.model


def _weights_to_inputs(graph: onnx_ir.Graph, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        value = graph.initializers.pop(tensor.name)
        value.const_value = None
        graph.inputs.append(value)


def _tell_features(graph: onnx_ir.Graph, manifest: Manifest) -> None:
    """Make what the last linear layer reads an output, once nothing renames values any more."""
    readout = readout_of(manifest)
    if readout is None:
        return
    for node in graph:
        features, *others = node.inputs
        names = [value.name for value in others if value is not None]
        if readout.weight.name in names and node.op_type == "Gemm" and features is not None:
            features.name = FEATURES
            graph.outputs.append(features)
            return


def _weights_to_external_data(graph: onnx.GraphProto, tensors: Sequence[Tensor]) -> None:
    windows = next(value for value in graph.input if value.name == INPUT)
    del graph.input[:]
    graph.input.append(windows)
    for tensor in tensors:
        entry = graph.initializer.add(
            name=tensor.name,
            dims=tensor.shape,
            data_type=onnx.TensorProto.FLOAT,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        place = {"location": WEIGHTS_FILE, "offset": 4 * tensor.offset, "length": 4 * tensor.size}
        for key, value in place.items():
            entry.external_data.add(key=key, value=str(value))


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tells of this machine or is noise: stack traces, paths, names, versions."""
    model.producer_name, model.producer_version = "fedmill", ""
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = "fedmill"
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own internals and of torchvision, none of it actionable."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
