# SPDX-License-Identifier: Apache-2.0
"""Protocol 2 as it was recorded, and what software of protocol 1 finds in it.

The files in ``wire_v2`` were written once, with ``python -m tests.contract.test_wire_v2``, and are
never written again. Frames, blocks and their headers are those of protocol 1.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fedmill_shared.errors import FrameError
from fedmill_shared.files import sha256
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.messages import (
    ALL,
    DOWN,
    UP,
    AgentState,
    BlobName,
    BlobRequest,
    EvaluationReport,
    JobNotice,
    JobPhase,
    Join,
    MomentsReport,
    Reason,
    Receipt,
    Refusal,
    RoundNotice,
    UpdateOffer,
    VersionNotice,
    Wait,
    decode,
    encode,
)
from fedmill_shared.metrics import ClassificationStatistic, RegressionStatistic
from fedmill_shared.signals.moments import Cell, Moments

HERE = Path(__file__).parent
RECORDED = HERE / "wire_v2"
FIRST = HERE / "wire_v1"


def digest(text: str) -> str:
    """A SHA-256 that stands for ``text``."""
    return sha256(text.encode())


def blob(text: str) -> BlobName:
    """A blob that stands for ``text``."""
    return BlobName(sha256=digest(text), size=len(text))


FRAME = b"a frame of any codec"
CARRY = np.arange(4, dtype="<f4").tobytes()
OFFER = UpdateOffer(
    job="press",
    round=3,
    base=digest("base"),
    sha256=sha256(FRAME),
    size=len(FRAME),
    examples=567,
    loss=0.125,
    seconds=1.5,
    protocol=2,
    offered_again=True,
)
MESSAGES: dict[str, Any] = {
    "up-state": AgentState(
        online=True,
        software="0.2.0",
        protocol=1,
        newest=2,
        sent_ns=1_700_000_000_000_000_000,
        resident_bytes=70_000_000,
        labels={"line": "A", "spare": False, "axes": 5, "load": 0.5, "tags": ["press", "old"]},
        jobs={
            "press": JobPhase(
                phase="waiting",
                version=digest("version"),
                windows={"train": 10, "test": 3},
                windows_scored=7,
                windows_bad=1,
                ineligible="10 labelled training windows, 50 wanted",
            )
        },
    ),
    "up-join": Join(job="press", schema=digest("schema"), windows={"train": 10, "test": 3}),
    "up-moments": MomentsReport(
        job="press",
        moments=Moments([Cell((1, -2), 16, [0.5, 20.0], [2.0, 8.0])], 16, 100.0, 64.0),
    ),
    "up-refusal": Refusal(job="press", reason="ProtocolError", text="upgrade agent: größer"),
    "up-update": OFFER,
    "up-evaluation": EvaluationReport(
        job="press",
        version=digest("version"),
        statistic=ClassificationStatistic(2, (3, 1, 0, 4), 1.25),
        last=RegressionStatistic(1, 4.0, 2.0, 0.5, 90.0, 0.0),
    ),
    "up-request": BlobRequest(job="press", blob=digest("blob"), missing=[0, 5, 7]),
    "down-receipt": Receipt(
        job="press",
        round=3,
        sha256=digest("frame"),
        fate="refused",
        reason="base is not that of round 3",
        code=Reason.WRONG_BASE,
    ),
    "down-request": BlobRequest(job="press", blob=digest("frame"), missing=[8, 9]),
    "down-wait": Wait(job="press", sha256=digest("frame"), retry_after=2.5),
    "all-job": JobNotice(
        job="press",
        text=b'{"federation":{"select":"line == \\"A\\""},"job":{"name":"press"}}',
        state="running",
        protocol=1,
        newest=2,
        spread=1.25,
    ),
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
    "all-round": RoundNotice(
        job="press",
        round=4,
        base=digest("version"),
        deadline_ns=1_700_000_060_000_000_000,
        closed=3,
        included={"gw-1": digest("frame")},
        sent_ns=1_700_000_000_000_000_000,
        seconds_left=60.0,
        cohort=["gw-1", "gw-2"],
        attempt=1,
    ),
    "all-round-everyone": RoundNotice(job="press", round=4, base=digest("version"), cohort=None),
}
PARCEL = Parcel(OFFER, FRAME, CARRY)


def record(folder: Path) -> None:
    """Write one file for each message, and one for a parcel as it waits on a disk.

    What was recorded once is what old software sends: it is never written again.

    Raises:
        FileExistsError: a file is there already.
    """
    wire = {name: encode(message) for name, message in MESSAGES.items()}
    for name, payload in {**wire, "parcel": msgspec.msgpack.encode(PARCEL)}.items():
        with (folder / f"{name}.bin").open("xb") as file:
            file.write(payload)


def recorded(name: str, folder: Path = RECORDED) -> bytes:
    """The bytes of one recording."""
    return (folder / f"{name}.bin").read_bytes()


def types() -> dict[str, type[msgspec.Struct]]:
    """Type of each kind of message, by the name of its recording."""
    directions = {"up": UP, "down": DOWN, "all": ALL}
    return {f"{way}-{kind}": of for way, kinds in directions.items() for kind, of in kinds.items()}


def plain(name: str, folder: Path) -> dict[str, Any]:
    """A recording as software without our types reads it."""
    decoder = msgspec.json.decode if name == "up-state" else msgspec.msgpack.decode
    return decoder(recorded(name, folder))


class TestMessages:
    @pytest.mark.parametrize("name", MESSAGES)
    def test_is_read_as_it_was_meant(self, name: str) -> None:
        """Every field has the value that was sent."""
        assert decode(recorded(name), type(MESSAGES[name])) == MESSAGES[name]

    def test_every_kind_of_protocol_2_is_recorded(self) -> None:
        """Nothing that protocol 2 says is left to chance."""
        names = {path.stem for path in RECORDED.glob("*-*.bin")}
        assert names == {*MESSAGES} == {*types(), "all-round-everyone"}
        assert all(type(MESSAGES[name]) is of for name, of in types().items())

    @pytest.mark.parametrize("name", MESSAGES)
    def test_each_cut_is_refused(self, name: str) -> None:
        """A message that ends early is never taken for a shorter one."""
        whole = recorded(name)
        for length in range(len(whole)):
            with pytest.raises(FrameError):
                decode(whole[:length], type(MESSAGES[name]))

    def test_a_parcel_outlives_an_upgrade(self, tmp_path: Path) -> None:
        """An update that was left on disk is still delivered."""
        (tmp_path / f"{sha256(FRAME)}.update").write_bytes(recorded("parcel"))
        assert list(Outbox(tmp_path).parcels()) == [PARCEL]


class TestProtocol1:
    @pytest.mark.parametrize("name", sorted({path.stem for path in FIRST.glob("*-*.bin")}))
    def test_finds_all_that_it_knows(self, name: str) -> None:
        """Under the same names and of the same types; what else is there it skips."""
        old = plain(name, FIRST)
        new = plain(name.removesuffix("-regression"), RECORDED)
        assert {field: type(new[field]) for field in old} == {
            field: type(value) for field, value in old.items()
        }

    def test_is_sent_no_kind_that_it_does_not_know(self) -> None:
        """Requests for blocks and waits are for those who said that they speak protocol 2."""
        old = {path.stem for path in FIRST.glob("*-*.bin")}
        assert set(types()) - old == {"down-request", "down-wait"}


class TestRecord:
    def test_never_overwrites(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        (tmp_path / "up-state.bin").write_bytes(b"old")
        with pytest.raises(FileExistsError):
            record(tmp_path)
        assert (tmp_path / "up-state.bin").read_bytes() == b"old"

    def test_writes_one_file_for_each(self, tmp_path: Path) -> None:
        """With the names of those that are here."""
        record(tmp_path)
        names = {path.name for path in RECORDED.iterdir()}
        assert {path.name for path in tmp_path.iterdir()} == names


if __name__ == "__main__":
    RECORDED.mkdir(exist_ok=True)
    record(RECORDED)
