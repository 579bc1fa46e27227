# SPDX-License-Identifier: Apache-2.0
"""The server is asked for all values again and again (OPC 10000-4, 5.11.2)."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from asyncua import ua

from fedmill_agent.sources.opcua.connection import Connection
from fedmill_agent.sources.opcua.values import Values
from fedmill_agent.sources.opcua.wire import WireError

MOST_NONSENSE = 3
"""Questions in a row of which no answer could be understood."""


@dataclass(slots=True)
class Polling:
    """Asks for ``nodes``, which may become more, every ``interval_seconds``."""

    connection: Connection
    nodes: Mapping[str, ua.NodeId]
    values: Values
    counts: Counter[str]
    _nonsense: int = 0

    async def serve(self) -> None:
        """Go on until the connection ends; the first time in an interval from now.

        A question that comes late does not make the later ones late; it is counted as
        ``late poll``.

        Raises:
            Exception: of the library, or TimeoutError: the connection is lost.
            WireError: the server answers nothing but nonsense.
        """
        interval = self.connection.options.interval_seconds
        loop = asyncio.get_running_loop()
        due = loop.time() + interval
        while True:
            await asyncio.sleep(due - loop.time())
            await self.ask()
            missed = max(0, int((loop.time() - due) / interval))
            self.counts["late poll"] += missed
            due += (missed + 1) * interval

    async def ask(self) -> None:
        """Once.

        Raises:
            Exception: as for ``serve``.
        """
        asked = dict(self.nodes)
        age_seconds = self.connection.options.interval_seconds / 2
        answers = await self.connection.read(list(asked.values()), age_seconds=age_seconds)
        for tag, data in zip(asked, answers, strict=True):
            if data is None:
                self.values.lost(tag)
            else:
                self.values.take(tag, data)
        garbled = answers.count(None)
        if garbled:
            self.counts["garbage"] += 1
        self._nonsense = self._nonsense + 1 if garbled and garbled == len(answers) else 0
        if self._nonsense > MOST_NONSENSE:
            raise WireError("no answer to Read can be understood")
