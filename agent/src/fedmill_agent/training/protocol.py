# SPDX-License-Identifier: Apache-2.0
"""What the daemon and its training process say to each other over two pipes.

Each message is the four bytes ``FMT1``, a 4-byte little-endian length and a MessagePack struct, so
that anything else in the pipe is noticed at once. No torch here.
"""

import struct
from typing import BinaryIO

import msgspec
from msgspec import Struct

from fedmill_shared.errors import TrainerError
from fedmill_shared.messages import UNREADABLE
from fedmill_shared.metrics import Statistic
from fedmill_shared.signals.moments import Moments

_HEAD = struct.Struct("<4sI")
_MAGIC = b"FMT1"
LIMIT = 1 << 31
_PIECE = 1 << 20  # a length that lies costs no more memory than this


class Task(Struct, frozen=True, kw_only=True):
    """What every piece of work needs: the canonical job file and the window store."""

    number: int
    job: bytes
    store: str


class CollectMoments(Task, frozen=True, kw_only=True, tag="moments"):
    """Statistics of the training windows."""


class Train(Task, frozen=True, kw_only=True, tag="train"):
    """One round of local work on the weights in the file ``weights`` (float32).

    ``regimes`` counts the operating conditions of the normaliser; ``residual`` is the file with
    what compression dropped earlier, or empty.
    """

    weights: str
    regimes: int
    base: str
    schema: str
    round: int
    agent: str
    residual: str = ""


class Evaluate(Task, frozen=True, kw_only=True, tag="evaluate"):
    """Score the weights in the file ``weights`` on the held-out test windows."""

    weights: str
    regimes: int
    version: str


class Warm(Task, frozen=True, kw_only=True, tag="warm"):
    """Load libraries, windows and the model ahead of the first round."""


Request = CollectMoments | Train | Evaluate | Warm


class Reply(Struct, frozen=True, kw_only=True):
    """What every answer names: the task it answers."""

    number: int


class MomentsCollected(Reply, frozen=True, kw_only=True, tag="moments"):
    """Answer to :class:`CollectMoments`."""

    moments: Moments


class Trained(Reply, frozen=True, kw_only=True, tag="trained"):
    """Answer to :class:`Train`: the encoded delta, and the residual if it is included."""

    frame: bytes
    residual: bytes
    examples: int
    loss: float
    seconds: float


class Evaluated(Reply, frozen=True, kw_only=True, tag="evaluated"):
    """Answer to :class:`Evaluate`."""

    version: str
    statistic: Statistic
    last: Statistic


class Ready(Reply, frozen=True, kw_only=True, tag="ready"):
    """Answer to :class:`Warm`."""


class Failed(Reply, frozen=True, kw_only=True, tag="failed"):
    """The work could not be done; the process lives on."""

    error: str
    message: str


Answer = MomentsCollected | Trained | Evaluated | Ready | Failed

_REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def send(stream: BinaryIO, message: Request | Answer) -> None:
    """Write one message and flush."""
    data = msgspec.msgpack.encode(message)
    stream.write(_HEAD.pack(_MAGIC, len(data)) + data)
    stream.flush()


def receive_request(stream: BinaryIO) -> Request | None:
    """The next request; None at the end of the stream.

    Raises:
        TrainerError: what came is not a request.
    """
    data = _read(stream)
    if data is None:
        return None
    try:
        return _REQUESTS.decode(data)
    except UNREADABLE as error:
        raise TrainerError(f"agent daemon sent something foreign: {error}") from error


def receive_answer(stream: BinaryIO) -> Answer | None:
    """The next answer; None at the end of the stream.

    Raises:
        TrainerError: what came is not an answer.
    """
    data = _read(stream)
    if data is None:
        return None
    try:
        return _ANSWERS.decode(data)
    except UNREADABLE as error:
        raise TrainerError(f"training process sent something foreign: {error}") from error


def _read(stream: BinaryIO) -> bytearray | None:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, length = _HEAD.unpack(head)
    if magic != _MAGIC or length > LIMIT:
        raise TrainerError(
            f"between daemon and training process: {head!r} is no head of a message",
            remedy="something writes to the pipe that should write to a log",
        )
    data = bytearray()
    while len(data) < length:
        piece = stream.read(min(_PIECE, length - len(data)))
        if not piece:
            return None
        data += piece
    return data
