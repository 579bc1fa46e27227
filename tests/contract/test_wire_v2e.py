# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since ``wire_v2d``: the int8 form of a version's template.

The file in ``wire_v2e`` was written once, with ``python -m tests.contract.test_wire_v2e``, and is
never written again.
"""

from pathlib import Path

import msgspec
from msgspec import structs
from tests.contract import recording, test_wire_v2b
from tests.contract.recording import HERE, Folder, assert_recorded_once, blob, record

from fedmill_shared.messages import VersionNotice

NOTICE = recording.MESSAGES["all-version"]
SINCE = {"quantised": blob("int8 form")}
"""Later fields of a version."""


def version() -> VersionNotice:
    """The version that was recorded first, of a model that has convolutions."""
    assert isinstance(NOTICE, VersionNotice)
    return structs.replace(NOTICE, **SINCE)


FOLDER = Folder(HERE / "wire_v2e", {"all-version": version()})


class TestVersion:
    def test_is_read_as_it_was_meant(self) -> None:
        """Every field has the value that was sent."""
        FOLDER.assert_meant("all-version")

    def test_each_cut_is_refused(self) -> None:
        """A message that ends early is never taken for a shorter one."""
        FOLDER.assert_cuts_refused("all-version")

    def test_software_before_reads_the_rest(self) -> None:
        """It skips what it does not know, and goes on with float32."""
        of = test_wire_v2b.first(VersionNotice, SINCE)
        assert msgspec.msgpack.decode(FOLDER.read("all-version"), type=of) == msgspec.convert(
            msgspec.to_builtins(NOTICE, builtin_types=(bytes,)), of
        )

    def test_without_it_there_is_none(self) -> None:
        """What software before says of a version has no int8 form."""
        plain = msgspec.to_builtins(NOTICE, builtin_types=(bytes,))
        del plain["quantised"]
        assert msgspec.convert(plain, VersionNotice) == NOTICE


class TestRecord:
    def test_is_made_once(self, tmp_path: Path) -> None:
        """Recordings can be added, and not changed."""
        assert_recorded_once(FOLDER.path, FOLDER.wire(), tmp_path)


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
