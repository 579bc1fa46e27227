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

    Attributes:
        regimes: operating conditions of the normaliser.
        residual: file with what compression dropped earlier; empty for nothing.
        uplink: codec of the round's updates; empty, or unknown here, for the job's own.
        home: file with what stays on the agent, which is replaced; empty where nothing does.
        undone: round whose update came to nothing; 0 for none.
        identity: file with the key that signs the update; empty where none does.
    """

    weights: str
    regimes: int
    base: str
    schema: str
    round: int
    agent: str
    residual: str = ""
    uplink: str = ""
    home: str = ""
    undone: int = 0
    identity: str = ""


class Evaluate(Task, frozen=True, kw_only=True, tag="evaluate"):
    """Score the weights in the file ``weights`` on the held-out test windows.

    The agent's own parts in the file ``home``, if it is named, take their places in them.
    """

    weights: str
    regimes: int
    version: str
    home: str = ""


class TrainAlone(Task, frozen=True, kw_only=True, tag="train-alone"):
    """At most one round's worth of work on the agent's purely local model in the file ``alone``.

    Nothing is done once it has had ``rounds`` of them. Where there is none yet, its buffers are
    those of the weights in the file ``weights``.
    """

    weights: str
    regimes: int
    agent: str
    rounds: int
    alone: str


class Choose(Task, frozen=True, kw_only=True, tag="choose"):
    """Make the candidates, and leave the one that does best on the validation windows.

    Attributes:
        weights: file with the weights of ``version``, the common candidate.
        ordinal: number of that version.
        home: file with what stays on the agent; empty where nothing does.
        alone: file with the purely local model.
        canary: file with windows, whose outputs tell whether the model computes elsewhere what it
            computes here.
        served: file to replace with the winner.
    """

    weights: str
    regimes: int
    version: str
    ordinal: int
    agent: str
    home: str
    alone: str
    canary: str
    served: str


class Warm(Task, frozen=True, kw_only=True, tag="warm"):
    """Load libraries, windows and the model ahead of the first round."""


class Sign(Task, frozen=True, kw_only=True, tag="sign"):
    """Sign the label of origin of the update ``sha256`` with the key in the file ``identity``."""

    sha256: str
    origin: bytes
    identity: str


Request = CollectMoments | Train | Evaluate | TrainAlone | Choose | Warm | Sign


class Reply(Struct, frozen=True, kw_only=True):
    """What every answer names: the task it answers, and a file that was of no use and put away."""

    number: int
    set_aside: str = ""


class MomentsCollected(Reply, frozen=True, kw_only=True, tag="moments"):
    """Answer to :class:`CollectMoments`."""

    moments: Moments


class Trained(Reply, frozen=True, kw_only=True, tag="trained"):
    """Answer to :class:`Train`: the encoded delta, and the residual if it is included.

    From ``steps`` on the fields are those of an :class:`~fedmill_shared.messages.UpdateOffer`; the
    last three are empty where nothing signs it, and without a signature where no key can be read.
    """

    frame: bytes
    residual: bytes
    examples: int
    loss: float
    seconds: float
    steps: float = 0.0
    shift: dict[str, tuple[float, float]] = {}
    key: str = ""
    origin: bytes = b""
    signature: bytes = b""


class Evaluated(Reply, frozen=True, kw_only=True, tag="evaluated"):
    """Answer to :class:`Evaluate`."""

    version: str
    statistic: Statistic
    last: Statistic


class TrainedAlone(Reply, frozen=True, kw_only=True, tag="trained-alone"):
    """Answer to :class:`TrainAlone`: how many rounds' worth of work the local model has had."""

    rounds: int


class Chosen(Reply, frozen=True, kw_only=True, tag="chosen"):
    """Answer to :class:`Choose`.

    Attributes:
        served: name of the winner.
        validation: of each candidate what decided.
        candidates: each of them on the held-out test windows.
        last: the common one on the last window of each run alone.
    """

    version: str
    served: str
    validation: dict[str, float]
    candidates: dict[str, Statistic]
    last: Statistic


class Ready(Reply, frozen=True, kw_only=True, tag="ready"):
    """Answer to :class:`Warm`."""


class Signed(Reply, frozen=True, kw_only=True, tag="signed"):
    """Answer to :class:`Sign`: a signature over what was asked for, and the key it is of."""

    sha256: str
    key: str
    origin: bytes
    signature: bytes


class Failed(Reply, frozen=True, kw_only=True, tag="failed"):
    """The work could not be done; the process lives on."""

    error: str
    message: str


Answer = MomentsCollected | Trained | Evaluated | TrainedAlone | Chosen | Ready | Signed | Failed

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
