# SPDX-License-Identifier: Apache-2.0
"""One connection in a thread and a loop of its own, which end with it in any case."""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from asyncua import ua

from fedmill_agent.sources.live import Delivered, Shelf
from fedmill_agent.sources.opcua.browse import resolve
from fedmill_agent.sources.opcua.connection import Connection
from fedmill_agent.sources.opcua.faults import quiet, told
from fedmill_agent.sources.opcua.loop import new_loop
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.opcua.polling import Polling
from fedmill_agent.sources.opcua.security import Identity, identity
from fedmill_agent.sources.opcua.stamps import Stamps
from fedmill_agent.sources.opcua.subscription import Subscription
from fedmill_agent.sources.opcua.values import Values
from fedmill_shared.clock import Clock
from fedmill_shared.errors import SourceError

AGAIN_SECONDS = 30.0
"""How often tags that do not come are looked for again: a server may still be starting."""
CLOSE_SECONDS = 5.0


def open_session(options: OpcuaOptions, tags: Sequence[str], clock: Clock) -> "OpcuaSession":
    """Connect and begin to take values.

    Raises:
        SourceError: the server cannot be reached, does not answer or refuses.
        ConfigError: a file that ``options`` name is missing or wrong.
    """
    quiet()
    session = OpcuaSession(options, tuple(dict.fromkeys(tags)), clock, identity(options))
    session.start()
    return session


class OpcuaSession:
    """Owns the thread; see ``Session`` in ``fedmill_agent.sources.live``."""

    def __init__(
        self, options: OpcuaOptions, tags: Sequence[str], clock: Clock, who: Identity
    ) -> None:
        """Prepare; ``start`` connects."""
        self.counts: Counter[str] = Counter()
        self._options = options
        self._who = who
        self._clock = clock
        self._shelf = Shelf(counts=self.counts)
        self._values = Values(
            tags=tags,
            rates=options.tag_rates,
            run_tag=options.run_tag,
            clock=clock,
            shelf=self._shelf,
            stamps=Stamps(margin_ns=round(1e9 * options.interval_seconds)),
            counts=self.counts,
        )
        self._opened: Future[None] = Future()
        self._loop = new_loop()
        self._stop = asyncio.Event()
        self._nodes: dict[str, ua.NodeId] = {}
        self._thread = threading.Thread(target=self._run, name=f"opcua-{options.name}")
        self._thread.daemon = True

    @property
    def problems(self) -> Mapping[str, str]:
        """Tags that do not come, each with the reason."""
        return self._values.problems

    def start(self) -> None:
        """Connect, in at most ``connect_seconds`` and a little.

        Raises:
            SourceError: it failed; nothing is left of it.
        """
        self._thread.start()
        try:
            self._opened.result(self._options.connect_seconds + CLOSE_SECONDS)
        except TimeoutError as error:
            self.close()
            raise told(error, self._options) from error
        except SourceError:
            self.close()
            raise

    def read(self, timeout: float) -> list[Delivered]:
        """What came since the last call; waits at most ``timeout`` seconds for something.

        Raises:
            SourceError: the connection is lost.
        """
        return self._shelf.take(timeout)

    def close(self) -> None:
        """Let go of everything."""
        if self._thread.is_alive() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        """Work until told to stop or until something breaks; tell which, and clean up."""
        connection = Connection(self._options, self._who)
        work = asyncio.ensure_future(self._work(connection))
        stopped = asyncio.ensure_future(self._stop.wait())
        ends: set[asyncio.Future[Any]] = {work, stopped, connection.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        error: BaseException | None = None
        if connection.lost.done():
            error = connection.lost.result()
        elif work.done():
            error = work.exception()
        failure = told(error, self._options)
        self._shelf.fail(failure)
        work.cancel()
        stopped.cancel()
        await connection.close()
        if not self._opened.done():
            self._opened.set_exception(failure)

    async def _work(self, connection: Connection) -> None:
        async with asyncio.timeout(self._options.connect_seconds):
            await connection.open(self._clock)
            self._values.stamps.ahead_ns = connection.ahead_ns
            await self._find(connection, self._values.tags)
            subscription = Subscription(connection, self._values, self.counts)
            polling = Polling(connection, self._nodes, self._values, self.counts)
            if self._options.mode == "subscribe":
                await subscription.begin()
                await subscription.add(dict(self._nodes))
            else:
                await polling.ask()
        self._opened.set_result(None)
        async with asyncio.TaskGroup() as group:
            if self._options.mode == "subscribe":
                group.create_task(subscription.serve())
            else:
                group.create_task(polling.serve())
            group.create_task(self._find_again(connection, subscription))
            group.create_task(connection.keep())

    async def _find(self, connection: Connection, tags: Sequence[str]) -> dict[str, ua.NodeId]:
        """Look for the nodes of ``tags``; those that are there."""
        found, problems = await resolve(connection, tags)
        for tag, problem in problems.items():
            self._values.trouble(tag, problem)
        self._nodes |= found
        return found

    async def _find_again(self, connection: Connection, subscription: Subscription) -> None:
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            absent = [tag for tag in self._values.problems if not self._values.heard(tag)]
            if absent:
                found = await self._find(connection, absent)
                if self._options.mode == "subscribe":
                    await subscription.add(found)
