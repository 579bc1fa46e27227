# SPDX-License-Identifier: Apache-2.0
"""An audit log in memory."""

from typing import NamedTuple


class Record(NamedTuple):
    """What was recorded."""

    who: str
    what: str
    subject: str
    before: str
    after: str


class Records(list[Record]):
    """Everything that was recorded, oldest first."""

    def record(
        self, *, who: str, what: str, subject: str, before: str = "", after: str = ""
    ) -> None:
        """As an audit log takes it."""
        self.append(Record(who, what, subject, before, after))

    def of(self, what: str) -> list[Record]:
        """Records of one action."""
        return [each for each in self if each.what == what]
