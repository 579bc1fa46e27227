# SPDX-License-Identifier: Apache-2.0
"""One session with one server, on the loop of one thread: requests, chunks, limits.

The library's reconnection, subscriptions and publish loop are not used: they end or hang without a
word in several ways (FreeOpcUa/opcua-asyncio, issues 70, 1660 and 2020). A connection that is lost
stays lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaStatusCodeError

from fedmill_agent.sources.opcua.faults import GARBLED
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.opcua.responses import read_response
from fedmill_agent.sources.opcua.security import Identity, guard_password, secure
from fedmill_agent.sources.opcua.wire import DataValue, WireError
from fedmill_shared.clock import Clock

LARGEST_MESSAGE = 16 << 20
"""Bytes of one message of a server."""
MOST_AT_ONCE = 500
"""Nodes in one request; fewer where the server says so."""
GOODBYE_SECONDS = 1.0
SESSION_SECONDS = 60.0
"""After which a server forgets a client that says nothing."""
CHANNEL_SECONDS = 3600.0
"""For which keys are good."""
_LIMITS = {"read": 11705, "browse": 11710, "monitor": 11714}
"""Server/ServerCapabilities/OperationLimits/MaxNodesPer... and MaxMonitoredItemsPerCall."""
_HEADER = 8
_MESSAGES = (b"MSG", b"OPN", b"CLO", b"ACK", b"ERR")
"""How a message begins (OPC 10000-6, 6.7.2 and 7.1.2), if it is for a client."""
_NAMESPACES, _NOW, _STATE = 2255, 2258, 2259
_TOO_MUCH = (
    ua.uaerrors.BadTooManyOperations,
    ua.uaerrors.BadEncodingLimitsExceeded,
    ua.uaerrors.BadRequestTooLarge,
    ua.uaerrors.BadResponseTooLarge,
)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Connection:
    """Owns the library's client.

    Attributes:
        spaces: URIs of the server's namespaces, by their number.
        ahead_ns: how far the server's clock is ahead of ours; 0 where it does not tell.
        lost: done once something came that ends the connection, with the reason.
    """

    def __init__(self, options: OpcuaOptions, who: Identity) -> None:
        """Prepare; on the loop that everything else is called on."""
        self.options = options
        self.spaces: list[str] = []
        self.ahead_ns = 0
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._who = who
        self._client = Client(options.url, timeout=options.timeout_seconds)
        self._client.name = self._client.description = f"fedmill-agent {options.name}"
        self._client.session_timeout = round(1000 * SESSION_SECONDS)
        self._client.secure_channel_timeout = round(1000 * CHANNEL_SECONDS)
        self._client.max_messagesize = LARGEST_MESSAGE
        self._most = dict.fromkeys(_LIMITS, MOST_AT_ONCE)
        self._protocols: list[UASocketProtocol] = []
        self._bound()

    async def open(self, clock: Clock) -> None:
        """Connect, sign in, and learn what the server says of itself.

        Raises:
            Exception: of the library; ``faults.told`` has words for it.
        """
        client = self._client
        await secure(client, self.options, self._who)
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        guard_password(client, self.options)
        await client.activate_session(self.options.user, self._who.password)
        await self._ask_server(clock)

    async def keep(self) -> None:
        """Ask for a sign of life again and again, and renew the keys in time.

        Raises:
            Exception: of the library, or TimeoutError: the connection is lost.
        """
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(self.options.timeout_seconds)
            await self.read([ua.NodeId(ua.Int32(_STATE))])
            # the server may have shortened it; OPC 10000-4, 5.5.2: after 75 % of it
            if loop.time() - renewed > 0.75 * self._client.secure_channel_timeout / 1000:
                await self._client.open_secure_channel(renew=True)
                self._client.uaclient.revolve_security_token()
                renewed = loop.time()

    async def close(self) -> None:
        """Say goodbye if the server listens, and drop the connection in any case."""
        goodbye = asyncio.ensure_future(self._client.disconnect())
        await asyncio.wait({goodbye}, timeout=GOODBYE_SECONDS)
        for protocol in self._protocols:
            if protocol.transport is not None:
                protocol.transport.abort()
        await asyncio.wait({goodbye}, timeout=GOODBYE_SECONDS)
        if goodbye.done() and not goodbye.cancelled():
            goodbye.exception()
        goodbye.cancel()

    async def read(
        self,
        nodes: Sequence[ua.NodeId],
        attribute: AttributeIds = AttributeIds.Value,
        *,
        age_seconds: float = 0.0,
    ) -> list[DataValue | None]:
        """An attribute of each of ``nodes``; None where an answer could not be understood."""

        async def ask(some: Sequence[ua.NodeId]) -> list[DataValue | None]:
            request = ua.ReadRequest()
            request.Parameters.MaxAge = 1000 * age_seconds
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.NodesToRead = [
                ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in some
            ]
            try:
                return list(read_response(await self.request(request), len(some)))
            except WireError:
                return [None] * len(some)

        return await self.in_chunks("read", nodes, ask)

    async def request(self, request: Any, *, patience: float | None = None) -> bytes:
        """The answer to ``request``; waits ``patience`` seconds, by default ``timeout_seconds``.

        Raises:
            WireError: it is no answer.
            UaStatusCodeError: the server refuses.
            OSError: the connection is lost.
            TimeoutError: no answer came.
        """
        patience = self.options.timeout_seconds if patience is None else patience
        try:
            async with asyncio.timeout(patience):
                answer = await self._client.uaclient._send_request(request, timeout=0)  # noqa: SLF001  gives what nobody has decoded
                return bytes(answer)
        except UaStatusCodeError:
            raise
        except GARBLED as error:
            raise WireError(f"{type(error).__name__}: {error}") from error

    async def in_chunks(
        self,
        kind: str,
        items: Sequence[_Item],
        call: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]],
    ) -> list[_Result]:
        """The results of ``call`` for all ``items``, as many at a time as the server takes.

        Raises:
            UaStatusCodeError: it does not take even one.
        """
        found: list[_Result] = []
        while len(found) < len(items):
            size = self._most[kind]
            some = items[len(found) : len(found) + size]
            try:
                results = await call(some)
            except _TOO_MUCH:
                if len(some) == 1:
                    raise
                self._most[kind] = len(some) // 2
                continue
            if len(results) != len(some):
                raise WireError(f"{len(results)} results for {len(some)} nodes")
            found += results
        return found

    @property
    def service(self) -> Any:
        """The library's own services, whose every call is bounded by ``timeout_seconds``."""
        return self._client.uaclient.session

    async def _ask_server(self, clock: Clock) -> None:
        wanted = [_NAMESPACES, _NOW, *_LIMITS.values()]
        spaces, now, *limits = await self.read([ua.NodeId(ua.Int32(number)) for number in wanted])
        if spaces is not None and isinstance(spaces.content, list):
            self.spaces = [str(each) for each in spaces.content]
        if now is not None and now.type == "DateTime" and isinstance(now.content, str):
            told = round(1e9 * datetime.fromisoformat(now.content).timestamp())
            self.ahead_ns = told - clock.now_ns()
        for kind, limit in zip(_LIMITS, limits, strict=True):
            if limit is not None and isinstance(limit.content, float) and limit.content >= 1:
                self._most[kind] = min(MOST_AT_ONCE, int(limit.content))

    def _refuse(self, protocol: UASocketProtocol, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(WireError(why))
        if protocol.transport is not None:
            protocol.transport.abort()

    def _bound(self) -> None:
        """Let only messages in, and none beyond ``LARGEST_MESSAGE``: the library waits for both."""
        client = self._client.uaclient
        make = client._make_protocol  # noqa: SLF001  there is no other way to be asked

        def made() -> UASocketProtocol:
            protocol = make()
            receive = protocol.data_received

            def bounded(data: bytes) -> None:
                held = protocol.receive_buffer or b""
                begun = (held[:_HEADER] + data[:_HEADER])[:_HEADER]
                if len(begun) == _HEADER and begun[:3] not in _MESSAGES:
                    self._refuse(protocol, f"no message of OPC UA but {begun!r}")
                elif len(held) + protocol._connection._incoming_size > LARGEST_MESSAGE:  # noqa: SLF001  nowhere told
                    self._refuse(protocol, f"a message of more than {LARGEST_MESSAGE} bytes")
                else:
                    receive(data)

            protocol.data_received = bounded  # type: ignore[method-assign]
            self._protocols.append(protocol)
            return protocol

        client._make_protocol = made  # type: ignore[method-assign]  # noqa: SLF001  as above
