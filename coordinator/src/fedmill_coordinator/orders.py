# SPDX-License-Identifier: Apache-2.0
"""Carries out what the operator has ordered, from any process, by a row in the store."""

from collections.abc import Mapping

from fedmill_coordinator.rounds.conductor import Conductor
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import REFUSED_ORDER, OrderRecord
from fedmill_shared.errors import StoreError

ORDERS_SECONDS = 0.5


class Orders:
    """Owns when the store is next asked for orders."""

    def __init__(self, services: Services) -> None:
        """It is asked at once."""
        self._store = services.store
        self._clock = services.clock
        self._log = services.log
        self._audit = services.audit
        self._due = 0.0

    def obey(self, conductors: Mapping[str, Conductor]) -> None:
        """Carry out the open orders, if the last look is long ago; one that fails stays open."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + ORDERS_SECONDS
        try:
            for order in self._store.open_orders():
                before = _standing(self._store, order.job)
                outcome = _outcome(order, conductors)
                self._store.finish_order(order.id, done_ns=self._clock.now_ns(), outcome=outcome)
                self._log.info(
                    "order.done", job=order.job, verb=order.verb, by=order.by, outcome=outcome
                )
                self._audit.record(
                    who=order.by,
                    what=f"order.{order.verb}",
                    subject=order.job,
                    before=before,
                    after=f"{_standing(self._store, order.job)}: {outcome}",
                )
        except StoreError as error:
            self._log.error("store.failed", error=str(error))


def _outcome(order: OrderRecord, conductors: Mapping[str, Conductor]) -> str:
    conductor = conductors.get(order.job)
    if conductor is None:
        return f"{REFUSED_ORDER}job {order.job} is not in this coordinator's configuration"
    return conductor.obey(order)


def _standing(store: Store, name: str) -> str:
    """How far a job is, and what its agents are to serve."""
    record = store.job(name)
    if record is None:
        return "unknown"
    words = [record.state, *(["paused"] if record.paused else [])]
    stable = store.alias(name, "stable")
    return ", ".join([*words, *([f"stable {stable.version[:12]}"] if stable is not None else [])])
