# SPDX-License-Identifier: Apache-2.0
"""What compression dropped so far: carried into the next delta, on disk, settled exactly once.

Sending an update leaves its ``carry`` as the residual. If the round result does not include the
update, what was sent is added back. Both are recorded by the update's SHA-256 inside the same
file, so a crash between any two steps neither loses nor doubles a delta.
"""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.link.outbox import Parcel

REMEMBERED = 64


class ResidualState(Struct, frozen=True):
    """The residual vector (float32 bytes) and the updates whose sending and fate are in it."""

    sent: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    vector: bytes = b""


class Residual:
    """Owns the residual file of one job."""

    def __init__(self, folder: Path) -> None:
        """Continue from ``folder``; a damaged file means to start from nothing."""
        self._file = folder / "residual.msgpack"
        self._state = _read(self._file)

    @property
    def path(self) -> str:
        """The file for the training process, or empty while there is no residual."""
        return str(self._file) if self._state.vector else ""

    def sent(self, parcel: Parcel) -> None:
        """The residual is now what ``parcel`` left behind."""
        digest = parcel.offer.sha256
        if digest not in self._state.sent:
            sent = (*self._state.sent, digest)[-REMEMBERED:]
            self._save(ResidualState(sent, self._state.settled, parcel.carry))

    def settle(self, parcel: Parcel, *, included: bool) -> None:
        """The fate of ``parcel`` is known: forget it, or add back what it carried."""
        digest = parcel.offer.sha256
        if digest in self._state.settled:
            return
        vector = self._state.vector
        if not included and vector:
            held = np.frombuffer(vector, dtype="<f4")
            _, dropped = decode_frame(parcel.frame, elements=len(held))
            vector = (held + dropped).astype("<f4").tobytes()
        settled = (*self._state.settled, digest)[-REMEMBERED:]
        self._save(ResidualState(self._state.sent, settled, vector))

    def _save(self, state: ResidualState) -> None:
        write_atomic(self._file, msgspec.msgpack.encode(state))
        self._state = state


def read_residual(path: Path, elements: int) -> NDArray[np.float32]:
    """The residual vector (elements,) in ``path``; zeros if it was made for another model.

    Raises:
        StoreError: the file is missing.
    """
    try:
        state = msgspec.msgpack.decode(path.read_bytes(), type=ResidualState)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError:
        return np.zeros(elements, np.float32)
    vector = np.frombuffer(state.vector, dtype="<f4")
    return vector if vector.shape == (elements,) else np.zeros(elements, np.float32)


def _read(path: Path) -> ResidualState:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=ResidualState)
    except FileNotFoundError:
        return ResidualState()
    except (OSError, msgspec.DecodeError):
        path.replace(path.with_suffix(".damaged"))
        return ResidualState()
