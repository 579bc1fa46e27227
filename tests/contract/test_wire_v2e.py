# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2d``: the int8 form of a version's template.

The file in ``wire_v2e`` was written once, with ``python -m tests.contract.test_wire_v2e``, and is
never written again.
"""

from msgspec import structs
from tests.contract import recording
from tests.contract.recording import HERE, Folder, blob, record
from tests.contract.states import Recorded, assert_not_needed, assert_rest_is_read

from fedmill_shared.messages import VersionNotice

NOTICE = recording.MESSAGES["all-version"]
SINCE = {"quantised": blob("int8 form")}
"""Later fields of a version."""


def version() -> VersionNotice:
    """The version that was recorded first, of a model that has convolutions."""
    assert isinstance(NOTICE, VersionNotice)
    return structs.replace(NOTICE, **SINCE)


FOLDER = Folder(HERE / "wire_v2e", {"all-version": version()})


class TestVersion(Recorded):
    """Of this recording."""

    folder = FOLDER

    def test_software_before_reads_the_rest(self) -> None:
        """It skips what it does not know, and goes on with float32."""
        assert_rest_is_read(FOLDER.read("all-version"), NOTICE, SINCE)

    def test_without_it_there_is_none(self) -> None:
        """What software before says of a version has no int8 form."""
        assert_not_needed(NOTICE, "quantised")


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
