# SPDX-License-Identifier: Apache-2.0
"""What a server has: the registers that are declared, and those that a search finds."""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import isfinite

from fedmill_agent.sources.live import Found, Readings
from fedmill_agent.sources.modbus.answer import Answer
from fedmill_agent.sources.modbus.declaration import BIT_KINDS, Register
from fedmill_agent.sources.modbus.decoder import part
from fedmill_agent.sources.modbus.opening import make_poller
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_agent.sources.modbus.plan import Request
from fedmill_agent.sources.modbus.registers import Range
from fedmill_agent.sources.modbus.values import ORDERS, SANE, numbers
from fedmill_agent.sources.modbus.waveforms import Asking
from fedmill_agent.sources.modbus.wire import Wire, connect
from fedmill_shared.clock import Clock

_WRITABLE = ("coil", "holding")
_AT_ONCE = 64
"""Addresses of the first question of a search; half as many after each refusal."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Addresses that answered, and what they hold."""

    range: Range
    data: bytes


Searching = Generator[Request, Answer, list[Piece]]


def discover(options: ModbusOptions, clock: Clock) -> Iterator[Found]:
    """What is declared, with its value at present, and what the option ``scan`` finds.

    Tags of the latter are declarations, and may be used as tags just so.

    Raises:
        SourceError: the server cannot be reached, or the connection is lost.
    """
    counts = Counter[str]()
    wire = connect(options.host, options.port, counts)
    try:
        poller = make_poller(options, list(options.declared.values()), clock, counts)
        _conduct(wire, _plain(poller.poll()), clock, options.timeout_seconds)
        values = {each.tag: each for each in poller.taken}
        for tag, register in options.declared.items():
            yield _known(register, values.get(tag), poller.health.problems.get(tag, ""))
        for each in options.ranges:
            pieces = _conduct(wire, _search(each), clock, options.timeout_seconds)
            for piece in pieces:
                yield from _found(piece)
    finally:
        wire.close()


def _plain(asking: Asking) -> Searching:
    yield from asking
    return []


def _conduct(wire: Wire, asking: Searching, clock: Clock, timeout: float) -> list[Piece]:
    """Put all questions of ``asking``, waiting for each answer."""
    answer: Answer | None = None
    while True:
        try:
            question = next(asking) if answer is None else asking.send(answer)
        except StopIteration as end:
            pieces: list[Piece] = end.value
            return pieces
        wire.ask(question)
        deadline, answer = clock.monotonic() + timeout, None
        while answer is None:
            answer = wire.receive(deadline - clock.monotonic())
            if answer is None and clock.monotonic() >= deadline:
                answer = wire.give_up()


def _search(searched: Range) -> Searching:
    """Read all of a range that can be read; it ends at the first silence."""
    pieces: list[Piece] = []
    first = searched.first
    waiting = [
        Range(searched.device, searched.kind, start, min(start + _AT_ONCE, searched.end))
        for start in range(first, searched.end, _AT_ONCE)
    ]
    while waiting:
        each = waiting.pop(0)
        answer = yield Request(each.device, each.kind, each.first, each.end - each.first)
        middle = (each.first + each.end) // 2
        if answer.good:
            pieces.append(Piece(each, answer.data))
        elif answer.silent or answer.code == 1:
            break
        elif middle > each.first:
            waiting[:0] = [
                Range(each.device, each.kind, each.first, middle),
                Range(each.device, each.kind, middle, each.end),
            ]
    return pieces


def _known(register: Register, value: Readings | None, problem: str) -> Found:
    return Found(
        register.tag,
        type="bool" if register.is_bit else register.type,
        value=_shown(float(value.values[-1])) if value is not None else "",
        writable=register.kind in _WRITABLE,
        note=problem or f"{register} device {register.device}",
    )


def _found(piece: Piece) -> Iterator[Found]:
    where = piece.range
    for address in range(where.first, where.end):
        register = Register("", where.device, where.kind, address, "uint16")
        own = part(piece.data, register, where.first)
        is_bit = where.kind in BIT_KINDS
        value = float(own[0]) if is_bit else float(numbers(own, "uint16", "AB")[0])
        two = part(
            piece.data, Register("", where.device, where.kind, address, "uint32"), where.first
        )
        yield Found(
            f"{where.kind} {address} device {where.device}",
            type="bool" if is_bit else "uint16",
            value=_shown(value),
            writable=where.kind in _WRITABLE,
            note="" if is_bit or len(two) < 4 else _as_float(two),
        )


def _as_float(data: bytes) -> str:
    """What a register and the next one are as a float, where that is a likely value."""
    likely = []
    for order in ORDERS[4]:
        value = float(numbers(data, "float32", order)[0])
        if SANE[0] <= abs(value) <= SANE[1]:
            likely.append(f"{order} {value:.6g}")
    return f"with the next one as float32: {', '.join(likely)}" if likely else ""


def _shown(value: float) -> str:
    return f"{value:.9g}" if isfinite(value) else ""
