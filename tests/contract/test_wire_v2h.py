# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2g``: that a release is a way back.

The file in ``wire_v2h`` was written once, with ``python -m tests.contract.test_wire_v2h``, and is
never written again.
"""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from tests.contract import test_wire_v2b, test_wire_v2d
from tests.contract.recording import HERE, Folder, assert_recorded_once, record

from fedmill_shared.messages import ReleaseNotice

BEFORE = test_wire_v2d.FOLDER
SINCE: dict[str, Any] = {"back": True}
"""Later fields of a release."""


def release() -> ReleaseNotice:
    """The release that was recorded before, which goes back."""
    told = BEFORE.messages["all-release-everyone"]
    assert isinstance(told, ReleaseNotice)
    return structs.replace(told, **SINCE)


FOLDER = Folder(HERE / "wire_v2h", {"all-release": release()})


class TestRelease:
    def test_is_read_as_it_was_meant(self) -> None:
        """Every field has the value that was sent."""
        FOLDER.assert_meant("all-release")

    def test_each_cut_is_refused(self) -> None:
        """A message that ends early is never taken for a shorter one."""
        FOLDER.assert_cuts_refused("all-release")

    def test_software_before_reads_the_rest(self) -> None:
        """It compares the version like any other, and may refuse to go back."""
        decoder = msgspec.msgpack.Decoder(test_wire_v2b.first(ReleaseNotice, SINCE))
        now, before = FOLDER.read("all-release"), BEFORE.read("all-release-everyone")
        assert decoder.decode(now) == decoder.decode(before)


class TestRecord:
    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, FOLDER.wire(), tmp_path)


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
