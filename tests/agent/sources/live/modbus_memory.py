# SPDX-License-Identifier: Apache-2.0
"""Modbus devices as plain tables, and polls of them without a network."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.modbus.answer import SILENT, Answer
from fedmill_agent.sources.modbus.declaration import Defaults, Register
from fedmill_agent.sources.modbus.health import Health, Limits
from fedmill_agent.sources.modbus.notation import from_text
from fedmill_agent.sources.modbus.plan import Request
from fedmill_agent.sources.modbus.poller import Poller
from fedmill_shared.clock import ManualClock

PLAIN = Defaults(device=1, order="ABCD", not_a_number={})
PATIENT = Limits(
    largest_gap=16, largest_read=125, first_pause=4.0, device_pause=60.0, register_pause=300.0
)


def register(tag: str, text: str) -> Register:
    """As a configuration declares it."""
    return from_text(tag, text, PLAIN)


class Memory:
    """Any number of devices.

    Attributes:
        words: (device, kind, address) -> value; 0 where nothing was said.
        refused: addresses that are refused, alike.
        refusal: the exception that says so.
        silent: devices that do not answer.
        codes: device -> exception that it answers everything with.
        asked: all questions.
        on_question: called with each before it is answered.
    """

    def __init__(self) -> None:
        self.words: dict[tuple[int, str, int], int] = defaultdict(int)
        self.refused: set[tuple[int, str, int]] = set()
        self.refusal = 2
        self.silent: set[int] = set()
        self.codes: dict[int, int] = {}
        self.asked: list[Request] = []
        self.on_question: Callable[[Request], None] = lambda _request: None

    def put(self, kind: str, address: int, *words: int, device: int = 1) -> None:
        """Set registers or bits."""
        for place, word in enumerate(words, address):
            self.words[device, kind, place] = word

    def answer(self, request: Request) -> Answer:
        """What the device says."""
        self.asked.append(request)
        self.on_question(request)
        places = [
            (request.device, request.kind, request.address + each) for each in range(request.count)
        ]
        if request.device in self.silent:
            return SILENT
        if code := self.codes.get(request.device, 0):
            return Answer(code=code)
        if self.refused.intersection(places):
            return Answer(code=self.refusal)
        words = [self.words[place] for place in places]
        if request.kind in {"coil", "discrete"}:
            return Answer(np.packbits(words, bitorder="little").tobytes())
        return Answer(b"".join(word.to_bytes(2, "big") for word in words))


class Bench:
    """A poller of ``registers`` of a memory, under a clock that stands still."""

    def __init__(
        self, registers: Sequence[Register], limits: Limits = PATIENT, *, run_tag: str = ""
    ) -> None:
        self.memory = Memory()
        self.clock = ManualClock()
        counts = Counter[str]()
        health = Health(registers, limits, Random(1), counts)
        self.poller = Poller(registers, health, self.clock, counts, run_tag=run_tag)

    @property
    def counts(self) -> Counter[str]:
        """What was left out."""
        return self.poller.counts

    @property
    def problems(self) -> dict[str, str]:
        """Tags that do not come."""
        return self.poller.health.problems

    def poll(self) -> dict[str, Readings]:
        """What one poll brings, by tag; what it asked is in the memory, which forgets the rest."""
        self.memory.asked.clear()
        asking = self.poller.poll()
        answer: Answer | None = None
        while True:
            try:
                request = next(asking) if answer is None else asking.send(answer)
            except StopIteration:
                break
            answer = self.memory.answer(request)
        taken = list(self.poller.taken)
        self.poller.taken.clear()
        assert len({each.tag for each in taken}) == len(taken)
        return {each.tag: each for each in taken}

    def values(self) -> dict[str, float]:
        """The newest good values of one poll."""
        return {
            tag: float(each.values[-1]) for tag, each in self.poll().items() if each.quality[-1]
        }
