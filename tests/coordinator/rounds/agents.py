# SPDX-License-Identifier: Apache-2.0
"""Agents that outlive the coordinator of a `World`, and what its rows must come to."""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmill_shared.errors import StoreError
from fedmill_shared.link.blocks import TRANSFER_WINDOW, block_count
from fedmill_shared.messages import (
    BlobRequest,
    JobNotice,
    Receipt,
    RoundNotice,
    UpdateOffer,
    VersionNotice,
)

World = Any  # tests/coordinator/rounds/conftest.py
Deed = Callable[[], object]
Delta = Callable[[str, int, int], NDArray[np.float32]]
NAME = "tiny"


class Killed(BaseException):
    """What kill -9 is to the code: nothing after it runs, nothing catches it."""


class Agent:
    """It answers what it hears as the real one does."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.outbox: dict[str, tuple[UpdateOffer, bytes, bool]] = {}
        self.active: VersionNotice | None = None
        self.round: RoundNotice | None = None
        self.trained: set[tuple[int, str]] = set()
        self.evaluated: set[str] = set()

    def hear(self, message: object) -> list[Deed]:
        """What it does about a message, one piece after the other."""
        match message:
            case JobNotice(state=state):
                told = [lambda: self.world.join(self.name)]
                if state in ("waiting", "statistics"):
                    told.append(lambda: self.world.tell_moments(self.name))
                return told
            case VersionNotice():
                self.active = message
                evaluate = message.evaluate and message.version not in self.evaluated
                self.evaluated.add(message.version)
                score = [lambda: self.world.evaluate(self.name)] if evaluate else []
                return [*score, *self.train()]
            case RoundNotice():
                self.round = message
                return [*self.close(message), *self.train()]
            case Receipt(sha256=digest, fate=fate) if digest in self.outbox:
                offer, frame, _ = self.outbox.pop(digest)
                if fate == "received":
                    self.outbox[digest] = offer, frame, True
            case BlobRequest(blob=digest, missing=missing) if digest in self.outbox:
                frame = self.outbox[digest][1]
                return [lambda: self.world.blocks(self.name, frame, missing)]
        return []

    def close(self, notice: RoundNotice) -> list[Deed]:
        """A round has ended: ask what became of the updates that it did not use."""
        asked: list[Deed] = []
        for digest, (offer, frame, _) in list(self.outbox.items()):
            if offer.round > notice.closed:
                continue
            if notice.included.get(self.name) == digest:
                del self.outbox[digest]
            else:
                asked.append(lambda o=offer, f=frame: self.send(o, f, again=True))
        return asked

    def train(self) -> list[Deed]:
        """Train for the open round, once, if it is asked to."""
        notice, active = self.round, self.active
        if notice is None or active is None or not notice.round or active.version != notice.base:
            return []
        if (notice.round, notice.base) in self.trained:
            return []
        if notice.cohort is not None and self.name not in notice.cohort:
            return []
        self.trained.add((notice.round, notice.base))
        offer, frame = self.world.update(self.name, number=notice.round)
        self.outbox[offer.sha256] = offer, frame, False
        return [lambda: self.send(offer, frame, again=False)]

    def send(self, offer: UpdateOffer, frame: bytes, *, again: bool) -> None:
        """The offer, then the first blocks unless it is offered ``again``."""
        self.world.offer(self.name, structs.replace(offer, offered_again=again))
        if not again:
            first = range(min(TRANSFER_WINDOW, block_count(len(frame))))
            self.world.blocks(self.name, frame, first)

    def resend(self) -> list[Deed]:
        """What has had no receipt for too long."""
        waiting = [(offer, frame) for offer, frame, known in self.outbox.values() if not known]
        return [lambda o=offer, f=frame: self.send(o, f, again=True) for offer, frame in waiting]


def heard(world: World, agents: Sequence[Agent]) -> list[Deed]:
    """What the agents do about all that was said."""
    deeds: list[Deed] = []
    while world.voice.said:
        to, _, message = world.voice.said.popleft()
        for agent in agents:
            if to in ("", agent.name):
                deeds += agent.hear(message)
    return deeds


def run_to_end(world: World, names: list[str], idle: Callable[[], object] | None = None) -> int:
    """Let agents and coordinator talk until the job ends; return how often it was killed.

    What fails on a full disk is told again, as agents do, behind what others have to say.
    ``idle`` is done whenever nobody has anything left to do.
    """
    agents = [Agent(name, world) for name in names]
    inbox: deque[Deed] = deque(lambda n=name: world.seen(n) for name in names)
    killed, waits, down = 0, 0, False
    while world.state not in ("finished", "stopped"):
        inbox.extend(heard(world, agents))
        try:
            if down:
                world.start()
                down = False
            elif inbox:
                inbox[0]()
                inbox.popleft()
            else:
                waits += 1
                assert waits < 40, "the job hangs"
                world.clock.advance(10)
                for agent in agents:
                    inbox.extend(agent.resend())
                world.conductor.step()
                if idle is not None:
                    idle()
        except StoreError:
            inbox.rotate(-1)  # it has no answer, so it is told again
        except Killed:
            killed += 1
            inbox.clear()  # the broker had its acknowledgement; nobody remembers
            down = True
    return killed


def play(world: World, seconds: dict[str, float], until: float) -> list[tuple[float, str, int]]:
    """Agents train one round after the other, each in its own ``seconds``; who sent what when.

    Every agent trains for the round that is open when it is free, and for none twice.
    """
    sent: list[tuple[float, str, int]] = []
    busy = [(each, name, 1) for name, each in seconds.items()]
    heapq.heapify(busy)
    idle: dict[str, int] = {}
    began = world.clock.monotonic()
    while busy and world.number:
        at, name, number = heapq.heappop(busy)
        if at > until:
            break
        world.wait(at - (world.clock.monotonic() - began))
        world.send(name, *world.update(name, number=number))
        sent.append((at, name, number))
        idle[name] = number
        for free, last in list(idle.items()):
            if world.number > last:
                del idle[free]
                heapq.heappush(busy, (at + seconds[free], free, world.number))
    return sent


def recomputed(world: World, delta: Delta) -> list[NDArray[np.float32]]:
    """The learned part of every version, computed anew from nothing but the rows of the updates.

    For jobs with ``rule`` fedavg and fp32 both ways, where every step is exact.
    """
    exponent = world.job.federation.staleness_exponent
    rows = [
        row for record in world.rows.rounds(NAME) for row in world.rows.updates(NAME, record.round)
    ]
    vectors = [world.learned(0)]
    for record in world.rows.rounds(NAME):
        used = [row for row in rows if row.included_in == record.round]
        if not used:
            continue
        total = np.zeros(world.elements)
        examples = 0
        for row in sorted(used, key=lambda row: (row.agent, row.round)):
            weight = row.examples * (1 + record.round - row.round) ** -exponent
            total += weight * delta(row.agent, row.round, world.elements).astype(np.float64)
            examples += row.examples
        vectors.append(vectors[-1] + (total / examples).astype(np.float32))
    return vectors


def fates(world: World) -> Sequence[tuple[int, str, str, int | None]]:
    """What became of every update: its round, agent, state, and the round that used it."""
    rows = [world.rows.updates(NAME, record.round) for record in world.rows.rounds(NAME)]
    return [(row.round, row.agent, row.state, row.included_in) for each in rows for row in each]
