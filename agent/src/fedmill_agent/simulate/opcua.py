# SPDX-License-Identifier: Apache-2.0
"""An OPC UA server: ``Objects/<line>/<tag>`` are arrays of samples, ``Objects/<line>/part``."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from datetime import UTC
from typing import TypeVar

import numpy as np
from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from numpy.typing import NDArray

from fedmill_agent.simulate.device import PART, Shape
from fedmill_shared.errors import SourceError

NAMESPACE = "urn:fedmill:simulated"
SECONDS = 20.0

Result = TypeVar("Result")


class OpcUaDevice:
    """Owns the server and the thread it runs in; node ids are ``ns=2;s=<line>.<tag>``."""

    def __init__(self, host: str, port: int) -> None:
        """Nothing is opened yet."""
        self._address = f"opc.tcp://{host}:{port}/fedmill/"
        self._nodes: dict[tuple[str, str], Node] = {}
        self._tags: dict[str, Sequence[str]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulate-opcua")
        self._thread.daemon = True
        self._server: Server | None = None

    def open(self, shapes: Sequence[Shape]) -> None:
        """Begin to serve.

        Raises:
            SourceError: the port cannot be used.
        """
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self._thread.start()
        try:
            self._server = self._do(self._start(shapes))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(
                f"{self._address} cannot be served: {reason}",
                remedy="choose another --port, or a --host of this machine",
            ) from error
        finally:
            if self._server is None:
                self._end()

    def part(self, line: str, number: int, time_ns: int) -> None:
        """Which part is in the machine."""
        self._do(self._write(line, {PART: ua.Variant(number, ua.VariantType.Int64)}, time_ns))

    def block(self, line: str, values: NDArray[np.float64], end_ns: int) -> None:
        """An array of samples for each tag."""
        arrays = {
            tag: ua.Variant(row.tolist(), ua.VariantType.Double)
            for tag, row in zip(self._tags[line], values, strict=True)
        }
        self._do(self._write(line, arrays, end_ns))

    def close(self) -> None:
        """Stop serving."""
        server, self._server = self._server, None
        try:
            if server is not None:
                self._do(server.stop())
        finally:
            self._end()

    async def _start(self, shapes: Sequence[Shape]) -> Server:
        server = Server()
        await server.init()
        server.set_endpoint(self._address)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(NAMESPACE)
        for shape in shapes:
            folder = await server.nodes.objects.add_folder(index, shape.line)
            self._tags[shape.line] = shape.tags
            for tag in (*shape.tags, PART):
                node_id = ua.NodeId.from_string(f"ns={index};s={shape.line}.{tag}")
                kind = ua.VariantType.Int64 if tag == PART else ua.VariantType.Double
                value = ua.Variant(0 if tag == PART else [0.0], kind)
                self._nodes[shape.line, tag] = await folder.add_variable(node_id, tag, value)
        await server.start()
        return server

    async def _write(self, line: str, values: Mapping[str, ua.Variant], time_ns: int) -> None:
        moment = ua.DateTime.fromtimestamp(time_ns / 1e9, UTC)
        for tag, value in values.items():
            data = ua.DataValue(value, SourceTimestamp=moment, ServerTimestamp=moment)
            await self._nodes[line, tag].write_value(data)

    def _do(self, work: Coroutine[object, object, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(SECONDS)
        except Late as error:
            future.cancel()
            raise SourceError(f"{self._address} does not come up") from error

    def _end(self) -> None:
        if self._loop.is_closed():
            return
        if not self._thread.is_alive():
            self._loop.close()
            return
        with suppress(SourceError):  # a name that is looked up may take longer
            self._do(_end_tasks())
            self._do(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


async def _end_tasks() -> None:
    """End what the server leaves running for clients that have not signed off."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
