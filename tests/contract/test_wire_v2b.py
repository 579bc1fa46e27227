# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since its first software, and what that software finds in it.

Four messages of ``wire_v2`` got fields that may be left out: the length of a training, signals that
differ, the models an agent chose from, and the codec of a round. The files in ``wire_v2b`` have all
of them filled in. They were written once, with ``python -m tests.contract.test_wire_v2b``, and are
never written again.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from msgspec import structs
from tests.contract import test_wire_v2
from tests.contract.recording import HERE, Folder, assert_recorded_once, record

from fedmill_shared.link.outbox import Outbox
from fedmill_shared.messages import AgentState, JobPhase
from fedmill_shared.metrics import ClassificationStatistic

FIRST = test_wire_v2.FOLDER
SCORES = {"global": 0.875, "personal": 0.75, "local": 1.0}
PHASE: dict[str, Any] = {"served": "local", "scores": SCORES}
"""Later fields of each job in ``up-state``."""
SINCE = {
    *("faults", "install", "windows_skipped", "int8"),
    *("updates_waiting", "alarms_raised", "drift"),
}
"""Still later ones, which are recorded elsewhere."""
SIGNED = {"key", "origin", "signature"}
"""The same of ``up-update``."""
STATE_SINCE = {"disk_free_bytes", "trust", "safe_mode", "audit", "certificate", "rights"}
"""The same of ``up-state`` itself."""
LATER: dict[str, dict[str, Any]] = {
    "up-update": {"steps": 93.5, "shift": {"force": (1.5, 0.25), "speed": (-0.125, 3.0)}},
    "up-evaluation": {
        "served": "local",
        "candidates": {
            "global": ClassificationStatistic(2, (3, 1, 0, 4), 1.25),
            "local": ClassificationStatistic(2, (4, 0, 0, 4), 0.5),
        },
        "validation": SCORES,
    },
    "all-round": {"uplink": "eden-1"},
}
"""Later fields of the other messages."""


def state() -> AgentState:
    """The state that was recorded first, with what can be told since."""
    told = FIRST.messages["up-state"]
    assert isinstance(told, AgentState)
    jobs = {job: structs.replace(phase, **PHASE) for job, phase in told.jobs.items()}
    return structs.replace(told, jobs=jobs)


MESSAGES = {
    "up-state": state(),
    **{name: structs.replace(FIRST.messages[name], **fields) for name, fields in LATER.items()},
}
FOLDER = Folder(HERE / "wire_v2b", MESSAGES)
PARCEL = structs.replace(
    test_wire_v2.PARCEL, offer=structs.replace(test_wire_v2.OFFER, **LATER["up-update"])
)


def files() -> dict[str, bytes]:
    """One for each message, and one for a parcel as it waits on a disk."""
    return {**FOLDER.wire(), "parcel": msgspec.msgpack.encode(PARCEL)}


def first(
    of: type[msgspec.Struct], later: Collection[str], types: Mapping[str, Any] | None = None
) -> type[msgspec.Struct]:
    """``of`` as the first software had it: without ``later`` fields, some of other ``types``."""
    hints = {**get_type_hints(of, include_extras=True), **(types or {})}
    fields = [
        (
            field.name,
            hints[field.name],
            msgspec.field(default=field.default, default_factory=field.default_factory),
        )
        for field in structs.fields(of)
        if field.name not in later
    ]
    return msgspec.defstruct(of.__name__, fields, frozen=True, kw_only=True)


def of_first_software(name: str) -> type[msgspec.Struct]:
    """Its type of the message."""
    of = type(MESSAGES[name])
    if name == "up-state":
        return first(of, STATE_SINCE, {"jobs": dict[str, first(JobPhase, {*PHASE, *SINCE})]})
    return first(of, {*LATER[name], *(SIGNED if name == "up-update" else ())})


class TestMessages:
    @pytest.mark.parametrize("name", MESSAGES)
    def test_is_read_as_it_was_meant(self, name: str) -> None:
        """Every field has the value that was sent."""
        FOLDER.assert_meant(name)

    @pytest.mark.parametrize("name", MESSAGES)
    def test_each_cut_is_refused(self, name: str) -> None:
        """A message that ends early is never taken for a shorter one."""
        FOLDER.assert_cuts_refused(name)

    def test_every_one_is_recorded(self) -> None:
        """No file is left to chance."""
        assert FOLDER.kinds() == {*MESSAGES}

    def test_a_parcel_outlives_an_upgrade(self, tmp_path: Path) -> None:
        """An update that was left on disk is still delivered, with all that it told."""
        (tmp_path / f"{PARCEL.offer.sha256}.update").write_bytes(FOLDER.read("parcel"))
        assert list(Outbox(tmp_path).parcels()) == [PARCEL]


class TestFirstSoftware:
    @pytest.mark.parametrize("name", MESSAGES)
    def test_reads_the_rest(self, name: str) -> None:
        """It skips what it does not know, and finds the very message that was recorded first."""
        of = of_first_software(name)
        decoder = msgspec.json.Decoder(of) if name == "up-state" else msgspec.msgpack.Decoder(of)
        assert decoder.decode(FOLDER.read(name)) == decoder.decode(FIRST.read(name))

    def test_reads_the_rest_of_a_parcel(self) -> None:
        """Software that is replaced by the one before it still delivers what waits."""
        of = msgspec.defstruct(
            "Parcel", [("offer", of_first_software("up-update")), ("frame", bytes)]
        )
        decoder = msgspec.msgpack.Decoder(of)
        assert decoder.decode(FOLDER.read("parcel")) == decoder.decode(FIRST.read("parcel"))

    @pytest.mark.parametrize("name", MESSAGES)
    def test_lacks_nothing_else(self, name: str) -> None:
        """A field that comes later still is recorded in a folder of its own, and named here too."""
        plain = FIRST.plain(name)
        fields = {field.name for field in structs.fields(of_first_software(name))}
        assert fields == set(plain)
        if name == "up-state":
            assert set(plain["jobs"]["press"]) | set(PHASE) | SINCE == {
                field.name for field in structs.fields(JobPhase)
            }


class TestRecord:
    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, files(), tmp_path)


if __name__ == "__main__":
    record(FOLDER.path, files())
