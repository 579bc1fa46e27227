# SPDX-License-Identifier: Apache-2.0
"""What the tests of recordings share: files that are written once, and messages in them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fedmill_shared.codec.frame import FrameHeader
from fedmill_shared.errors import FrameError
from fedmill_shared.files import sha256
from fedmill_shared.messages import (
    ALL,
    DOWN,
    ENROL,
    UP,
    BlobName,
    BlobRequest,
    Join,
    MomentsReport,
    UpdateOffer,
    VersionNotice,
    decode,
    encode,
)
from fedmill_shared.signals.moments import Cell, Moments

HERE = Path(__file__).parent


def digest(text: str) -> str:
    """A SHA-256 that stands for ``text``."""
    return sha256(text.encode())


def blob(text: str) -> BlobName:
    """A blob that stands for ``text``."""
    return BlobName(sha256=digest(text), size=len(text))


OFFER = UpdateOffer(
    job="press",
    round=3,
    base=digest("base"),
    sha256=digest("frame"),
    size=1234,
    examples=567,
    loss=0.125,
    seconds=1.5,
)
HEADER = FrameHeader(
    content="delta",
    round=3,
    schema=digest("schema")[:16],
    base=digest("base")[:16],
    examples=567,
    seed=9,
)
MESSAGES: dict[str, msgspec.Struct] = {
    "up-join": Join(job="press", schema=digest("schema"), windows={"train": 10, "test": 3}),
    "up-moments": MomentsReport(
        job="press",
        moments=Moments([Cell((1, -2), 16, [0.5, 20.0], [2.0, 8.0])], 16, 100.0, 64.0),
    ),
    "up-request": BlobRequest(job="press", blob=digest("blob"), missing=[0, 5, 7]),
    "all-version": VersionNotice(
        job="press",
        number=2,
        version=digest("version"),
        manifest=blob("manifest"),
        template=blob("template"),
        canary_inputs=blob("inputs"),
        canary_outputs=b"outputs",
        snapshot=blob("weights"),
        base=digest("base"),
        delta=blob("delta"),
        evaluate=True,
    ),
}
"""Those that every protocol so far says in the same bytes, by the names of their recordings."""


def types(*, without: Collection[str] = ()) -> dict[str, type[msgspec.Struct]]:
    """Type of each kind of message but those ``without``, by the name of its recording."""
    directions = {"up": UP, "down": DOWN, "all": ALL, "enrol": ENROL}
    every = {f"{way}-{kind}": of for way, kinds in directions.items() for kind, of in kinds.items()}
    return {name: of for name, of in every.items() if name not in without}


@dataclass(frozen=True)
class Folder:
    """A folder of recordings, and the messages that were recorded in it, by name."""

    path: Path
    messages: Mapping[str, msgspec.Struct]

    def read(self, name: str) -> bytes:
        """The bytes of one recording."""
        return (self.path / f"{name}.bin").read_bytes()

    def plain(self, name: str) -> dict[str, Any]:
        """A message as software without our types reads it."""
        decoder = msgspec.json.decode if name == "up-state" else msgspec.msgpack.decode
        return decoder(self.read(name))

    def kinds(self) -> set[str]:
        """Names of the messages that are recorded."""
        return {path.stem for path in self.path.glob("*-*.bin")}

    def wire(self) -> dict[str, bytes]:
        """The messages as they are written today."""
        return {name: encode(message) for name, message in self.messages.items()}

    def assert_meant(self, name: str) -> None:
        """Every field of the message has the value that was sent."""
        message = self.messages[name]
        assert decode(self.read(name), type(message)) == message

    def assert_cuts_refused(self, name: str) -> None:
        """A message that ends early is never taken for a shorter one."""
        whole, of = self.read(name), type(self.messages[name])
        for length in range(len(whole)):
            with pytest.raises(FrameError):
                decode(whole[:length], of)


def record(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write one file for each of ``files``.

    What was recorded once is what old software sends: it is never written again.

    Raises:
        FileExistsError: a file is there already.
    """
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        with (folder / f"{name}.bin").open("xb") as file:
            file.write(data)


def assert_recorded_once(folder: Path, files: Mapping[str, bytes], scratch: Path) -> None:
    """``folder`` has just ``files``; they could be added to ``scratch``, and nothing changed."""
    record(scratch, files)
    assert {path.name for path in scratch.iterdir()} == {path.name for path in folder.iterdir()}
    first = min(scratch.iterdir())
    first.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        record(scratch, files)
    assert first.read_bytes() == b"old"
