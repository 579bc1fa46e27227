# SPDX-License-Identifier: Apache-2.0
"""Messages that tell more than those that were recorded before, and software that knows less."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec import Struct, structs
from tests.contract import test_wire_v2b
from tests.contract.recording import HERE, Folder, assert_recorded_once

from fedmill_shared.messages import AgentState, JobPhase


def later(name: str, before: Folder, phase: Mapping[str, Any]) -> Folder:
    """The state of ``before`` in the folder ``name``, with these fields in each job."""
    told = before.messages["up-state"]
    assert isinstance(told, AgentState)
    jobs = {job: structs.replace(each, **phase) for job, each in told.jobs.items()}
    return Folder(HERE / name, {"up-state": structs.replace(told, jobs=jobs)})


def assert_rest_is_read(payload: bytes, before: Struct, since: Collection[str]) -> None:
    """Software without the fields ``since`` finds in ``payload`` the message ``before``."""
    of = test_wire_v2b.first(type(before), since)
    plain = msgspec.to_builtins(before, builtin_types=(bytes,))
    assert msgspec.msgpack.decode(payload, type=of) == msgspec.convert(plain, of)


def assert_not_needed(message: Struct, field: str) -> None:
    """``message`` is the same where software before leaves ``field`` out."""
    plain = msgspec.to_builtins(message, builtin_types=(bytes,))
    del plain[field]
    assert msgspec.convert(plain, type(message)) == message


class Recorded:
    """What holds of all messages of a folder."""

    folder: ClassVar[Folder]

    def test_is_read_as_it_was_meant(self) -> None:
        """Every field has the value that was sent."""
        for name in self.folder.messages:
            self.folder.assert_meant(name)

    def test_each_cut_is_refused(self) -> None:
        """A message that ends early is never taken for a shorter one."""
        for name in self.folder.messages:
            self.folder.assert_cuts_refused(name)

    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(self.folder.path, self.folder.wire(), tmp_path)


class LaterState(Recorded):
    """What holds of a state as well."""

    before: ClassVar[Folder]
    phase: ClassVar[Mapping[str, Any]]

    def test_software_before_reads_the_rest(self) -> None:
        """It skips what it does not know, and finds the very message that was recorded before."""
        phase = test_wire_v2b.first(JobPhase, self.phase)
        of = test_wire_v2b.first(AgentState, (), {"jobs": dict[str, phase]})  # type: ignore[valid-type]
        read = msgspec.json.Decoder(of).decode
        assert read(self.folder.read("up-state")) == read(self.before.read("up-state"))
