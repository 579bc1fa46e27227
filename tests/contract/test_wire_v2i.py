# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2h``: who made an update, and how an agent fares.

The files in ``wire_v2i`` were written once, with ``python -m tests.contract.test_wire_v2i``, and
are never written again.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from tests.contract import test_wire_v2b, test_wire_v2g
from tests.contract.recording import HERE, Folder, assert_recorded_once, digest, record
from tests.contract.states import Recorded, assert_not_needed, assert_rest_is_read

from fedmill_shared.link.outbox import Outbox
from fedmill_shared.messages import AgentState, JobPhase, UpdateOffer
from fedmill_shared.messages.origin import Origin, difference, label

PHASE: dict[str, Any] = {"updates_waiting": 2, "alarms_raised": 1, "drift": "warned"}
"""Later fields of each job in ``up-state``."""
STATE: dict[str, Any] = {"disk_free_bytes": 1 << 41}
"""Later fields of the state itself."""
PLAIN = test_wire_v2b.MESSAGES["up-update"]
SINCE: dict[str, Any] = {
    "key": "0123456789abcdef",
    "origin": label(
        PLAIN, agent="press-1", schema=digest("manifest"), software="0.1.0", made_ns=1_700 << 50
    ),
    "signature": bytes(range(64)),
}
"""Later fields of an update."""
OFFER = structs.replace(PLAIN, **SINCE)
PARCEL = structs.replace(test_wire_v2b.PARCEL, offer=OFFER)


def state() -> AgentState:
    """The state that was recorded before, with what can be told since."""
    told = test_wire_v2g.FOLDER.messages["up-state"]
    assert isinstance(told, AgentState)
    jobs = {job: structs.replace(phase, **PHASE) for job, phase in told.jobs.items()}
    return structs.replace(told, jobs=jobs, **STATE)


FOLDER = Folder(HERE / "wire_v2i", {"up-state": state(), "up-update": OFFER})


def files() -> dict[str, bytes]:
    """One for each message, and one for a parcel as it waits on a disk."""
    return {**FOLDER.wire(), "parcel": msgspec.msgpack.encode(PARCEL)}


class TestMessages(Recorded):
    """Of this recording."""

    folder = FOLDER

    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, files(), tmp_path)

    def test_software_before_reads_the_rest_of_an_update(self) -> None:
        """It takes it as one of an agent that signs nothing."""
        assert_rest_is_read(FOLDER.read("up-update"), PLAIN, SINCE)

    def test_software_before_reads_the_rest_of_a_state(self) -> None:
        """It skips what it does not know, and finds the very message that was recorded before."""
        phase = test_wire_v2b.first(JobPhase, PHASE)
        of = test_wire_v2b.first(AgentState, STATE, {"jobs": dict[str, phase]})  # type: ignore[valid-type]
        read = msgspec.json.Decoder(of).decode
        assert read(FOLDER.read("up-state")) == read(test_wire_v2g.FOLDER.read("up-state"))

    def test_nothing_is_signed_by_software_before(self) -> None:
        """What is left out means that."""
        for field in SINCE:
            assert_not_needed(PLAIN, field)

    def test_a_signature_outlives_an_upgrade(self, tmp_path: Path) -> None:
        """An update that was left on disk is still delivered with it."""
        (tmp_path / f"{OFFER.sha256}.update").write_bytes(FOLDER.read("parcel"))
        (found,) = Outbox(tmp_path).parcels()
        assert found == PARCEL
        assert found.offer.signature == SINCE["signature"]


class TestLabel:
    def test_is_read_as_it_was_meant(self) -> None:
        """Labels are kept for good: those of today must be readable for ever."""
        offer = FOLDER.messages["up-update"]
        assert isinstance(offer, UpdateOffer)
        origin = msgspec.msgpack.decode(offer.origin, type=Origin)
        assert origin.agent == "press-1"
        assert origin.schema == digest("manifest")
        assert origin.software == "0.1.0"
        assert origin.made_ns == 1_700 << 50
        assert difference(origin, offer, "press-1") == ""


if __name__ == "__main__":
    record(FOLDER.path, files())
