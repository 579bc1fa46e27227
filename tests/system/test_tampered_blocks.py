# SPDX-License-Identifier: Apache-2.0
"""Blocks whose bytes are changed on their way, by whoever has the broker and all its keys.

They are refused where they arrive, and that is logged there: a model scores on, a round goes on.
"""

import ssl
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.faults.proxy import Direction, Proxy, as_it_is
from tests.system.fleet import COORDINATOR, a_job, a_pair
from tests.system.secured import SecureFleet

from fedmill_coordinator.demo.broker import free_port
from fedmill_coordinator.demo.recipes.plan import Plan
from fedmill_shared.job import Job
from fedmill_shared.link.blocks import HEADER_SIZE

pytestmark = [pytest.mark.system, pytest.mark.drill]
MAGIC = b"FMB1"
CHECKSUM_BYTES = 4
EVER = 1_000_000


class Owned:
    """A federation of two agents; all that the second one says and hears can be changed.

    Attributes:
        fleet: with identities: TLS 1.3, and signed updates.
        proxy: what the second agent takes for the broker: the broker's owner has its key.
    """

    def __init__(self, fleet: SecureFleet, proxy: Proxy) -> None:
        self.fleet = fleet
        self.proxy = proxy
        self.honest, self.victim = fleet.agents

    @contextmanager
    def changing(
        self, direction: Direction, blocks: int = EVER, *, fitting: bool = True
    ) -> Iterator[None]:
        """The next ``blocks`` are other ones, with a checksum that is ``fitting`` or is not."""
        left = blocks

        def change(topic: str, packet: bytes) -> bytes:
            nonlocal left
            if "block" not in topic.split("/") or not left:
                return packet
            left -= 1
            return tampered(packet, fitting=fitting)

        self.proxy.change(change, direction)
        try:
            yield
        finally:
            self.proxy.change(as_it_is, direction)

    def included(self, since: int) -> list[list[str]]:
        """Whose updates were used in rounds after ``since`` that are closed."""
        rounds = [each for each in self.fleet.rounds() if each.round > since]
        return [sorted(each.included) for each in rounds if each.state == "closed"]

    def goes_on(self, who: list[str], since: int = 0) -> None:
        """Return once a round after ``since`` has closed with just these agents."""
        self.fleet.wait(f"a round with {who}", lambda: who in self.included(since))

    def newest(self) -> int:
        """Number of the newest round."""
        return max(each.round for each in self.fleet.rounds())

    def scored(self) -> int:
        """Windows that the second agent has scored, as it said last."""
        phase = self.fleet.status(self.victim).state.jobs[self.fleet.job.name]
        return phase.windows_scored


def tampered(packet: bytes, *, fitting: bool) -> bytes:
    """A PUBLISH of a block whose last byte is another one."""
    start = packet.index(MAGIC)
    head, payload = packet[: start + HEADER_SIZE], bytearray(packet[start + HEADER_SIZE :])
    payload[-1] ^= 1
    if fitting:
        head = head[:-CHECKSUM_BYTES] + zlib.crc32(payload).to_bytes(CHECKSUM_BYTES, "little")
    return head + bytes(payload)


def endless() -> Job:
    """Rounds until nobody looks any more; none waits long for who has nothing to say."""
    return a_job(rounds=1_000_000, minimum=1, deadline_seconds=2.0)


def broker_side(fleet: SecureFleet) -> ssl.SSLContext:
    """TLS with the broker's own certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    served = fleet.folder / "served"
    context.load_cert_chain(served / "certificate.pem", served / "key.pem")
    return context


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owned]:
    """It runs, and rounds close with both."""
    folder = tmp_path_factory.mktemp("tampered") / "fleet"
    with SecureFleet(folder, Plan(endless(), a_pair())) as fleet:
        behind = free_port()
        fleet.plant.beyond = f"\nlistener {behind} 127.0.0.1\nallow_anonymous true\n"
        fleet.start_broker()
        with Proxy(behind, tls=broker_side(fleet)) as proxy:
            made = Owned(fleet, proxy)
            config = fleet.layout.agents[made.victim]
            config.write_text(
                config.read_text().replace(f"\nport = {fleet.port}\n", f"\nport = {proxy.port}\n")
            )
            fleet.start(COORDINATOR)
            fleet.wait("coordinator", lambda: fleet.heard("broker.connected"))
            for agent, path in fleet.layout.agents.items():
                done = fleet.enrol(path, fleet.code(agent))
                assert done.returncode == 0, done.stderr
            fleet.start(*fleet.agents)
            made.goes_on(fleet.agents)
            assert proxy.counts["connected"] >= 1
            yield made


class TestUpdate:
    def test_one_block_that_was_changed(self, owned: Owned) -> None:
        """It does not fit the signed digest: refused, logged, and the true one counts after it."""
        fleet, before = owned.fleet, owned.newest()
        with owned.changing("up", 1):
            fleet.wait(
                "it is noticed", lambda: fleet.heard("block.refused", agent=owned.victim, times=1)
            )
            owned.goes_on(fleet.agents, before)
        [event] = fleet.events(COORDINATOR, "block.refused")
        assert "arrived damaged" in event["error"]
        assert fleet.events(owned.victim, "update.refused") == []

    def test_bytes_that_fit_no_checksum(self, owned: Owned) -> None:
        """The block is none: dropped and logged with its topic, and asked for again."""
        fleet, before = owned.fleet, owned.newest()
        topic = f"fedmill/v1/{owned.victim}/up/block"
        with owned.changing("up", 1, fitting=False):
            fleet.wait("it is noticed", lambda: fleet.heard("message.refused", topic=topic))
        [event] = fleet.events(COORDINATOR, "message.refused", topic=topic)
        assert "checksum differs" in event["error"]
        owned.goes_on(fleet.agents, before)

    def test_every_block_is_changed(self, owned: Owned) -> None:
        """The update is refused with its reason on both sides; rounds close without it.

        Once nobody changes the blocks, the agent's updates count again.
        """
        fleet = owned.fleet
        wanted = {"agent": owned.victim, "reason": "update:damaged"}
        before = owned.newest()
        with owned.changing("up"):
            fleet.wait("it is refused", lambda: fleet.heard("agent.refused", **wanted))
            owned.goes_on([owned.honest], before)
            fleet.wait(
                "the agent knows",
                lambda: bool(fleet.events(owned.victim, "update.refused", code="damaged")),
            )
        assert "arrived damaged" in fleet.events(COORDINATOR, "agent.refused", **wanted)[0]["text"]
        assert fleet.events(COORDINATOR, "block.refused", agent=owned.victim)
        refusals = fleet.store.refusals(fleet.job.name)
        assert any(each.reason == "update:damaged" for each in refusals)
        owned.goes_on(fleet.agents, owned.newest())
        told = fleet.run("fedmill_coordinator", "rounds", "verify", fleet.layout.coordinator)
        assert told.returncode == 0, told.stderr


class TestModel:
    def test_every_block_is_changed(self, owned: Owned) -> None:
        """The agent refuses and logs each, asks again, and scores on with the model it has.

        Rounds go on without it; once nobody changes the blocks, it follows again.
        """
        fleet, victim = owned.fleet, owned.victim

        def refused() -> int:
            return len(fleet.events(victim, "block.refused"))

        def served() -> list[str]:
            return [each["version"] for each in fleet.events(victim, "version.installed")]

        with owned.changing("down"):
            fleet.wait("it is noticed", lambda: refused() >= 1)
            owned.goes_on([owned.honest], owned.newest())
            versions, noticed, scored = served(), refused(), owned.scored()
            fleet.wait("it is noticed again", lambda: refused() > noticed)
            fleet.wait("it scores on", lambda: owned.scored() > scored)
            assert served() == versions
            assert "arrived damaged" in fleet.events(victim, "block.refused")[-1]["error"]
        fleet.wait("it follows", lambda: len(served()) > len(versions))
        owned.goes_on(fleet.agents, owned.newest())

    def test_bytes_that_fit_no_checksum(self, owned: Owned) -> None:
        """The block is none: dropped, logged and asked for again; the version comes."""
        fleet, victim = owned.fleet, owned.victim

        def noticed() -> bool:
            found = fleet.events(victim, "message.refused")
            return any("checksum differs" in each["error"] for each in found)

        before = owned.newest()
        with owned.changing("down", 1, fitting=False):
            fleet.wait("it is noticed", noticed)
        owned.goes_on(fleet.agents, before)
