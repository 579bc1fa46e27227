# SPDX-License-Identifier: Apache-2.0
"""What every store promises about the wishes of agents."""

from abc import ABC, abstractmethod

from fedmill_coordinator.store.records_wishes import WishRecord


class WishRows(ABC):
    """The part of `Store` that is about wishes: the newest of each agent in each job."""

    @abstractmethod
    def save_wish(self, record: WishRecord) -> None:
        """Add what an agent wishes for, in place of what it wished for before.

        MUST fail with StoreError if the job is unknown.
        """

    @abstractmethod
    def settle_wishes(self, job: str, *, settled_ns: int, rounds: int) -> None:
        """No wish of ``job`` waits any more: it goes on for so many ``rounds`` because of them."""

    @abstractmethod
    def wishes(self, job: str) -> list[WishRecord]:
        """The newest wish of each agent of ``job``, by agent."""
