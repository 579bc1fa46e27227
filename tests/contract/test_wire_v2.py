# SPDX-License-Identifier: Apache-2.0
"""Protocol 2 as it was recorded, and what software of protocol 1 finds in it.

The files in ``wire_v2`` were written once, with ``python -m tests.contract.test_wire_v2``, and are
never written again. Frames, blocks and their headers are those of protocol 1.
"""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs
from tests.contract import recording
from tests.contract.recording import HERE, Folder, assert_recorded_once, digest, record

from fedmill_shared.files import sha256
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.messages import (
    AgentState,
    BlobRequest,
    EvaluationReport,
    JobNotice,
    JobPhase,
    Reason,
    Receipt,
    Refusal,
    RoundNotice,
    Wait,
)
from fedmill_shared.metrics import ClassificationStatistic, RegressionStatistic

FRAME = b"a frame of any codec"
CARRY = np.arange(4, dtype="<f4").tobytes()
OFFER = structs.replace(
    recording.OFFER, sha256=sha256(FRAME), size=len(FRAME), protocol=2, offered_again=True
)
MESSAGES: dict[str, msgspec.Struct] = {
    **recording.MESSAGES,
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
    "up-refusal": Refusal(job="press", reason="ProtocolError", text="upgrade agent: größer"),
    "up-update": OFFER,
    "up-evaluation": EvaluationReport(
        job="press",
        version=digest("version"),
        statistic=ClassificationStatistic(2, (3, 1, 0, 4), 1.25),
        last=RegressionStatistic(1, 4.0, 2.0, 0.5, 90.0, 0.0),
    ),
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
SINCE = {
    *("all-release", "up-wish", "up-renew", "down-certificate", "enrol-up", "enrol-down"),
    *("up-echo", "down-echo"),
}
"""Kinds of message that came later, and are recorded elsewhere."""
PARCEL = Parcel(OFFER, FRAME, CARRY)
FIRST = Folder(HERE / "wire_v1", {})
FOLDER = Folder(HERE / "wire_v2", MESSAGES)


def files() -> dict[str, bytes]:
    """One for each message, and one for a parcel as it waits on a disk."""
    return {**FOLDER.wire(), "parcel": msgspec.msgpack.encode(PARCEL)}


class TestMessages:
    @pytest.mark.parametrize("name", MESSAGES)
    def test_is_read_as_it_was_meant(self, name: str) -> None:
        """Every field has the value that was sent."""
        FOLDER.assert_meant(name)

    def test_every_kind_of_protocol_2_is_recorded(self) -> None:
        """Nothing that protocol 2 says is left to chance."""
        types = recording.types(without=SINCE)
        assert FOLDER.kinds() == {*MESSAGES} == {*types, "all-round-everyone"}
        assert all(type(MESSAGES[name]) is of for name, of in types.items())

    @pytest.mark.parametrize("name", MESSAGES)
    def test_each_cut_is_refused(self, name: str) -> None:
        """A message that ends early is never taken for a shorter one."""
        FOLDER.assert_cuts_refused(name)

    def test_a_parcel_outlives_an_upgrade(self, tmp_path: Path) -> None:
        """An update that was left on disk is still delivered."""
        (tmp_path / f"{sha256(FRAME)}.update").write_bytes(FOLDER.read("parcel"))
        assert list(Outbox(tmp_path).parcels()) == [PARCEL]


class TestProtocol1:
    @pytest.mark.parametrize("name", sorted(FIRST.kinds()))
    def test_finds_all_that_it_knows(self, name: str) -> None:
        """Under the same names and of the same types; what else is there it skips."""
        old, new = FIRST.plain(name), FOLDER.plain(name.removesuffix("-regression"))
        assert {field: type(new[field]) for field in old} == {
            field: type(value) for field, value in old.items()
        }

    def test_is_sent_no_kind_that_it_does_not_know(self) -> None:
        """Requests for blocks and waits are for those who said that they speak protocol 2.

        Releases and wishes come with jobs that it refuses; what reaches it all the same it logs.
        """
        types = recording.types(without=SINCE)
        assert set(types) - FIRST.kinds() == {"down-request", "down-wait"}


class TestRecord:
    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, files(), tmp_path)


if __name__ == "__main__":
    record(FOLDER.path, files())
