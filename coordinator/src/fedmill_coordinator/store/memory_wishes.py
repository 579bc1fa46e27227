# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in WishRows
"""Wishes in memory."""

from msgspec import structs

from fedmill_coordinator.store import rules
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import checked
from fedmill_coordinator.store.records_wishes import WishRecord


class MemoryWishes(Store):
    """The part of the store in memory that is about wishes."""

    def __init__(self) -> None:
        """No wish."""
        super().__init__()
        self._wishes: dict[tuple[str, str], WishRecord] = {}

    def save_wish(self, record: WishRecord) -> None:
        if self.job(record.job) is None:
            raise rules.unknown(f"job {record.job!r}")
        self._wishes[record.job, record.agent] = checked(record)

    def settle_wishes(self, job: str, *, settled_ns: int, rounds: int) -> None:
        for key, record in self._wishes.items():
            if key[0] == job and record.settled_ns is None:
                self._wishes[key] = checked(
                    structs.replace(record, settled_ns=settled_ns, rounds=rounds)
                )

    def wishes(self, job: str) -> list[WishRecord]:
        return [record for key, record in sorted(self._wishes.items()) if key[0] == job]
