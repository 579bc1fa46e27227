# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2g``: that a release is a way back.

The file in ``wire_v2h`` was written once, with ``python -m tests.contract.test_wire_v2h``, and is
never written again.
"""

from typing import Any

from msgspec import structs
from tests.contract import test_wire_v2d
from tests.contract.recording import HERE, Folder, record
from tests.contract.states import Recorded, assert_rest_is_read

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


class TestRelease(Recorded):
    """Of this recording."""

    folder = FOLDER

    def test_software_before_reads_the_rest(self) -> None:
        """It compares the version like any other, and may refuse to go back."""
        before = BEFORE.messages["all-release-everyone"]
        assert_rest_is_read(FOLDER.read("all-release"), before, SINCE)


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
