# SPDX-License-Identifier: Apache-2.0
"""What a model says about itself: enough to feed it and to read its output, without a job file."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Cleaning, Features, Job, Signal, Task, Window
from fedmill_shared.job.data import window_rate
from fedmill_shared.job.later import plain
from fedmill_shared.models.manifest import Manifest

METADATA_KEY = "fedmill"


class ModelSchema(Struct, frozen=True):
    """The ``fedmill`` entry of an ONNX file's metadata, as JSON.

    Attributes:
        job: name of the job.
        task: whether the output is one logit per class, one number, or the mean squared error of
            the window's reconstruction in standardised units.
        signals: rows of a window, in order, each in its canonical unit.
        window: length and cut of a window.
        cleaning: what is done about bad values in it.
        features: what is computed from it and fed to the model instead; by default nothing.
        classes: meaning of the logits.
        label_unit: unit of a regression's output.
        manifest: digest of the layout of the weights.
        elements: float32 elements of the weights.
    """

    job: str
    task: Literal["classification", "regression", "reconstruction"]
    signals: tuple[Signal, ...]
    window: Window
    classes: tuple[str, ...]
    label_unit: str
    manifest: str
    elements: int
    cleaning: Cleaning = Cleaning()
    features: Features = Features()

    @property
    def rate_hz(self) -> float:
        """Samples per second of a window."""
        return window_rate(self.signals)


def schema_of(job: Job, manifest: Manifest) -> ModelSchema:
    """The schema of ``job`` with weights laid out by ``manifest``."""
    return ModelSchema(
        job=job.name,
        task=job.job.task,
        signals=tuple(job.signals),
        window=job.window,
        classes=tuple(job.labels.classes),
        label_unit=job.labels.unit,
        manifest=manifest.digest,
        elements=manifest.size,
        cleaning=job.cleaning,
        features=job.features,
    )


def encode_schema(schema: ModelSchema) -> str:
    """JSON with a fixed order of keys; later fields are left out at their default."""
    fields = {name: getattr(schema, name) for name in schema.__struct_fields__}
    for section in ("signals", "window", "cleaning", "features"):
        fields[section] = plain(section, fields[section])
    told = {name: value for name, value in fields.items() if value != {}}
    return msgspec.json.encode(told).decode()


def read_schema(metadata: Mapping[str, str]) -> ModelSchema:
    """The schema in the metadata of an ONNX file.

    Raises:
        ModelError: the file was not made by fedmill, or its schema cannot be read or followed.
    """
    try:
        schema = msgspec.json.decode(metadata[METADATA_KEY], type=ModelSchema)
    except KeyError as error:
        raise ModelError(
            f"ONNX metadata has no key {METADATA_KEY!r}", remedy="use a model exported by fedmill"
        ) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"ONNX metadata {METADATA_KEY!r} cannot be read: {error}") from error
    _check(schema)
    return schema


def _check(schema: ModelSchema) -> None:
    """Raise ModelError unless windows can be cut and features computed as ``schema`` says."""
    from fedmill_shared.job.shaping import shaping_faults  # noqa: PLC0415  few read a schema

    if not schema.signals:
        raise ModelError(f"ONNX metadata {METADATA_KEY!r} names no signals")
    job = Job(
        job=Task(name=schema.job),
        signals=list(schema.signals),
        window=schema.window,
        cleaning=schema.cleaning,
        features=schema.features,
    )
    for fault in shaping_faults(job):
        raise ModelError(
            f"ONNX metadata {METADATA_KEY!r}: {fault.message}",
            remedy="use a model as fedmill exported it",
        )
