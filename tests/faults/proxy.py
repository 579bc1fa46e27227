# SPDX-License-Identifier: Apache-2.0
"""A bad network between MQTT 5 clients and their broker, as bad as a test asks for.

One thread runs everything; whole packets go from one side to the other, and faults act on whole
packets. ``up`` is from the clients to the broker, ``down`` is back.
"""

import asyncio
import random
import ssl
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

Direction = Literal["up", "down"]
BOTH: tuple[Direction, ...] = ("up", "down")
PUBLISH, PUBACK = 3, 4
DUP = 0x08
READ_AHEAD = 1 << 20
QUEUED_PACKETS = 256
HOLD_SECONDS = 0.2
"""So long a packet waits for another one that it could be swapped with."""


def anything(_topic: str) -> bool:
    """Every topic."""
    return True


def as_it_is(_topic: str, packet: bytes) -> bytes:
    """The same packet."""
    return packet


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to one direction; probabilities are for each PUBLISH."""

    delay: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    drop: float = 0.0
    match: Callable[[str], bool] = anything
    change: Callable[[str, bytes], bytes] = as_it_is
    halve: bool = False


class Proxy:
    """Listens on a port of its own in front of the broker; a context that leaves nothing behind.

    Faults may be switched from any thread. A call without ``direction`` means both.

    Attributes:
        port: where clients connect to, on 127.0.0.1.
        counts: what was done: connected, refused, unreachable, cut, halved, duplicated, reordered,
            dropped, changed, and publish for every PUBLISH that came.
        carried: bytes that were delivered, by direction and type of packet.
    """

    def __init__(
        self,
        port: int,
        chance: random.Random | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """In front of the broker at ``port``; ``chance`` decides whom a fault hits.

        With ``tls`` clients meet that, as if the broker's key were the proxy's; the broker is
        spoken to in the clear.
        """
        self.port = 0
        self.counts: Counter[str] = Counter()
        self.carried: Counter[tuple[Direction, int]] = Counter()
        self.chance = chance or random.Random(0)
        self._broker = port
        self._tls = tls
        self._faults: dict[Direction, Faults] = dict.fromkeys(BOTH, Faults())
        self._lock = threading.Lock()
        self._refusing = False
        self._connections: set[_Connection] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """Deliver every packet later by so much; their order stays."""
        self._set(direction, delay=seconds)

    def duplicate(self, probability: float, direction: Direction | None = None) -> None:
        """Deliver a PUBLISH of QoS 1 twice; its sender sees one acknowledgement."""
        self._set(direction, duplicate=probability)

    def reorder(self, probability: float, direction: Direction | None = None) -> None:
        """Deliver a PUBLISH behind the next one, if one comes within ``HOLD_SECONDS``."""
        self._set(direction, reorder=probability)

    def drop(
        self,
        probability: float,
        match: Callable[[str], bool] = anything,
        direction: Direction | None = None,
    ) -> None:
        """Acknowledge a PUBLISH whose topic matches to its sender, and lose it."""
        self._set(direction, drop=probability, match=match)

    def change(
        self, how: Callable[[str, bytes], bytes], direction: Direction | None = None
    ) -> None:
        """Deliver what ``how`` makes of topic and packet of a PUBLISH."""
        self._set(direction, change=how)

    def halve(self, direction: Direction | None = None) -> None:
        """Deliver half of the next packet, and cut its connection; once."""
        self._set(direction, halve=True)

    def refuse(self, *, refusing: bool) -> None:
        """End new connections as soon as they come, or no longer."""
        self._refusing = refusing

    def cut(self) -> None:
        """Reset every connection; they are gone when this returns."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def heal(self) -> None:
        """A good network again; what is cut stays cut."""
        with self._lock:
            self._faults = dict.fromkeys(BOTH, Faults())
        self._refusing = False

    def faults(self, direction: Direction) -> Faults:
        """What happens to one direction now."""
        return self._faults[direction]

    def halved(self) -> None:
        """One packet was halved: the order is carried out."""
        self.counts["halved"] += 1
        self._set(None, halve=False)

    def hits(self, probability: float) -> bool:
        """Whether a fault of this probability happens now."""
        return probability > 0 and self.chance.random() < probability

    def _set(self, direction: Direction | None, **changes: Any) -> None:
        with self._lock:
            for each in BOTH if direction is None else (direction,):
                self._faults[each] = replace(self._faults[each], **changes)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=READ_AHEAD, ssl=self._tls
        )
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stop.wait()
        self._refusing = True
        await self._cut()

    async def _cut(self) -> None:
        while gone := list(self._connections):
            self.counts["cut"] += len(gone)
            for connection in gone:
                connection.abort()
            await asyncio.gather(*(connection.ended.wait() for connection in gone))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.counts["refused"] += 1
            await _end(writer, abort=True)
            return
        try:
            beyond = await asyncio.open_connection("127.0.0.1", self._broker, limit=READ_AHEAD)
        except OSError:
            self.counts["unreachable"] += 1
            await _end(writer, abort=True)
            return
        self.counts["connected"] += 1
        connection = _Connection(self, (reader, writer), beyond)
        self._connections.add(connection)
        await connection.run()
        self._connections.discard(connection)
        connection.ended.set()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One client, one connection to the broker for it, and two pipes between."""

    def __init__(self, proxy: Proxy, client: Streams, broker: Streams) -> None:
        self.ended = asyncio.Event()
        self._writers = (client[1], broker[1])
        self._up = _Pipe(proxy, "up", client[0], broker[1])
        self._down = _Pipe(proxy, "down", broker[0], client[1])
        self._up.back, self._down.back = self._down, self._up

    async def run(self) -> None:
        """Serve until both sides are gone."""
        work: list[Awaitable[None]] = []
        for pipe in (self._up, self._down):
            work += [pipe.read(), pipe.write()]
        await asyncio.gather(*work)
        for writer in self._writers:
            await _end(writer, abort=True)

    def abort(self) -> None:
        """Reset both sides."""
        for pipe in (self._up, self._down):
            pipe.end()


class _Pipe:
    """One direction of one connection: a reader, a queue of packets with due times, a writer."""

    back: "_Pipe"

    def __init__(
        self,
        proxy: Proxy,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self._direction = proxy, direction
        self._reader, self._writer = reader, writer
        self._queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        self._room, self._over = asyncio.Event(), asyncio.Event()
        self._held: list[bytes] = []
        self._passes: dict[int, deque[bool]] = {}
        self._loop = asyncio.get_running_loop()

    async def read(self) -> None:
        """Take packets until the sender is gone or its connection is cut."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                packet = await _packet(self._reader)
                if self._proxy.faults(self._direction).halve:
                    self._proxy.halved()
                    self.put(packet[: len(packet) // 2])
                    break
                self._take(packet)
                if self._queue.qsize() >= QUEUED_PACKETS and not self._over.is_set():
                    self._room.clear()
                    await self._room.wait()
        self._release()
        self._queue.put_nowait(None)

    async def write(self) -> None:
        """Deliver packets when they are due; then end the connection, both ways."""
        with suppress(OSError):
            while (entry := await self._queue.get()) is not None:
                due, packet = entry
                if (ahead := due - self._loop.time()) > 0:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._over.wait(), ahead)
                if self._over.is_set():
                    break
                self._writer.write(packet)
                self._proxy.carried[self._direction, packet[0] >> 4] += len(packet)
                await self._writer.drain()
                if self._queue.qsize() < QUEUED_PACKETS:
                    self._room.set()
        self._over.set()
        self._room.set()
        await _end(self._writer)
        self.back.end()

    def put(self, packet: bytes) -> None:
        """Queue a packet, due after today's delay."""
        due = self._loop.time() + self._proxy.faults(self._direction).delay
        self._queue.put_nowait((due, packet))

    def end(self) -> None:
        """End at once, with what is queued: nobody is there to write to."""
        self._over.set()
        self._room.set()
        self._queue.put_nowait(None)
        self._writer.transport.abort()

    def _take(self, packet: bytes) -> None:
        kind = packet[0] >> 4
        if kind == PUBLISH:
            self._publish(packet)
        elif kind != PUBACK or self.back.passes(packet):
            self.put(packet)

    def _publish(self, packet: bytes) -> None:
        proxy, faults = self._proxy, self._proxy.faults(self._direction)
        proxy.counts["publish"] += 1
        topic, number = _parse_publish(packet)
        if faults.match(topic) and proxy.hits(faults.drop):
            proxy.counts["dropped"] += 1
            if number is not None:
                self.back.put(bytes([PUBACK << 4, 2]) + number.to_bytes(2, "big"))
            return
        sent, packet = packet, faults.change(topic, packet)
        if packet != sent:
            proxy.counts["changed"] += 1
        packets = [packet]
        if number is not None and proxy.hits(faults.duplicate):
            proxy.counts["duplicated"] += 1
            packets.append(bytes([packet[0] | DUP]) + packet[1:])
        self._expect(number, len(packets))
        if not self._held and proxy.hits(faults.reorder):
            self._held = packets
            self._loop.call_later(HOLD_SECONDS, self._release_if, packets)
            return
        if self._held:
            proxy.counts["reordered"] += 1
        for each in packets:
            self.put(each)
        self._release()

    def _release_if(self, packets: list[bytes]) -> None:
        if self._held is packets:
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for packet in held:
            self.put(packet)

    def _expect(self, number: int | None, copies: int) -> None:
        """Note which of the acknowledgements of ``number`` its sender may see: the first."""
        if number is not None and (copies > 1 or number in self._passes):
            passes = self._passes.setdefault(number, deque())
            passes.extend([True] + [False] * (copies - 1))

    def passes(self, puback: bytes) -> bool:
        """Whether the sender of this direction may see an acknowledgement."""
        number = int.from_bytes(puback[2:4], "big")
        if number not in self._passes:
            return True
        seen = self._passes[number].popleft()
        if not self._passes[number]:
            del self._passes[number]
        return seen


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """The next whole packet (MQTT 5.0, section 2.1).

    Raises:
        IncompleteReadError: the connection ended first.
    """
    head = await reader.readexactly(2)
    length, shift = head[1] & 0x7F, 7
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
        length |= (head[-1] & 0x7F) << shift
        shift += 7
    return head + await reader.readexactly(length)


def _parse_publish(packet: bytes) -> tuple[str, int | None]:
    """Topic and packet identifier, None with QoS 0 (MQTT 5.0, section 3.3.2)."""
    start = 2
    while packet[start - 1] & 0x80:
        start += 1
    end = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    topic = packet[start + 2 : end].decode()
    return topic, int.from_bytes(packet[end : end + 2], "big") if packet[0] & 0x06 else None


async def _end(writer: asyncio.StreamWriter, *, abort: bool = False) -> None:
    """Close a side: what is written still goes out unless it is to ``abort``."""
    if abort:
        writer.transport.abort()
    else:
        writer.close()
    with suppress(OSError):
        await writer.wait_closed()
