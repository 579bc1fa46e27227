# SPDX-License-Identifier: Apache-2.0
"""Modbus servers under a test's control: pymodbus' own one, and a raw one that answers anything."""

import asyncio
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from tests.agent.sources.live.stands.loop_thread import LoopThread

from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_coordinator.demo.broker import free_port

HOST = "127.0.0.1"
SIZE = 2048
"""Addresses that each table of the server has; whatever is beyond is refused."""
READS = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}


def float_words(value: float) -> list[int]:
    """Two registers, ABCD."""
    return list(struct.unpack(">HH", struct.pack(">f", value)))


class Server:
    """pymodbus' server with the devices 1, 2 and 3.

    Attributes:
        words: (device, kind) -> values of addresses; 0 where nothing was said.
        refused: (device, kind, address) that do not exist.
        codes: device -> exception that it answers everything with.
        silent: devices that never answer.
        instead: what is sent instead of the next answers.
        asked: (device, kind, address, count) of all questions.
        functions: their function codes, as they came over the wire.
        on_question: called with what ``asked`` gets, before the answer is made.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.words: dict[tuple[int, str], dict[int, int]] = defaultdict(dict)
        self.refused: set[tuple[int, str, int]] = set()
        self.codes: dict[int, ExcCodes] = {}
        self.silent: set[int] = set()
        self.instead: list[bytes] = []
        self.asked: list[tuple[int, str, int, int]] = []
        self.functions: set[int] = set()
        self.on_question: Callable[[int, str, int, int], None] = lambda *_: None
        self._thread = LoopThread(self._serving)

    def start(self) -> None:
        """Listen; returns once it does."""
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and stop listening."""
        self._thread.stop()

    def put(self, kind: str, address: int, *words: int, device: int = 1) -> None:
        """Set registers or bits."""
        for place, word in enumerate(words, address):
            self.words[device, kind][place] = word

    def put_float(self, address: int, value: float, *, device: int = 1) -> None:
        """Set a float32 ABCD in holding registers."""
        self.put("holding", address, *float_words(value), device=device)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        bits = SimData(0, values=[False] * SIZE, datatype=DataType.BITS)
        words = SimData(0, values=[0] * SIZE, datatype=DataType.REGISTERS)
        devices = [
            SimDevice(
                number,
                simdata=([bits], [bits], [words], [words]),
                action=partial(self._answer, number),
            )
            for number in (1, 2, 3)
        ]
        server = ModbusTcpServer(devices, address=(HOST, self.port), trace_packet=self._packet)
        await server.serve_forever(background=True)
        yield
        await server.shutdown()
        await asyncio.sleep(0)  # so that transports close their sockets

    async def _answer(
        self,
        device: int,
        code: int,
        _start: int,
        address: int,
        count: int,
        memory: list[int],
        _values: Any,
    ) -> ExcCodes | None:
        kind = READS[code]
        if code < 3:  # the server counts words of sixteen bits there
            address, count = address // 16 * 16, 16 * count
        if device in self.codes:
            return self.codes[device]
        if any((device, kind, each) in self.refused for each in range(address, address + count)):
            return ExcCodes.ILLEGAL_ADDRESS
        for place in range(address, address + count):
            word = self.words[device, kind].get(place, 0)
            if code >= 3:
                memory[place] = word
            else:
                bit = 1 << place % 16
                memory[place // 16] = memory[place // 16] & ~bit | (bit if word else 0)
        return None

    def _packet(self, sending: bool, data: bytes) -> bytes:  # noqa: FBT001  as the library calls it
        if sending:
            if data[6] in self.silent:
                return b""
            return self.instead.pop(0) if self.instead else data
        if len(data) >= 12:
            device, code, address, count = struct.unpack_from(">BBHH", data, 6)
            self.functions.add(code)
            self.asked.append((device, READS.get(code, "other"), address, count))
            self.on_question(*self.asked[-1])
        return data


class Puppet:
    """A TCP server that answers each question with what ``answer`` makes of it.

    ``answer`` gets the whole question and gives the bytes to send, or None to close.
    """

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        """Close everything."""
        self._end.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with self._listener:
            while not self._end.is_set():
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                self.connections += 1
                with connection:
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        while not self._end.is_set():
            try:
                question = connection.recv(4096)
                answer = self._answer(question) if question else None
                if answer is None:
                    return
                connection.sendall(answer)
            except TimeoutError:
                continue
            except OSError:
                return


class Stand:
    """A controller with two floats, for the contract of live sources."""

    tags: ClassVar = ["temperature", "speed"]
    at_first: ClassVar = {"temperature": 0.0, "speed": 0.0}
    """What registers hold that nobody has written."""

    def __init__(self, _folder: Path) -> None:
        self.server = Server()
        self._place = {tag: 2 * index for index, tag in enumerate(self.tags)}

    def options(self, **changes: Any) -> ModbusOptions:
        """Quick ones."""
        registers = {tag: f"holding {at} float32 ABCD" for tag, at in self._place.items()}
        fields: dict[str, Any] = {
            "name": "line",
            "host": HOST,
            "port": self.server.port,
            "registers": registers,
            "interval_seconds": 0.05,
            "silence_seconds": 1.0,
            "timeout_seconds": 0.5,
            "device_retry_seconds": 0.1,
            "register_retry_seconds": 0.1,
        }
        return ModbusOptions(**(fields | changes))

    def start(self) -> None:
        """Listen."""
        self.server.start()

    def stop(self) -> None:
        """Close all connections and stop listening."""
        self.server.stop()

    def say(self, tag: str, value: float) -> None:
        """A new good value."""
        at = self._place[tag]
        self.server.refused -= {(1, "holding", at), (1, "holding", at + 1)}
        self.server.put_float(at, value)

    def say_bad(self, tag: str) -> None:
        """The protocol has no quality: NaN."""
        self.server.put_float(self._place[tag], float("nan"))

    def say_stale(self, tag: str) -> None:
        """The protocol has no quality."""
        raise NotImplementedError(tag)

    def say_text(self, tag: str, text: str) -> None:
        """The protocol has no types: another register map, without this address."""
        at = self._place[tag]
        self.server.refused |= {(1, "holding", at), (1, "holding", at + 1)}

    def garbage(self) -> None:
        """The next answer is nonsense."""
        self.server.instead.append(b"HTTP/1.1 400 Bad Request\r\n\r\n")
