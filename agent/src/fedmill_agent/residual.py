# SPDX-License-Identifier: Apache-2.0
"""What compression dropped so far: carried into the next delta, on disk, settled exactly once.

Sending an update leaves its ``carry`` as the residual. If the round result does not include the
update, what was sent is added back. Both are recorded by the update's SHA-256 inside the same
file, so a crash between any two steps neither loses nor doubles a delta.
"""

import zlib
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from fedmill_shared.codec.frame import decode_frame, read_header
from fedmill_shared.errors import DataError, FrameError, StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.link.outbox import Parcel
from fedmill_shared.messages import UNREADABLE

REMEMBERED = 64


class ResidualState(Struct, frozen=True):
    """The residual vector (float32 bytes) and the updates whose sending and fate are in it.

    ``schema`` is the prefix of the digest of the layout that the vector belongs to, ``crc`` the
    CRC-32 of the vector; files from before there was one have none.
    """

    sent: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    vector: bytes = b""
    schema: str = ""
    crc: int | None = None

    def __post_init__(self) -> None:
        if len(self.vector) % 4:
            raise DataError(f"residual: {len(self.vector)} bytes are no float32 numbers")
        if self.crc is not None and self.crc != zlib.crc32(self.vector):
            raise DataError("residual: its checksum differs")


class Residual:
    """Owns the residual file of one job.

    The vector is as large as the model, and only the training process has use for it every round:
    here it is read when it is to change.

    Attributes:
        set_aside: where a damaged file was put, to start from nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Continue from ``folder``.

        Raises:
            StoreError: the file cannot be read, or is damaged and cannot be set aside.
        """
        self._file = folder / "residual.msgpack"
        self.set_aside: Path | None = None
        self._remember(self._read())

    def path(self, schema: str) -> str:
        """The file for the training process, or empty without a residual of layout ``schema``."""
        return str(self._file) if self._size and self._state.schema == schema else ""

    def sent(self, parcel: Parcel) -> None:
        """The residual is now what ``parcel`` left behind."""
        digest = parcel.offer.sha256
        if digest not in self._state.sent:
            sent = (*self._state.sent, digest)[-REMEMBERED:]
            self._save(
                ResidualState(sent, self._state.settled, parcel.carry, _layout(parcel.frame)[0])
            )

    def settle(self, parcel: Parcel, *, included: bool) -> None:
        """The fate of ``parcel`` is known: forget it, or add back what it carried.

        What was made for another layout than the residual's, or for a job that sent other parts of
        the model, is forgotten either way.

        Raises:
            StoreError: the file cannot be read or written.
        """
        digest = parcel.offer.sha256
        if included or digest in self._state.settled:
            return
        vector, schema = self._read().vector, self._state.schema
        if vector and schema and _layout(parcel.frame) == (schema, len(vector) // 4):
            held = np.frombuffer(vector, dtype="<f4")
            _, dropped = decode_frame(parcel.frame, elements=len(held))
            vector = (held + dropped).astype("<f4").tobytes()
        settled = (*self._state.settled, digest)[-REMEMBERED:]
        self._save(ResidualState(self._state.sent, settled, vector, schema))

    def clear(self, digest: str) -> None:
        """The update ``digest`` was unfit, and what is left of it too: start from zeros.

        Raises:
            StoreError: the file cannot be written.
        """
        if digest in self._state.settled:
            return
        settled = (*self._state.settled, digest)[-REMEMBERED:]
        # The layout stays, so that a sound update that comes too late is still added back.
        zeros = bytes(self._size)
        self._save(ResidualState(self._state.sent, settled, zeros, self._state.schema))

    def _save(self, state: ResidualState) -> None:
        state = structs.replace(state, crc=zlib.crc32(state.vector))
        write_atomic(self._file, msgspec.msgpack.encode(state))
        self._remember(state)

    def _remember(self, state: ResidualState) -> None:
        """Hold what the file says, but for the vector."""
        self._state, self._size = structs.replace(state, vector=b"", crc=None), len(state.vector)

    def _read(self) -> ResidualState:
        try:
            return msgspec.msgpack.decode(self._file.read_bytes(), type=ResidualState)
        except FileNotFoundError:
            return ResidualState()
        except OSError as error:
            raise StoreError(
                f"{self._file}: cannot be read: {error.strerror}",
                remedy="give the service user the right to read it",
            ) from error
        except UNREADABLE:
            self._put_aside()
            return ResidualState()

    def _put_aside(self) -> None:
        try:
            self.set_aside = self._file.replace(self._file.with_suffix(".damaged"))
        except OSError as error:
            raise StoreError(
                f"{self._file}: is damaged, and cannot be set aside: {error.strerror}",
                remedy="give the service user the right to write the folder",
            ) from error


def _layout(frame: bytes) -> tuple[str, int]:
    """Layout and length of the frame; ("", 0) if another version of fedmill made it."""
    try:
        header = read_header(frame)
    except FrameError:
        return "", 0
    return header.schema, header.elements


def read_residual(path: Path, elements: int) -> NDArray[np.float32]:
    """The residual vector (elements,) in ``path``; zeros if it was made for another model.

    Raises:
        StoreError: the file is missing.
    """
    try:
        state = msgspec.msgpack.decode(path.read_bytes(), type=ResidualState)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except UNREADABLE:
        return np.zeros(elements, np.float32)
    if len(state.vector) != 4 * elements:
        return np.zeros(elements, np.float32)
    return np.frombuffer(state.vector, dtype="<f4")
