# SPDX-License-Identifier: Apache-2.0
"""Every decoder of bytes that others wrote, with inputs that it takes and ways to spoil them."""

import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import Struct

from fedmill_agent import config as agent_config
from fedmill_agent import sealed
from fedmill_agent.alarms.book import Page
from fedmill_agent.alarms.book import read as read_page
from fedmill_agent.inference.assembly import Assembly
from fedmill_agent.inference.installing.states import SLOTS_FILE, Installation, Slots, SlotsFile
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_agent.residual import Residual, ResidualState, read_residual
from fedmill_agent.sources.mat.level5 import list_variables, read_variable
from fedmill_agent.status import read_status
from fedmill_agent.training import protocol
from fedmill_coordinator import config as coordinator_config
from fedmill_shared import selector, topics
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.base import Codec, Section
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame, read_header
from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder, sha256
from fedmill_shared.job import Job, Labels, Signal, Task
from fedmill_shared.job_check import canonical, decode_job, job_from_canonical, load_job
from fedmill_shared.link.blocks import BLOCK_SIZE, block_count, blocks_of, parse_block
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.link.spool import Spool
from fedmill_shared.messages import (
    ALL,
    DOWN,
    ENROL,
    UP,
    EvaluationReport,
    MomentsReport,
    VersionNotice,
    decode,
    encode,
)
from fedmill_shared.metrics import ClassificationStatistic, merge_all, summary
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.models.quantised import Quantised, pack_quantised, unpack_quantised
from fedmill_shared.signals.moments import Moments, merge, validate
from fedmill_shared.tensors import pack_tensor, unpack_tensor

RECORDED = Path(__file__).parents[1] / "contract"
ELEMENTS = 100
LARGEST = 1 << 20
"""Bytes of the largest input."""

_DIGEST = "5a" * 32
_OPENING = 56
_ENTRY = 24
_BLOCK = 56


def _unchanged(data: bytes) -> bytes:
    return data


@dataclass(frozen=True, slots=True)
class Decoder:
    """One way in.

    Attributes:
        name: what a finding is called.
        decode: takes the bytes, or raises a FedmillError.
        seeds: inputs that it takes.
        repaired: puts checksums right, so that what is spoiled gets behind them.
    """

    name: str
    decode: Callable[[bytes], object]
    seeds: tuple[bytes, ...] = field(repr=False)
    repaired: Callable[[bytes], bytes] = _unchanged


def decoders(folder: Path) -> list[Decoder]:
    """All decoders; those of files write theirs below ``folder``."""
    return [*_messages(), *_frames(), *_values(), *_files(folder), *_settings(folder)]


# Inputs


def inputs(
    decoder: Decoder, rng: random.Random, foreign: tuple[bytes, ...] = ()
) -> Iterator[bytes]:
    """Spoiled inputs without end: mostly mutations of seeds, some ``foreign`` ones, some noise."""
    while True:
        turn = rng.random()
        if turn < 0.1:
            yield rng.randbytes(int(2 ** rng.uniform(0, 12)))
            continue
        others = turn < 0.15 and foreign
        data = spoiled(rng.choice(others or decoder.seeds), rng, decoder.seeds)
        yield decoder.repaired(data) if rng.random() < 0.5 else data


def spoiled(data: bytes, rng: random.Random, pool: tuple[bytes, ...] = ()) -> bytes:
    """``data`` after one to four mutations; ``pool`` has the inputs to splice with."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        rng.choice(_MUTATIONS)(body, rng, pool)
        del body[LARGEST:]
    return bytes(body)


Mutation = Callable[[bytearray, random.Random, tuple[bytes, ...]], None]

_NUMBERS = (0, 1, 127, 128, 255, 256, 4095, 4096, 65535, 65536, (1 << 31) - 1, 1 << 31)
_EDGES = (*_NUMBERS, (1 << 32) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_TOKENS = (
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff"),  # huge counts
    *(b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xdc\xff\xff", b"\xde\xff\xff"),
    *(b"\xcb\x7f\xf8" + bytes(6), b"\xcb\x7f\xf0" + bytes(6), b"\xcf" + b"\xff" * 8, b"\xc0"),
    *(b"\xd3\x80" + bytes(7), b"\xa1\xff", b"\xc1", b"\xd6\xff" + b"\xff" * 4, b"\xc4\xff"),
    *(b"NaN", b"Infinity", b"1e999", b"-1", b"1e-999", b"9" * 20, b"9" * 5000, b"null", b"true"),
    *(b"-0", b"0x7fffffffffffffff", b"inf", b"nan", b"1979-05-27T07:32:00Z", b"'''", b'"""'),
    *(b'"', b"[", b"]", b"{", b"}", b"[[", b"]]", b"=", b".", b"#", b"\\u0000", b"\\ud800", b","),
    *(b"\0", b"\n", b"\r", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"/", b"+", b"$", b"../"),
)
_NESTS = (b"\x91", b"\x81\xa1x", b"[", b'{"a":', b"a.", b"[[a]]\n", b"'", b"\xdd\0\0\0\1")
_WRITTEN = re.compile(rb"\d+")


def _flip(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    for _ in range(rng.randint(1, 8) if body else 0):
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _overwrite(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    """A number on the edge of its range where a length, count or offset may stand."""
    width = rng.choice((1, 2, 4, 4, 4, 8))
    number = rng.choice((*_EDGES, len(body), len(body) + 1, rng.getrandbits(64)))
    order = cast("Any", rng.choice(("little", "big")))
    if len(body) >= width:
        at = rng.randrange(min(len(body), 4096) - width + 1)
        body[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, order)


def _truncate(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    del body[rng.randint(0, len(body)) :]


def _lengthen(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    body += rng.randbytes(rng.randint(1, 64))


def _delete(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    at = rng.randint(0, len(body))
    del body[at : at + rng.randint(1, 16)]


def _insert(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    at = rng.randint(0, len(body))
    body[at : at + rng.choice((0, 0, 1, 5))] = rng.choice(_TOKENS)


def _splice(body: bytearray, rng: random.Random, pool: tuple[bytes, ...]) -> None:
    other = rng.choice(pool) if pool else b""
    begin = rng.randint(0, len(other))
    body[rng.randint(0, len(body)) :] = other[begin:]


def _repeat(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    begin = rng.randint(0, len(body))
    piece = bytes(body[begin : begin + rng.randint(1, 64)])
    times = int(2 ** rng.uniform(1, 18 if rng.random() < 0.02 else 7))
    body[begin:begin] = piece * times


def _nest(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    at = rng.randint(0, len(body))
    times = int(2 ** rng.uniform(1, 18 if rng.random() < 0.02 else 9))
    body[at:at] = rng.choice(_NESTS) * times


def _rewrite(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    """Another number where one is written in digits."""
    found = list(_WRITTEN.finditer(body[:4096]))
    if found:
        match = rng.choice(found)
        body[match.start() : match.end()] = str(rng.choice((*_EDGES, -1, 1e300))).encode()


def _replace(body: bytearray, rng: random.Random, _pool: tuple[bytes, ...]) -> None:
    """A strange value for one part of a MessagePack or JSON document that is otherwise whole."""
    begin = _HEAD if body.startswith(b"FMT1") else 0
    if len(body) > _DOCUMENT:  # the fuzzer, too, has little memory
        return
    for document in (msgspec.msgpack, msgspec.json):
        try:
            value = document.decode(body[begin:])
            body[begin:] = document.encode(_changed(value, rng))
        except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError, TypeError):
            continue
        return


def _changed(value: object, rng: random.Random) -> object:
    if isinstance(value, dict) and value and rng.random() < 0.95:
        key = rng.choice(list(value))
        if rng.random() < 0.05:
            return {**value, rng.choice(_STRANGE): value[key]} if rng.random() < 0.5 else {}
        return value | {key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, list):
        return value * rng.choice((0, 2, 300 if len(value) < 100 else 3))
    if isinstance(value, int) and rng.random() < 0.7:
        return rng.choice((*_EDGES, -1, value + 1, -(1 << 63)))
    return rng.choice(_STRANGE)


_STRANGE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1 << 63, (1 << 64) - 1, -(1 << 63), 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), "", "x", "all", "../x", "x\n", "\0" * 33, "\u2028", "5a" * 32),
    *(b"", b"\0" * 7, b"{}"),
)
_HEAD = 8
_DOCUMENT = 1 << 16
_MUTATIONS: tuple[Mutation, ...] = (
    *(_flip, _overwrite, _overwrite, _truncate, _lengthen, _delete, _replace, _replace),
    *(_insert, _splice, _repeat, _nest, _rewrite, _replace, _replace),
)


# On the wire


def _recorded(pattern: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(RECORDED.glob(f"wire_v*/{pattern}")))


def _messages() -> Iterator[Decoder]:
    for way, kinds in {"up": UP, "down": DOWN, "all": ALL, "enrol": ENROL}.items():
        for kind, type_ in kinds.items():
            name = f"{way}-{kind}"
            recorded = _recorded(f"{name}.bin") + _recorded(f"{name}-*.bin")
            seeds = (*recorded, _complete(type_, *recorded[:1]))
            yield Decoder(name, _message(type_), seeds)
    topic = topics.up("agent-1", "update")
    yield Decoder("topic", _text(topics.parse_up), (topic.encode(),))


_TYPICAL: dict[str, Any] = {
    "job": "press",
    "sha256": _DIGEST,
    "blob": _DIGEST,
    "retry_after": 1.5,
    "missing": list(range(300)),
    "labels": {"line": "A", "rate": 1.5, "spare": True, "tags": ["press", "hot"]},
    "cohort": ["agent-1", "agent-2"],
    "jobs": {f"job-{i}": {"phase": "joined", "windows": {"train": i}} for i in range(30)},
}
"""Fields that no recording has, or none with much in it."""


def _complete(type_: type[Struct], recorded: bytes = b"") -> bytes:
    """A message in which every field is written, as in ``recorded`` where it is known."""
    fields = {name: _TYPICAL[name] for name in type_.__struct_fields__ if name in _TYPICAL}
    if recorded:
        fields = msgspec.to_builtins(decode(recorded, type_), builtin_types=(bytes,)) | fields
    return encode(msgspec.convert(fields, type_))


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "replace"))


def _message(type_: type[Struct]) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        message = decode(data, type_)
        match message:
            case MomentsReport():
                validate(message.moments, signals=2, regimes=2)
                return merge([message.moments, message.moments])
            case EvaluationReport():
                merge_all([message.last, message.last])
                return summary(message.statistic)
        return message

    return read


def _frames() -> Iterator[Decoder]:
    yield Decoder(
        "block",
        parse_block,
        (*_recorded("block.bin"), *blocks_of(bytes(3000)), *blocks_of(b"")),
        _block_repaired,
    )
    header = FrameHeader(content="delta", round=3, schema="ab" * 8, base="cd" * 8, examples=7)
    vector = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    for name, codec in CODECS.items():
        large = encode_frame(codec, vector, header, np.random.default_rng(0))
        made = encode_frame(codec, vector[:ELEMENTS], header, np.random.default_rng(0))
        small = (*_recorded(f"frame_{name}.bin"), made)
        for elements, seeds in ((ELEMENTS, small), (5000, (large,))):
            yield Decoder(f"frame {name} {elements}", _frame(elements), seeds, _frame_repaired)
            yield Decoder(f"payload {name} {elements}", *_payload(codec, vector[:elements]))
    yield Decoder("header", read_header, _recorded("frame_*.bin"), _frame_repaired)


def _block_repaired(data: bytes) -> bytes:
    crc = zlib.crc32(data[_BLOCK:])
    return data[: _BLOCK - 4] + crc.to_bytes(4, "little") + data[_BLOCK:]


def _frame(elements: int) -> Callable[[bytes], object]:
    return lambda data: decode_frame(data, elements=elements)


def _frame_repaired(data: bytes) -> bytes:
    """``data`` with its own length and both checksums, as a forger would send it."""
    sections = data[7] if len(data) > _OPENING + 4 else 0
    stop = _OPENING + _ENTRY * sections
    if len(data) < stop + 4:
        return data
    fields = data[:48] + len(data).to_bytes(4, "little")
    crc = zlib.crc32(data[_OPENING:stop], zlib.crc32(fields))
    body = fields + crc.to_bytes(4, "little") + data[_OPENING:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def _payload(
    codec: Codec, vector: "np.typing.NDArray[np.float32]"
) -> tuple[Callable[[bytes], object], tuple[bytes, ...]]:
    """The codec alone: aux and length of every section, then their bytes, behind no checksum."""
    sections = codec.encode(vector, np.random.default_rng(0), 0)
    heads = struct.Struct("<" + "II" * len(sections))

    def read(data: bytes) -> object:
        numbers = heads.unpack_from(data.ljust(heads.size, b"\0"))
        cut, begin = [], heads.size
        for section, aux, length in zip(sections, numbers[::2], numbers[1::2], strict=True):
            cut.append(Section(section.kind, data[begin : begin + length], aux))
            begin += length
        return codec.decode(cut, vector.size, 0)

    numbers = [number for each in sections for number in (each.aux, len(each.data))]
    return read, (heads.pack(*numbers) + b"".join(section.data for section in sections),)


# In blobs and pipes


def _values() -> Iterator[Decoder]:
    tensor = pack_tensor(np.ones((2, 3, 4), np.float32))
    yield Decoder("tensor", unpack_tensor, (tensor, pack_tensor(np.zeros((0, 3), np.float32))))
    yield Decoder("manifest", _manifest, (msgspec.json.encode(_MANIFEST),))
    yield Decoder("job", job_from_canonical, (canonical(_JOB),))
    yield Decoder("selector", _selected, (b'line == "A" and "x" in tags or not (1 < rate <= 5.0)',))
    requests = (protocol.CollectMoments(**_TASK), protocol.Warm(**_TASK), _TRAIN, _EVALUATE)
    yield Decoder("trainer request", _request, tuple(map(_sent, requests)), _head_repaired)
    yield Decoder("trainer answer", _answer, tuple(map(_sent, _ANSWERS)), _head_repaired)


_MANIFEST = Manifest((Tensor("a.weight", (3, 4), 0, "backbone"), Tensor("b", (), 12, "buffer")))
_JOB = Job(
    job=Task(name="press"),
    signals=[Signal(name="vibration", unit="g", rate_hz=12_000.0)],
    labels=Labels(classes=["normal", "outer"]),
)
_TASK: Any = {"number": 1, "job": canonical(_JOB), "store": "windows.sqlite"}
_PLACE: Any = {"weights": "w.blob", "regimes": 1}
_TRAIN = protocol.Train(**_TASK, **_PLACE, base=_DIGEST, schema=_DIGEST, round=3, agent="a")
_EVALUATE = protocol.Evaluate(**_TASK, **_PLACE, version=_DIGEST)
_STATISTIC = ClassificationStatistic(2, (3, 1, 0, 4), 0.5)
_ANSWERS: tuple[protocol.Answer, ...] = (
    protocol.MomentsCollected(number=1, moments=Moments([])),
    protocol.Trained(
        number=2, frame=b"frame", residual=b"\0" * 40, examples=64, loss=0.5, seconds=1.5
    ),
    protocol.Evaluated(number=3, version=_DIGEST, statistic=_STATISTIC, last=_STATISTIC),
    protocol.Ready(number=4),
    protocol.Failed(number=5, error="ModelError", message="no"),
)


def _manifest(data: bytes) -> object:
    """As an agent takes the layout of a version from its shelf."""
    held: Any = SimpleNamespace(_shelf=SimpleNamespace(get=lambda _name: data))
    manifest = Assembly.layout(held, _NOTICE)
    return manifest.digest, manifest.ranges(("head", "norm"))


_NOTICE = decode(_recorded("all-version.bin")[0], VersionNotice)


def _selected(data: bytes) -> object:
    return selector.parse(data.decode("utf-8", "replace")).matches(_TYPICAL["labels"])


def _request(data: bytes) -> object:
    return protocol.receive_request(BufferedReader(cast("Any", BytesIO(data))))


def _answer(data: bytes) -> object:
    return protocol.receive_answer(BufferedReader(cast("Any", BytesIO(data))))


def _head_repaired(data: bytes) -> bytes:
    """``data`` with its own length in its head."""
    return b"FMT1" + max(0, len(data) - _HEAD).to_bytes(4, "little") + data[_HEAD:]


def _sent(message: protocol.Request | protocol.Answer) -> bytes:
    stream = BytesIO()
    protocol.send(stream, message)
    return stream.getvalue()


# On disk


def _files(folder: Path) -> Iterator[Decoder]:
    recorded = _recorded("parcel.bin")[0]
    parcel = msgspec.msgpack.decode(recorded, type=Parcel)
    yield Decoder("parcel", _outbox(folder / "outbox", parcel), (recorded,))
    state = ResidualState((_DIGEST,), (), bytes(4 * ELEMENTS), read_header(parcel.frame).schema)
    yield Decoder(
        "residual", _residual(folder / "residual", parcel), (msgspec.msgpack.encode(state),)
    )
    yield Decoder("arriving blob", _spool(folder / "spool"), tuple(_arriving(folder / "arriving")))
    yield Decoder("active version", _shelf(folder / "shelf"), _recorded("all-version.bin"))
    status = b'{"pid":1,"started":2,"connected":true,"trainer_pid":null,"state":{"online":true}}'
    yield from _sealed_files(folder)
    yield Decoder("status", _status(folder / "status"), (status,))
    yield Decoder("mat", _mat(folder / "variables.mat"), tuple(_mat_seeds()))


def _sealed_files(folder: Path) -> Iterator[Decoder]:
    """What is kept with a checksum, which is put right, and the int8 form of a template."""
    notice = _NOTICE
    new = Installation(release=3, notice=notice, origin="release", state="shadowing", since_ns=5)
    slots = sealed.sealed(Slots(current=notice, old=notice, new=new, release=3))
    yield Decoder("slots", _slots(make_folder(folder / "slots")), (slots,), _resealed)
    page = sealed.sealed(Page(number=7))
    yield Decoder("alarms", _alarms(make_folder(folder / "alarms")), (page,), _resealed)
    form = pack_quantised(Quantised(template=b"graph", ranges=b"graph", points=3))
    yield Decoder("int8 form", unpack_quantised, (form,))


def _slots(folder: Path) -> Callable[[bytes], object]:
    file = SlotsFile(folder)

    def read(data: bytes) -> object:
        (folder / SLOTS_FILE).write_bytes(data)
        return file.peek()

    return read


def _alarms(folder: Path) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        (folder / "alarms.msgpack").write_bytes(data)
        return read_page(folder / "alarms.msgpack")

    return read


def _resealed(data: bytes) -> bytes:
    """The checksum of whatever body there is."""
    try:
        fields = msgspec.msgpack.decode(data, type=dict[str, bytes | int])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data
    body = fields.get("body")
    if not isinstance(body, bytes):
        return data
    return msgspec.msgpack.encode(fields | {"crc": zlib.crc32(body)})


def _outbox(folder: Path, parcel: Parcel) -> Callable[[bytes], object]:
    outbox = Outbox(folder)
    path = folder / f"{parcel.offer.sha256}.update"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        if not list(outbox.parcels()):
            raise StoreError("the parcel was set aside")
        return outbox.get(parcel.offer.sha256)

    return read


def _residual(folder: Path, parcel: Parcel) -> Callable[[bytes], object]:
    folder.mkdir(parents=True)
    path = folder / "residual.msgpack"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        vector = read_residual(path, ELEMENTS)
        residual = Residual(folder)
        if residual.set_aside is not None:
            raise StoreError("the residual was set aside")
        residual.settle(parcel, included=False)
        return vector

    return read


def _spool(folder: Path) -> Callable[[bytes], object]:
    """The index of a blob of which some blocks are on disk."""
    spool = Spool(folder)

    def read(data: bytes) -> object:
        (folder / f"{_BLOB_NAME}.index").write_bytes(data)
        (folder / f"{_BLOB_NAME}.part").write_bytes(_BLOB[:-1])
        spool.expect(_BLOB_NAME, len(_BLOB))
        missing = spool.missing(_BLOB_NAME)
        spool.forget(_BLOB_NAME)
        if len(missing) == block_count(len(_BLOB)):
            raise StoreError("nothing is there")
        return missing

    return read


def _arriving(folder: Path) -> Iterator[bytes]:
    spool = Spool(folder)
    spool.expect(_BLOB_NAME, len(_BLOB))
    for block in list(blocks_of(_BLOB))[:2]:
        spool.add(parse_block(block))
    yield (folder / f"{_BLOB_NAME}.index").read_bytes()


_BLOB = bytes(2 * BLOCK_SIZE + 7)
_BLOB_NAME = sha256(_BLOB)


def _shelf(folder: Path) -> Callable[[bytes], object]:
    shelf = VersionShelf(folder)

    def read(data: bytes) -> object:
        (folder / "active.msgpack").write_bytes(data)
        if (notice := shelf.active()) is None:
            raise StoreError("there is no active version")
        return notice

    return read


def _status(folder: Path) -> Callable[[bytes], object]:
    folder.mkdir(parents=True)

    def read(data: bytes) -> object:
        (folder / "status.json").write_bytes(data)
        return read_status(folder)

    return read


def _mat(path: Path) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        path.write_bytes(data)
        found = list_variables(str(path))
        return [read_variable(str(path), each) for each in found[:4] if each.readable]

    return read


def _mat_seeds() -> Iterator[bytes]:
    from scipy.io import savemat

    arrays = {"one": np.arange(12.0).reshape(3, 4), "two": np.arange(300, dtype=np.int16)}
    for compressed in (False, True):
        stream = BytesIO()
        savemat(stream, arrays, do_compression=compressed)
        yield stream.getvalue()


# What people write


def _settings(folder: Path) -> Iterator[Decoder]:
    path = folder / "written.toml"

    def of_file(load: Callable[[Path], object]) -> Callable[[bytes], object]:
        def read(data: bytes) -> object:
            path.write_bytes(data)
            return load(path)

        return read

    yield Decoder("job file", of_file(load_job), (_JOB_FILE,))
    yield Decoder(
        "job text", lambda data: decode_job(data.decode("utf-8", "replace"), "x"), (_JOB_FILE,)
    )
    yield Decoder("agent file", of_file(agent_config.load), (_AGENT_FILE,))
    yield Decoder("coordinator file", of_file(coordinator_config.load), (_COORDINATOR_FILE,))


_JOB_FILE = b"""# a job
[job]
name = "press"
task = "classification"

[[signals]]
name = "vibration"
unit = "g"
rate_hz = 12_000.0

[[signals]]
name = "speed"
unit = "rpm"
rate_hz = 12e3
role = "regime"
resolution = 100.0

[window]
length = 1024
normalise = "regime"

[labels]
classes = ["normal", 'outer']

[model]
architecture = "wdcnn"
channels = [8, 16]

[federation]
rounds = 5
"""
_AGENT_FILE = b"""[agent]
id = "press-1"
state = "state"

[broker]
host = "127.0.0.1"
port = 1883

[[sources]]
kind = "rig"
name = "live"
fault = "outer"
seconds = 1.0

[[sources]]
kind = "csv"
name = "table"
path = "x.csv"
time_column = "t"
"""
_COORDINATOR_FILE = b"""[coordinator]
id = "coordinator"
jobs = ["job.toml"]

[broker]
host = "127.0.0.1"
port = 1883
connect_seconds = 5.0
"""
