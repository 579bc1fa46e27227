# SPDX-License-Identifier: Apache-2.0
"""Golden windows: a few labelled windows that a plant releases to its coordinator.

They are the coordinator's own measure of what a sound update looks like (``robustness.rule =
"trust"``). Raw data leaves an agent here, once, by its operator's own command, in a file that the
operator carries; agents never send windows.
"""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.errors import DataError, FedmillError
from fedmill_shared.files import write_atomic
from fedmill_shared.job import Job
from fedmill_shared.messages import UNREADABLE
from fedmill_shared.schema import schema_hash
from fedmill_shared.tensors import pack_tensor, unpack_tensor

LARGEST_BYTES = 256 << 20
ANEW = "write it anew with fedmill-agent golden"


class Golden(Struct, frozen=True, kw_only=True):
    """Labelled windows of one job.

    Attributes:
        schema: ``schema_hash`` of the job that they were cut for.
        inputs: packed tensor float32 (windows, signals, length), canonical units.
        texts: class of each window; empty strings for a regression.
        numbers: target of each window; not a number for a classification.
        runs: run of each window.
    """

    schema: str
    inputs: bytes
    texts: list[str]
    numbers: list[float]
    runs: list[str]

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.numbers) == len(self.runs):
            raise DataError("golden windows: labels, numbers and runs differ in number")


def pack_golden(
    job: Job,
    inputs: NDArray[np.float32],
    texts: list[str],
    numbers: NDArray[np.float64],
    runs: list[str],
) -> Golden:
    """The windows ``inputs`` (windows, signals, length) with their ground truth."""
    return Golden(
        schema=schema_hash(job),
        inputs=pack_tensor(inputs),
        texts=texts,
        numbers=numbers.tolist(),
        runs=runs,
    )


def write_golden(path: Path, golden: Golden) -> None:
    """Write the file ``path``.

    Raises:
        StoreError: it cannot be written.
    """
    write_atomic(path, msgspec.msgpack.encode(golden))


def read_golden(path: Path, job: Job) -> tuple[Golden, NDArray[np.float32]]:
    """The golden windows of ``job`` in ``path``, and their inputs (windows, signals, length).

    Raises:
        DataError: the file cannot be read, is damaged, empty, or was made for another job.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DataError(
                f"{path}: larger than {LARGEST_BYTES} bytes", remedy="use fewer windows"
            )
        golden = msgspec.msgpack.decode(path.read_bytes(), type=Golden)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", remedy=ANEW) from error
    except UNREADABLE as error:
        raise DataError(f"{path}: no golden windows: {error}", remedy=ANEW) from error
    if golden.schema != schema_hash(job):
        raise DataError(
            f"{path}: made for other signals, windows or labels than those of job {job.name}",
            remedy=ANEW,
        )
    try:
        inputs = unpack_tensor(golden.inputs)
    except FedmillError as error:
        raise DataError(f"{path}: {error.message}", remedy=ANEW) from error
    wanted = (len(golden.texts), len(job.channels), job.input_length)
    if inputs.shape != wanted or not len(inputs) or not np.isfinite(inputs).all():
        raise DataError(
            f"{path}: windows of {inputs.shape}, not {wanted} finite numbers", remedy=ANEW
        )
    return golden, inputs
