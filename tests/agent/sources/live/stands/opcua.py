# SPDX-License-Identifier: Apache-2.0
"""An OPC UA server under a test's control: asyncua's own, with a production line in it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from tests.agent.sources.live.stands.loop_thread import LoopThread

from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_coordinator.demo.broker import free_port

HOST = "127.0.0.1"
SPACE = "urn:fedmill:test:line"
TEMPERATURE, SPEED = "ns=2;s=Line1.Temperature", "ns=2;s=Line1.Speed"
VIBRATION, PART, RUNNING = "ns=2;s=Line1.Vibration", "ns=2;s=Line1.Part", "ns=2;s=Line1.Running"
START: dict[str, Any] = {
    TEMPERATURE: 20.0,
    SPEED: 1500.0,
    VIBRATION: [0.0, 1.0, 2.0, 3.0],
    PART: "A-17",
    RUNNING: True,
}
NONSENSE = b"\xff\x07what is this?"

logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)


class Users:
    """Knows one user; nobody at all is let in too unless ``strict``."""

    def __init__(self, user: str, password: str, *, strict: bool) -> None:
        self._known = (user, password)
        self._strict = strict

    def get_user(
        self,
        _server: object,
        username: str | None = None,
        password: str | None = None,
        certificate: object = None,
    ) -> User | None:
        """The user, or None to refuse."""
        if (username, password) == self._known or (username is None and not self._strict):
            return User(role=UserRole.User, name=username or "")
        return None


class Stand:
    """A server with the line's temperature, speed, vibration, part and state.

    Attributes:
        tags: two that are numbers.
        at_first: what a client reads of them that is there before anything was said.
        port: where it listens, before and after a restart.
        server: asyncua's, once it was started.
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: tuple[str, str] | None = None,
        policies: Sequence[ua.SecurityPolicyType] = (ua.SecurityPolicyType.NoSecurity,),
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.tags = [TEMPERATURE, SPEED]
        self.at_first = {tag: START[tag] for tag in self.tags}
        self.port = free_port()
        self.server: Server | None = None
        self._folder = folder
        self._user = user
        self._policies = list(policies)
        self._certificate = certificate
        self._thread = LoopThread(self._serving)
        self._waiting: dict[str, ua.DataValue] = {}

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._thread.loop is not None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"opc.tcp://{HOST}:{self.port}/line"

    def options(self, **changes: Any) -> OpcuaOptions:
        """Quick ones for this server."""
        quick: dict[str, Any] = {
            "name": "line",
            "url": self.url,
            "interval_seconds": 0.05,
            "timeout_seconds": 2.0,
            "silence_seconds": 1.0,
        }
        return msgspec.convert({"kind": "opcua", **quick, **changes}, OpcuaOptions)

    def start(self) -> None:
        """Listen; returns once it does. The first time takes a second."""
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and stop listening; values stay as they are."""
        self._thread.stop()

    def say(self, tag: str, value: Any) -> None:
        """A new good value, now."""
        self.write(tag, ua.Variant(value))

    def say_bad(self, tag: str) -> None:
        """The device behind the server does not answer."""
        self.write(tag, ua.Variant(None), status=ua.StatusCodes.BadCommunicationError)

    def say_stale(self, tag: str) -> None:
        """The last usable value, of which nobody knows whether it is still true."""
        self.write(tag, ua.Variant(1.0), status=ua.StatusCodes.UncertainLastUsableValue)

    def say_text(self, tag: str, text: str) -> None:
        """The type changes."""
        self.say(tag, text)

    def garbage(self) -> None:
        """Answer what clients have asked with something that is no answer."""
        self.run(self._nonsense())

    def write(
        self,
        tag: str,
        value: ua.Variant,
        *,
        status: int = 0,
        source: datetime | None = None,
        stamped: bool = True,
    ) -> None:
        """Whatever a server can say; ``source`` is its time, by default now."""
        now = datetime.now(UTC)
        data = ua.DataValue(
            value,
            ua.StatusCode(status),
            SourceTimestamp=(source or now) if stamped else None,
            ServerTimestamp=now if stamped else None,
        )
        if self._thread.loop is None:
            self._waiting[tag] = data
        else:
            self.run(self._set(tag, data))

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """The server answers nothing; its connections stay as they are."""
        assert self._thread.loop is not None
        begun, over = threading.Event(), threading.Event()

        def hang() -> None:
            begun.set()
            over.wait(30)

        self._thread.loop.call_soon_threadsafe(hang)
        assert begun.wait(10)
        try:
            yield
        finally:
            over.set()

    def add(self, tag: str, value: Any) -> None:
        """One more variable, right below Objects."""

        async def work() -> None:
            assert self.server is not None
            name = tag.rpartition("=")[2]
            objects = self.server.nodes.objects
            await objects.add_variable(ua.NodeId.from_string(tag), f"2:{name}", value)

        self.run(work())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What ``work`` gives on the server's loop."""
        assert self._thread.loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._thread.loop).result(10)

    async def _set(self, tag: str, data: ua.DataValue) -> None:
        assert self.server is not None
        # not by asyncua's own way, which lets no type change
        nodes = self.server.iserver.aspace._nodes
        held = nodes[ua.NodeId.from_string(tag)].attributes[ua.AttributeIds.Value]
        held.value = data
        for handle, tell in held.datachange_callbacks.items():
            await tell(handle, data)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        if self.server is None:
            self.server = await self._made()
        self.server._policies.clear()
        self.server.iserver.endpoints.clear()
        await self.server.start()
        for tag, data in self._waiting.items():
            await self._set(tag, data)
        self._waiting.clear()
        yield
        await self.server.stop()

    async def _made(self) -> Server:
        users = Users(*self._user, strict=True) if self._user else None
        server = Server(user_manager=users)
        await server.init()
        # its own clock stops a second late
        server.disable_clock()
        server.iserver.aspace.set_attribute_value_callback(
            ua.NodeId(2258), ua.AttributeIds.Value, lambda *_: ua.DataValue(datetime.now(UTC))
        )
        server.set_endpoint(self.url)
        server.set_security_policy(self._policies)
        if self._certificate:
            await server.load_certificate(self._certificate[0])
            await server.load_private_key(self._certificate[1])
        assert await server.register_namespace(SPACE) == 2
        await _build(server)
        return server

    async def _nonsense(self) -> None:
        assert self.server is not None
        for client in list(self.server.bserver.clients):
            processor = client.processor
            for _ in range(20):
                if processor._publish_requests:
                    break
                await asyncio.sleep(0.01)
            else:
                client.transport.write(NONSENSE)
                continue
            asked = processor._publish_requests.popleft()
            client.transport.write(
                processor._connection.message_to_binary(NONSENSE, request_id=asked.seqhdr.RequestId)
            )


async def _build(server: Server) -> None:
    """Objects/Line1 with a variable for each of ``START``."""
    line = await server.nodes.objects.add_object(ua.NodeId("Line1", 2), "2:Line1")
    for tag, value in START.items():
        name = tag.rpartition(".")[2]
        node = await line.add_variable(ua.NodeId.from_string(tag), f"2:{name}", value)
        if name == "Temperature":
            text = ua.LocalizedText("of the melt")
            data = ua.DataValue(ua.Variant(text))
            await node.write_attribute(ua.AttributeIds.Description, data)
            sign = ua.EUInformation(
                NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
                UnitId=4408652,
                DisplayName=ua.LocalizedText("°C"),
            )
            await node.add_property(0, "EngineeringUnits", sign)
            await node.add_property(0, "EURange", ua.Range(Low=-20.0, High=300.0))
        if name == "Speed":
            await node.set_writable()
