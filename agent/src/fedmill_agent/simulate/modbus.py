# SPDX-License-Identifier: Apache-2.0
"""A Modbus TCP server: each line is a device; holding 0 counts blocks, 1 is the part, then samples.

Samples are int16, one register each, the tags one after the other.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from fedmill_agent.simulate.device import Shape
from fedmill_shared.errors import ConfigError, SourceError

SEQUENCE, PART_REGISTER, SAMPLES = 0, 1, 2
SECONDS = 20.0
ARRIVE_SECONDS = 0.05
"""How long it may take to accept a client."""
MOST_LINES = 247
"""Ids that a device may have."""
_FULL = 1 << 16


class ModbusDevice:
    """Owns the server and the thread it runs in; devices are numbered from 1, as lines come."""

    def __init__(self, host: str, port: int) -> None:
        """Nothing is opened yet."""
        self._address = (host, port)
        self._numbers: dict[str, int] = {}
        self._scales: dict[str, float] = {}
        self._words: dict[int, NDArray[np.int64]] = {}
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._fault: OSError | RuntimeError | OverflowError | None = None
        self._thread = threading.Thread(target=self._run, name="simulate-modbus", daemon=True)

    def open(self, shapes: Sequence[Shape]) -> None:
        """Begin to serve.

        Raises:
            SourceError: the port cannot be used.
            ConfigError: there are more samples than registers, or more lines than device ids.
        """
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        _check_room(shapes)
        try:
            _check_address(*self._address)
        except SourceError:
            self.close()
            raise
        for number, shape in enumerate(shapes, 1):
            self._numbers[shape.line] = number
            self._scales[shape.line] = shape.scale
            self._words[number] = np.zeros(SAMPLES + len(shape.tags) * shape.block, np.int64)
        self._thread.start()
        self._ready.wait(SECONDS)
        if self._fault is not None or not self._ready.is_set():
            raise _closed(*self._address, str(self._fault or "it does not come up"))

    def part(self, line: str, number: int, time_ns: int) -> None:  # noqa: ARG002  it has no clock
        """Which part is in the machine."""
        self._words[self._numbers[line]][PART_REGISTER] = number % _FULL

    def block(
        self,
        line: str,
        values: NDArray[np.float64],
        end_ns: int,  # noqa: ARG002  it has no clock
    ) -> None:
        """Samples as whole numbers; the counter is the last to change."""
        old = self._words[self._numbers[line]]
        whole = np.clip(np.rint(values.ravel() / self._scales[line]), -(1 << 15) + 1, (1 << 15) - 1)
        head = [(old[SEQUENCE] + 1) % _FULL, old[PART_REGISTER]]
        words = np.concatenate((head, whole.astype(np.int64) % _FULL))
        self._words[self._numbers[line]] = words

    def close(self) -> None:
        """Stop serving."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it ends by itself at this moment
                self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(SECONDS)
        elif not self._loop.is_closed():
            self._loop.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except (OSError, RuntimeError, OverflowError) as error:
            self._fault = error
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        devices = [
            SimDevice(
                number,
                simdata=SimData(0, values=[0] * len(words), datatype=DataType.REGISTERS),
                action=partial(self._answer, number),
            )
            for number, words in self._words.items()
        ]
        server = ModbusTcpServer(devices, address=self._address)
        await server.serve_forever(background=True)
        self._ready.set()
        await self._end.wait()
        # A connection that is being accepted while the server closes is never closed
        # (https://github.com/python/cpython/issues/109564): first nobody else comes.
        if isinstance(server.transport, asyncio.Server):
            for listening in server.transport.sockets:
                self._loop.remove_reader(listening.fileno())
        await asyncio.sleep(ARRIVE_SECONDS)
        await server.shutdown()  # type: ignore[no-untyped-call]
        await asyncio.sleep(0)

    async def _answer(
        self,
        number: int,
        _code: int,
        _start: int,
        address: int,
        count: int,
        memory: list[int],
        _values: object,
    ) -> ExcCodes | None:
        memory[address : address + count] = self._words[number][address : address + count].tolist()
        return None


def _check_room(shapes: Sequence[Shape]) -> None:
    if len(shapes) > MOST_LINES:
        raise ConfigError(f"{len(shapes)} lines are more than the {MOST_LINES} ids of devices")
    for shape in shapes:
        needed = SAMPLES + len(shape.tags) * shape.block
        if needed > _FULL:
            raise ConfigError(
                f"line {shape.line}: blocks of {len(shape.tags)} tags with {shape.block} samples "
                f"need {needed} registers, a device has {_FULL}",
                remedy="show fewer samples at a time with --block",
            )


def _check_address(host: str, port: int) -> None:
    """Bind it for a moment: pymodbus does not tell why it cannot.

    Raises:
        SourceError: it is taken, or no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _closed(host, port, error.strerror or str(error)) from error


def _closed(host: str, port: int, reason: str) -> SourceError:
    return SourceError(
        f"Modbus server {host}:{port} cannot be opened: {reason}",
        remedy="choose another --port, or a --host of this machine",
    )
