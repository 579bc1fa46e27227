# SPDX-License-Identifier: Apache-2.0
"""A federation of real processes that signs what it releases, and whoever holds its broker."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w
from msgspec import structs
from tests.system.fleet import COORDINATOR, Fleet, a_job, a_pair
from tests.trusted import Shifted

from fedmill_coordinator.demo.recipes.plan import Plan
from fedmill_coordinator.trust.founding import Founded, found
from fedmill_coordinator.trust.keys import read_online, read_signer
from fedmill_coordinator.trust.operator import Operator
from fedmill_coordinator.trust.repository import Repository
from fedmill_shared import topics
from fedmill_shared.job import Job, Rollout
from fedmill_shared.link.base import Connected, LinkEvent, Message
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.trust import TrustRole


def signed_job() -> Job:
    """Two rounds; what comes of them is released to all."""
    return structs.replace(a_job(rounds=2), rollout=Rollout(release="last", rings=["fleet"]))


class Signed:
    """A federation with [trust] everywhere, and its keys."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.clock = Shifted()
        self.repository = Repository(folder / "trust")
        self.online = folder / "keys"
        self.made: Founded = found(self.repository, folder / "sticks", self.online, self.clock)
        operator = Operator(self.repository, read_signer(self.made.keys["targets"]), self.clock)
        operator.add_job(fleet.layout.job, {})
        trust = {"folder": str(self.repository.folder), "keys": str(self.online)}
        _add(fleet.layout.coordinator, {"trust": trust})
        for path in fleet.layout.agents.values():
            _add(path, {"trust": {"root": str(self.made.root)}})

    def restamp(self, seconds: float) -> None:
        """Sign the timestamp as if it were so many seconds from now."""
        with self.repository.alone():
            timestamp = self.repository.timestamp()
            signer = read_online(self.online)[TrustRole.TIMESTAMP]
            self.repository.sign(TrustRole.TIMESTAMP, timestamp, signer, Shifted(seconds))


def _add(path: Path, section: dict[str, object]) -> None:
    with path.open("ab") as file:
        file.write(b"\n" + tomli_w.dumps(section).encode())


class Attacker:
    """Holds the broker: hears everything, and says what it likes."""

    def __init__(self, port: int) -> None:
        self.heard: dict[str, bytes] = {}
        self.there = threading.Event()
        endpoint = Endpoint(
            host="127.0.0.1", port=port, client_id="attacker", subscriptions=[f"{topics.ROOT}/#"]
        )
        self.link = MqttLink(endpoint, self._hear)
        self.link.start()
        assert self.there.wait(20)

    def say(self, kind: str, job: str, payload: bytes) -> None:
        """Tell all agents, and have the broker keep it."""
        self.link.publish(topics.broadcast(kind, job), payload, retain=True)

    def _hear(self, event: LinkEvent) -> None:
        if isinstance(event, Connected):
            self.there.set()
        elif isinstance(event, Message):
            self.heard[event.topic] = bytes(event.payload)


def committed(fleet: Fleet, release: int) -> bool:
    """Whether every agent serves this release."""
    installs = fleet.store.installs(fleet.job.name, release)
    words = {each.agent: each.state for each in installs}
    return words == dict.fromkeys(fleet.agents, "committed")


@contextmanager
def released(folder: Path) -> Iterator[Signed]:
    """A federation of two whose signed release is on both agents."""
    with Fleet(folder / "fleet", Plan(signed_job(), a_pair())) as fleet:
        signed = Signed(fleet, folder)
        fleet.start_broker()
        fleet.start(COORDINATOR, *fleet.agents)
        fleet.finish()
        fleet.wait("release", lambda: committed(fleet, 1))
        yield signed
