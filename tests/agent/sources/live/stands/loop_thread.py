# SPDX-License-Identifier: Apache-2.0
"""A server of asyncio on a thread of its own, so that a test is free to wait for other things."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

PATIENCE = 20.0


class LoopThread:
    """From ``start`` to ``stop`` the server listens, which it does inside of ``serving()``.

    Attributes:
        loop: on which it does so; None while it does not.
    """

    def __init__(self, serving: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._serving = serving
        self._end: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; returns once it does."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)))
        self._thread.start()
        assert ready.wait(PATIENCE)

    def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._thread is None or self.loop is None or self._end is None:
            return
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._thread = self.loop = None

    async def _run(self, ready: threading.Event) -> None:
        async with self._serving():
            self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            ready.set()
            await self._end.wait()
