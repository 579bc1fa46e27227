# SPDX-License-Identifier: Apache-2.0
"""Questions and answers as bytes on a TCP connection: the only importer of pymodbus.

Only its frames are used, no client of it: sockets, time limits and reconnection are ours. The
table below has the four functions that read; no request that writes can be made here.

MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1; MODBUS Application Protocol
Specification V1.1b3, 6.1 to 6.4 and 7.
"""

import logging
import struct
from dataclasses import dataclass

from pymodbus.exceptions import ModbusException
from pymodbus.framer.socket import FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from fedmill_agent.sources.modbus.answer import GARBLED, Answer
from fedmill_agent.sources.modbus.declaration import BIT_KINDS
from fedmill_agent.sources.modbus.plan import Request

HEADER = 7
"""Bytes before the function code: transaction, protocol, length and device id."""
LONGEST = 254
"""Largest length that a header may tell: a device id and 253 bytes."""

_READS: dict[str, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
_LIBRARY_ERRORS = (ModbusException, ValueError, LookupError, TypeError, struct.error)

# it logs what it refuses, and keeps frames for that; all of it is counted here
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that came.

    Attributes:
        transaction: number of the question that it answers.
        device: id of the device that it comes from.
        payload: function code and data.
    """

    transaction: int
    device: int
    payload: bytes


class Framing:
    """The framer and decoder of the library; without state between calls."""

    def __init__(self) -> None:
        self._framer = FramerSocket(DecodePDU(is_server=False))

    def question(self, request: Request, transaction: int) -> bytes:
        """The bytes that ask ``request`` with the number ``transaction``, 1 to 65535."""
        message = _READS[request.kind](
            dev_id=request.device,
            transaction_id=transaction,
            address=request.address,
            count=request.count,
        )
        return self._framer.buildFrame(message)

    def cut(self, data: bytes) -> tuple[int, Frame | None]:
        """The first frame in ``data`` and its length in bytes; 0 while it is not whole.

        Bytes that no frame begins with have no end either: all of them are cut off, without frame.
        """
        if len(data) < HEADER:
            return 0, None
        protocol, length = struct.unpack_from(">HH", data, 2)
        if protocol != 0 or not 2 <= length <= LONGEST:
            return len(data), None
        used, device, transaction, payload = self._framer.decode(data)
        return used, Frame(transaction, device, payload) if used else None

    def answer(self, frame: Frame, request: Request) -> Answer:
        """What ``frame`` says to ``request``; garbled where it fits no answer to it."""
        try:
            message = self._framer.decoder.decode(frame.payload)
        except _LIBRARY_ERRORS:
            return GARBLED
        asked = _READS[request.kind].function_code
        if message is None or frame.device != request.device:
            return GARBLED
        if message.function_code == asked | 0x80 and message.exception_code:
            return Answer(code=message.exception_code)
        if message.function_code != asked:
            return GARBLED
        size = (request.count + 7) // 8 if request.kind in BIT_KINDS else 2 * request.count
        whole = len(frame.payload) == 2 + size and frame.payload[1] == size
        return Answer(frame.payload[2:]) if whole else GARBLED
