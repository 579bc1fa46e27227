# SPDX-License-Identifier: Apache-2.0
"""From a table of the store to the broker: in order, each row once, or again after a crash.

The place up to which the broker has acknowledged is kept in the store, with the rows. It is written
once a second, so a crash tells at most what went out in the last second, and what was in flight, a
second time, with the same ``id``. A broker that is away leaves the rows where they are; what the
store's bounds give up meanwhile, or what becomes too old, is counted.

A broker may answer that it does not take a row, because its ACL misses the topic or a quota is used
up. That is no acknowledgement: the rows stay where they are, and one of them is tried once a minute
until the broker takes it. Other tables go on meanwhile.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Generic, Protocol, TypeVar

from fedmill_agent.publishing.outlet import Outlet
from fedmill_agent.store.cursors import Published
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import Clock
from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Rejection
from fedmill_shared.log import Logger

READ_AHEAD = 64
MOST_GIVEN_UP = 256
"""Rows in one turn: after weeks without a broker there may be very many, and windows wait."""
TOLD_SECONDS = 60.0
"""How often it is told that some are given up."""
REFUSED_SECONDS = 60.0
"""How long nothing is sent to a broker that has refused a row."""


class Numbered(Protocol):
    """A row of a table."""

    @property
    def id(self) -> int:
        """Its place, growing."""


Row = TypeVar("Row", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Row]):
    """What is published.

    Attributes:
        name: of the topic.
        job: whose it is.
        table: where it stands.
        read: rows behind a place, at most so many.
        encode: a row as it is told.
        made_ns: when a row was made, by the agent's clock; None where age does not matter.
    """

    name: str
    job: str
    table: Published
    read: Callable[[int, int], Sequence[Row]]
    encode: Callable[[Row], bytes]
    made_ns: Callable[[Row], int] | None = None


@dataclass(slots=True, eq=False)
class _Flight:
    """A row that was sent, or given up."""

    id: int
    done: bool = False


class Stream(Generic[Row]):
    """Owns the place of one table of one job, and what is on its way."""

    def __init__(
        self,
        kind: Kind[Row],
        store: WindowStore,
        outlet: Outlet,
        clock: Clock,
        log: Logger,
        *,
        room: Callable[[], bool],
        max_age_seconds: float = inf,
    ) -> None:
        """Go on where it was left, or behind what is there the first time.

        ``room`` tells whether one more message may be in flight.

        Raises:
            StoreError: the place cannot be read or kept.
        """
        self._kind = kind
        self._store = store
        self._outlet = outlet
        self._clock = clock
        self._log = log
        self._room = room
        self._max_age = max_age_seconds
        self._waiting: deque[Row] = deque()
        self._flights: deque[_Flight] = deque()
        self._new = True
        self._lost = 0
        self._told_due = -inf
        self._refused = False
        self._again = -inf
        store.begin_publishing(kind.table)
        self._known_lost = store.publication(kind.table)[1]
        self._rewind(store.publication(kind.table)[0] or 0)

    @property
    def flying(self) -> int:
        """Messages that the broker has not answered yet."""
        return len(self._flights)

    def note(self) -> None:
        """There may be new rows."""
        self._new = True

    def pump(self) -> None:
        """Send what may be sent now.

        Raises:
            StoreError: the rows cannot be read.
        """
        most = self._lost + MOST_GIVEN_UP
        while self._lost < most and self._outlet.open and self._room():
            if self._held() or not self._look():
                return
            row = self._waiting.popleft()
            flight = _Flight(row.id)
            self._flights.append(flight)
            self._send(row, flight)
            self._land()

    def tick(self) -> None:
        """Keep the place, and tell what was given up.

        Raises:
            StoreError: the place cannot be read or kept.
        """
        self._new = True
        place, lost = self._store.publication(self._kind.table)
        if place is None:  # the file was damaged, and this is a fresh one
            self._store.begin_publishing(self._kind.table, everything=True)
            self._rewind(0)
            self._known_lost = 0
        elif place < self._kept:  # the newest rows were given up, and their numbers are given again
            self._rewind(place)
        else:
            self._keep()
        self._tell(lost)

    def close(self) -> None:
        """Keep the place.

        Raises:
            StoreError: it cannot be kept.
        """
        self._keep()

    def _rewind(self, place: int) -> None:
        """Go on behind ``place``."""
        self._waiting.clear()
        self._flights.clear()
        self._kept = self._place = self._read_to = place

    def _held(self) -> bool:
        """Whether the broker has refused a row, and it is not time to try one, or one is tried."""
        return self._refused and (bool(self._flights) or self._clock.monotonic() < self._again)

    def _look(self) -> bool:
        """Whether a row waits to be sent."""
        if not self._waiting and self._new:
            rows = self._kind.read(self._read_to, READ_AHEAD)
            self._new = len(rows) == READ_AHEAD
            self._waiting.extend(rows)
            self._read_to = rows[-1].id if rows else self._read_to
        return bool(self._waiting)

    def _send(self, row: Row, flight: _Flight) -> None:
        made = self._kind.made_ns
        if made is not None and self._clock.now_ns() - made(row) > self._max_age * 1e9:
            self._give_up(flight)
            return
        kind = self._kind
        try:
            self._outlet.send(kind.name, kind.job, kind.encode(row), partial(self._arrive, flight))
        except BrokerError as error:
            self._log.warning("message.unsent", kind=kind.name, error=str(error))
            self._give_up(flight)

    def _give_up(self, flight: _Flight) -> None:
        flight.done = True
        self._lost += 1

    def _arrive(self, flight: _Flight, rejection: Rejection | None) -> None:
        """The broker has answered."""
        if flight not in self._flights:
            return  # it was sent before a rejection or a rewind, and is sent again
        if rejection is not None:
            self._hold(rejection)
            return
        if self._refused:
            self._refused = False
            self._log.info("publication.resumed", kind=self._kind.name)
        flight.done = True
        self._land()

    def _hold(self, rejection: Rejection) -> None:
        """Send nothing for a while, then go on behind what the broker has, from the store."""
        self._waiting.clear()
        self._flights.clear()
        self._read_to, self._new = self._place, True
        self._again = self._clock.monotonic() + REFUSED_SECONDS
        if not self._refused:
            self._refused = True
            self._log.error(
                "publication.refused",
                kind=self._kind.name,
                topic=rejection.topic,
                reason=rejection.reason,
                remedy=f"{rejection.remedy}; what is made meanwhile waits in the store",
            )

    def _land(self) -> None:
        while self._flights and self._flights[0].done:
            self._place = self._flights.popleft().id

    def _keep(self) -> None:
        if self._place > self._kept:
            lost, self._lost = self._lost, 0
            self._store.published(self._kind.table, self._place, lost=lost)
            self._kept = self._place

    def _tell(self, lost: int) -> None:
        now = self._clock.monotonic()
        if lost > self._known_lost and now >= self._told_due:
            self._told_due = now + TOLD_SECONDS
            self._log.warning(
                "publication.lost",
                kind=self._kind.name,
                records=lost - self._known_lost,
                ever=lost,
                remedy="bring the broker back sooner, or raise store.predictions_max_bytes and "
                "inference.publish_max_age_seconds",
            )
            self._known_lost = lost
