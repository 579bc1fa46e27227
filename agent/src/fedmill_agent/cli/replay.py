# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent replay``: score a recording with an exported model, no daemon, no broker."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from fedmill_agent.cli.meaning import meaning, utc
from fedmill_agent.cli.settings import file_kinds, file_source, pairs
from fedmill_agent.cutter import Cutter
from fedmill_agent.sources import kind_of
from fedmill_agent.sources.base import SourceOptions
from fedmill_shared.errors import DataError, UsageError
from fedmill_shared.models.schema import ModelSchema, read_schema
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.windows import Window

SUFFIXES = {".mat": "mat", ".dat": "tep", ".csv": "csv", ".txt": "cmapss"}
EXAMPLES = {"--tag": "force=Load_cell_3", "--unit": "force=lbf"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("file", type=Path, help="recording: .mat, .dat, .csv, .txt, also .gz")
    parser.add_argument("--model", type=Path, required=True, help="exported .onnx file")
    parser.add_argument("--kind", choices=file_kinds(), help="format, if the name does not tell")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the source kind, as in the configuration (rate_hz=48000)",
    )
    for option, example in EXAMPLES.items():
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar=f"SIGNAL={option[2:].upper()}",
            help=f"{option[2:]} of a signal in this recording, if not the model's ({example})",
        )
    parser.add_argument("--json", action="store_true", help="one JSON object per window")


def run(options: argparse.Namespace) -> int:
    """Print one prediction for each window.

    Raises:
        UsageError: an option is wrong.
        ModelError: the model is missing or was not exported by fedmill.
        DataError: the recording cannot be read or has no usable window.
    """
    source = make_source(options.file, options.kind, options.set)
    tags = pairs("--tag", options.tag, EXAMPLES["--tag"])
    units = pairs("--unit", options.unit, EXAMPLES["--unit"])
    source = msgspec.structs.replace(source, tags=tags, units=units)
    session = OnnxSession.from_file(options.model)
    schema = read_schema(session.metadata)
    count = 0
    for window in read_windows(source, schema):
        outputs = session.run(window.values[None])[0]
        print(_line(window, outputs, schema, as_json=options.json))
        count += 1
    if not count:
        raise DataError(
            f"{options.file}: no usable window of {schema.window.length} samples",
            remedy=_no_window(schema.window.trigger),
        )
    return 0


def _no_window(trigger: str) -> str:
    begins = f"{trigger} does not begin one, " if trigger else ""
    return f"{begins}the recording is too short or all its values are missing"


def make_source(path: Path, kind: str | None, settings: list[str]) -> SourceOptions:
    """Options of a source that reads ``path``, its kind told by the file's name if not given.

    Raises:
        UsageError: the kind cannot be told, or an option is wrong.
    """
    stem = path.name.removesuffix(".gz")
    name = kind or SUFFIXES.get(Path(stem).suffix)
    if name is None:
        raise UsageError(f"{path}: the name does not tell the format", remedy="give --kind")
    return file_source(name, path, settings)


def read_windows(source: SourceOptions, schema: ModelSchema) -> Iterator[Window]:
    """Usable windows of ``source``, cut as the model's job cuts them.

    Raises:
        DataError: the recording cannot be read, or lacks a signal.
        SchemaError: a unit cannot be converted, or a signal is not one of the model's.
    """
    cutter = Cutter(
        schema.job,
        schema.signals,
        schema.window,
        source,
        cleaning=schema.cleaning,
        features=schema.features,
    )
    for event in kind_of(source).read(source, cutter.tags, schema.rate_hz):
        yield from cutter.take(event)


def _line(
    window: Window, outputs: NDArray[np.float32], schema: ModelSchema, *, as_json: bool
) -> str:
    body: dict[str, str | float] = {"run": window.run, "end": utc(window.end_ns)}
    body |= meaning(outputs, schema.classes, schema.label_unit)
    if as_json:
        return msgspec.json.encode(body).decode()
    words = (f"{v:.4f}" if isinstance(v, float) else str(v) for v in body.values())
    return "  ".join(words)
