# SPDX-License-Identifier: Apache-2.0
"""An event loop that can always be left: no name that is looked up holds it."""

import asyncio
import contextlib
import socket
import threading
from typing import Any


class Loop(asyncio.SelectorEventLoop):
    """Looks up names in threads that nobody waits for.

    asyncio's own way waits for them at the end, and a resolver may take half a minute.
    """

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        **hints: int,
    ) -> list[Any]:
        """As in asyncio."""
        found: asyncio.Future[list[Any]] = self.create_future()

        def settle(result: list[Any] | OSError) -> None:
            if found.done():
                return
            if isinstance(result, OSError):
                found.set_exception(result)
            else:
                found.set_result(result)

        def look_up() -> None:
            result: list[Any] | OSError
            try:
                result = socket.getaddrinfo(host, port, **hints)
            except OSError as error:
                result = error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.call_soon_threadsafe(settle, result)

        threading.Thread(target=look_up, name="opcua-name", daemon=True).start()
        return await found


def new_loop() -> Loop:
    """A loop that keeps faults of abandoned tasks to itself."""
    loop = Loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    return loop
