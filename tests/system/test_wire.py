# SPDX-License-Identifier: Apache-2.0
"""The bytes that the coordinator counts for each agent are those on the agent's connection."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest
from msgspec import structs
from tests.faults.federation import a_quiet_plant
from tests.faults.proxy import PUBACK, PUBLISH, Direction, Proxy
from tests.system.fleet import COORDINATOR, POLL_SECONDS, Fleet, a_job

from fedmill_coordinator.demo.broker import broker
from fedmill_coordinator.demo.recipes.plan import Plan
from fedmill_shared.job import Job, Mlp
from fedmill_shared.link.base import Connected, Message
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.link.packet import PUBACK_BYTES, publish_bytes

pytestmark = pytest.mark.system
PATIENCE = 20.0
MESSAGES = (PUBLISH, PUBACK)
DIRECTIONS: tuple[Direction, ...] = ("up", "down")


@dataclass(frozen=True)
class Watched:
    """A federation in which each agent has a connection of its own that counts its bytes."""

    fleet: Fleet
    proxies: dict[str, Proxy]

    def carried(self, agent: str) -> dict[Direction, int]:
        """Bytes of an agent's messages and their acknowledgements."""
        carried = self.proxies[agent].carried
        return {way: sum(carried[way, kind] for kind in MESSAGES) for way in DIRECTIONS}

    def whole(self, agent: str) -> int:
        """Bytes of all packets of an agent, both ways."""
        return self.proxies[agent].carried.total()

    def counted(self, agent: str) -> dict[Direction, int]:
        """What the coordinator has counted for an agent."""
        up, down = self.fleet.store.traffic_by_agent(self.fleet.job.name)[agent]
        return {"up": up, "down": down}


@pytest.fixture
def watch(tmp_path: Path) -> Iterator["Watch"]:
    """Start such federations; none is left behind."""
    with ExitStack() as stack:
        yield Watch(tmp_path / "fleet", stack)


class Watch:
    """Starts a federation of two agents behind proxies."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def __call__(self, job: Job) -> Watched:
        """The coordinator runs first, so that it has announced the job when the agents come."""
        plan = Plan(job, [a_quiet_plant(number) for number in (1, 2)])
        fleet = self._stack.enter_context(Fleet(self._folder, plan))
        fleet.start_broker()
        proxies = {}
        for agent, path in fleet.layout.agents.items():
            chance = random.Random(agent)
            proxies[agent] = self._stack.enter_context(Proxy(fleet.port, chance))
            text = path.read_text()
            path.write_text(text.replace(f"port = {fleet.port}", f"port = {proxies[agent].port}"))
        fleet.start(COORDINATOR)
        fleet.wait("coordinator", lambda: fleet.heard("broker.connected"))
        fleet.start(*fleet.agents)
        return Watched(fleet, proxies)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A federation that has run its job, and whose processes have ended in order."""
    with ExitStack() as stack:
        watched = Watch(tmp_path_factory.mktemp("wire") / "fleet", stack)(a_job())
        end(watched)
        yield watched


def end(watched: Watched) -> None:
    """Let the job end, and everybody with it: the coordinator hears the last words of agents."""
    watched.fleet.finish()
    for name in (*watched.fleet.agents, COORDINATOR):
        assert watched.fleet.end(name) == 0


def a_large_job(**federation: object) -> Job:
    """A model of some 150,000 parameters: what agents say of themselves does not weigh."""
    return structs.replace(a_job(**federation), model=Mlp(hidden=[512, 64]))


class TestAccounting:
    """Against what went over the sockets."""

    def test_agrees_with_the_sockets(self, watch: Watch) -> None:
        """Each agent, each way, within 0.5 %; with what carries no message still within 1 %."""
        watched = watch(a_large_job())
        end(watched)
        for agent in watched.fleet.agents:
            counted, carried = watched.counted(agent), watched.carried(agent)
            assert min(carried.values()) > 250_000
            assert counted == pytest.approx(carried, rel=0.005)
            assert sum(counted.values()) == pytest.approx(watched.whole(agent), rel=0.01)

    def test_only_states_without_a_job_are_missing(self, ended: Watched) -> None:
        """Byte by byte but for the first and the last words of an agent, before and after it."""
        for agent in ended.fleet.agents:
            counted, carried = ended.counted(agent), ended.carried(agent)
            missing = carried["up"] - counted["up"]
            answers = carried["down"] - counted["down"]
            assert answers % PUBACK_BYTES == 0
            states = answers // PUBACK_BYTES
            assert 1 <= states <= 4
            assert 100 * states < missing < 800 * states

    def test_rounds_add_up_to_the_job(self, ended: Watched) -> None:
        """Round by round and agent by agent, with what came after the last one."""
        store, job = ended.fleet.store, ended.fleet.job.name
        rounds = ended.fleet.rounds()
        assert [record.round for record in rounds] == [1, 2, 3, 4, 5]
        for record in rounds:
            told = store.traffic(job, record.round)
            assert [each.agent for each in told] == ended.fleet.agents
            assert record.uplink_bytes == sum(each.uplink_bytes for each in told)
            assert record.downlink_bytes == sum(each.downlink_bytes for each in told)
            assert record.published_bytes < record.downlink_bytes < 3 * record.published_bytes
        after = store.traffic(job, 6)
        assert min(each.downlink_bytes for each in after) > 0
        whole = sum(sum(ended.counted(agent).values()) for agent in ended.fleet.agents)
        assert whole == sum(r.uplink_bytes + r.downlink_bytes for r in rounds) + sum(
            each.uplink_bytes + each.downlink_bytes for each in after
        )

    def test_an_agent_that_was_away(self, watch: Watch) -> None:
        """On coming back it gets what its broker has kept, and that counts for it."""
        watched = watch(a_large_job(rounds=12, minimum=1, deadline_seconds=5.0))
        fleet, [stays, leaves] = watched.fleet, watched.fleet.agents
        fleet.wait("two rounds", lambda: fleet.closed() >= 2)
        assert fleet.end(leaves) == 0
        before = watched.carried(leaves)["down"]
        reached = fleet.closed()
        fleet.wait("four more rounds", lambda: fleet.closed() >= reached + 4)
        assert watched.carried(leaves)["down"] == before
        fleet.start(leaves)
        end(watched)
        assert watched.carried(leaves)["down"] > before
        for agent in (stays, leaves):
            assert watched.counted(agent) == pytest.approx(watched.carried(agent), rel=0.02)

    def test_messages_that_come_twice(self, watch: Watch) -> None:
        """The network doubles what an agent sends: its connection carried it twice."""
        watched = watch(a_large_job())
        first, second = watched.fleet.agents
        watched.proxies[first].duplicate(1.0, "up")
        end(watched)
        assert watched.proxies[first].counts["duplicated"] > 5
        ups = {agent: watched.counted(agent)["up"] for agent in (first, second)}
        assert ups[first] > 1.5 * ups[second]
        for agent in (first, second):
            assert ups[agent] == pytest.approx(watched.carried(agent)["up"], rel=0.01)


class TestPacket:
    """One message over a real broker."""

    @pytest.mark.parametrize("size", [1, 100, 5000, 131_128])
    def test_is_as_long_as_we_say(self, tmp_path: Path, size: int) -> None:
        """Published by one client and delivered to another, byte by byte, with what answers it."""
        topic, heard = "fedmill/v1/press-1/up/block", SimpleQueue[object]()
        with broker(tmp_path / "broker") as port, Proxy(port) as up, Proxy(port) as down:
            says = MqttLink(endpoint("says", up.port), heard.put)
            says.start()
            assert isinstance(heard.get(timeout=PATIENCE), Connected)
            says.publish(topic, bytes(size), retain=True)
            until(lambda: not says.backlog)
            says.stop()
            hears = MqttLink(endpoint("hears", down.port, topic), heard.put)
            hears.start()
            while heard.get(timeout=PATIENCE) != Message(topic, bytes(size), retained=True):
                pass
            until(lambda: down.carried["up", PUBACK] > 0)
            hears.stop()
        expected = publish_bytes(topic, size)
        assert (up.carried["up", PUBLISH], down.carried["down", PUBLISH]) == (expected, expected)
        assert down.carried["up", PUBACK] == PUBACK_BYTES
        reason = 1  # this broker says that nobody listens yet, where it could say nothing
        assert up.carried["down", PUBACK] == PUBACK_BYTES + reason


def until(done: Callable[[], bool]) -> None:
    """Wait for something that does not take long."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


def endpoint(name: str, port: int, *topics: str) -> Endpoint:
    """A client of the broker behind ``port``."""
    return Endpoint(host="127.0.0.1", port=port, client_id=name, subscriptions=topics)
