# SPDX-License-Identifier: Apache-2.0
"""A whole agent on a real broker that goes away and comes back. Mosquitto is required."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import Journal
from tests.agent.sources.live.stands.mosquitto import Mosquitto
from tests.waiting import eventually

from fedmill_agent.config import AgentConfig, AgentSection, BrokerSection
from fedmill_agent.inference.options import InferenceSection, SparkplugSection
from fedmill_agent.line import Line
from fedmill_agent.publishing import stream
from fedmill_agent.publishing.node import Shown, SparkplugNode
from fedmill_agent.publishing.opening import open_outlet, tellers
from fedmill_agent.publishing.outlet import Outlet
from fedmill_agent.publishing.publisher import Publisher
from fedmill_agent.sources.sparkplug import payload
from fedmill_agent.sources.sparkplug.payload import Metric
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import SystemClock
from fedmill_shared.job import Job, Labels, Signal, Task, Window
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = pytest.mark.system
PROBE = "probe"


def job(name: str) -> Job:
    """A job with two classes."""
    return Job(
        job=Task(name=name),
        signals=[Signal(name="heat")],
        window=Window(length=4),
        labels=Labels(classes=["good", "burnt"]),
    )


def said(n: int, **fields: Any) -> Prediction:
    """What a model says of window ``n``."""
    outputs = np.array([0, 1], np.float32)
    now = SystemClock().now_ns()
    return Prediction("r", n * 10**9, "ab" * 32, outputs, now, "oven-1", number=3, **fields)


class Listener:
    """Another system of the plant."""

    def __init__(self, port: int, *topics: str) -> None:
        self.events: SimpleQueue[LinkEvent] = SimpleQueue()
        self.heard: list[Message] = []
        endpoint = Endpoint(
            host="127.0.0.1", port=port, client_id="scada", subscriptions=[PROBE, *topics]
        )
        self.link = MqttLink(endpoint, self.events.put, jitter=lambda _: 0.05)
        self.link.start()
        self.ready()

    def look(self) -> list[Message]:
        """All that was heard so far, but for probes."""
        while not self.events.empty():
            event = self.events.get()
            if isinstance(event, Message):
                self.heard.append(event)
        return [each for each in self.heard if each.topic != PROBE]

    def ready(self) -> None:
        """Returns when the broker passes on what it is sent."""
        before = len(self.heard) - len(self.look())

        def passed() -> bool:
            self.link.publish(PROBE, b"")
            return len(self.look()) < len(self.heard) - before

        eventually(passed)

    def say(self, topic: str, body: bytes) -> None:
        """Publish."""
        self.link.publish(topic, body)


class Gateway:
    """An agent's line and one job's store."""

    def __init__(self, folder: Path, port: int) -> None:
        config = AgentConfig(agent=AgentSection(id="gw-1"), broker=BrokerSection(port=port))
        self.events: SimpleQueue[Any] = SimpleQueue()
        self.newest: Prediction | None = None
        self.links: list[MqttLink] = []
        self.journal = Journal()

        def connect(sink: Callable[[LinkEvent], None], _will: Message) -> MqttLink:
            endpoint = Endpoint(host="127.0.0.1", port=port, client_id="gw-1", subscriptions=[])
            self.links.append(MqttLink(endpoint, sink, jitter=lambda _: 0.05))
            return self.links[0]

        self.line = Line(config, connect, self.events.put, self.journal, SystemClock())
        self.store = WindowStore(
            folder / "w.sqlite", clock=SystemClock(), max_bytes=1 << 24, max_age_seconds=1e9
        )
        self.outlet = Outlet(self.line, self.events.put)
        options = InferenceSection(publish="all")
        self.publisher = Publisher(
            "gw-1", job("oven"), self.store, self.outlet, options,
            newest=lambda: self.newest, clock=SystemClock(), log=self.journal,
        )  # fmt: skip
        self.line.start()

    def predict(self, first: int, last: int) -> None:
        """The model says something."""
        self.newest = said(last - 1)
        self.store.add_predictions([said(n) for n in range(first, last)])

    def turn(self) -> None:
        """What the daemon's loop does."""
        while not self.events.empty():
            event = self.events.get()
            if isinstance(event, Connected | Disconnected):
                self.line.turn(event)
            elif callable(event):
                event()
        self.outlet.pump()

    def told(self) -> int | None:
        """Up to which prediction the broker has them all, as the store knows it."""
        self.turn()
        self.publisher.tick()
        return self.store.publication("predictions")[0]

    def close(self) -> None:
        """Hang up."""
        self.links[0].stop()
        self.store.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that can be stopped and started."""
    made = Mosquitto(tmp_path / "broker")
    made.start()
    yield made
    made.stop()


class TestPublisher:
    def test_a_broker_that_was_away_gets_all_of_it_in_order(
        self, broker: Mosquitto, tmp_path: Path
    ) -> None:
        """Those from before, those from meanwhile, and those from afterwards."""
        gateway = Gateway(tmp_path, broker.port)
        listener = Listener(broker.port, "fedmill/v1/gw-1/out/#")
        try:
            gateway.predict(0, 30)
            eventually(lambda: gateway.told() == 30)
            eventually(lambda: len(listener.look()) == 30)
            broker.stop()
            eventually(lambda: gateway.told() is not None and not gateway.line.connected)
            gateway.predict(30, 150)
            gateway.turn()
            assert gateway.links[0].backlog == 0
            broker.start()
            listener.ready()
            gateway.predict(150, 160)
            eventually(lambda: gateway.told() == 160)
            eventually(lambda: len(listener.look()) == 160)
            heard = listener.look()
            assert {each.topic for each in heard} == {"fedmill/v1/gw-1/out/prediction/oven"}
            told = [json.loads(each.payload) for each in heard]
            assert [each["time_ns"] for each in told] == [n * 10**9 for n in range(160)]
            assert len({each["id"] for each in told}) == 160
        finally:
            gateway.close()
            listener.link.stop()


class Guarded:
    """A broker whose ACL an operator corrects while it runs."""

    def __init__(self, folder: Path, *rules: str) -> None:
        self._rules = folder / "acl"
        self.allow(*rules)
        lines = ("allow_anonymous true", f"acl_file {self._rules}")
        self.broker = Mosquitto(folder / "guarded", *lines)
        self.broker.start()

    def allow(self, *rules: str) -> None:
        """Write it anew."""
        self._rules.write_text("".join(f"topic {rule}\n" for rule in rules))

    def reread(self) -> None:
        """As ``systemctl reload mosquitto`` does."""
        assert self.broker._child is not None
        self.broker._child.send_signal(signal.SIGHUP)


class TestRefusedByTheBroker:
    RULES = (f"readwrite {PROBE}", "read #", "write fedmill/v1/gw-1/out/alarm/#")

    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[Guarded]:
        """Alarms may be published, predictions may not."""
        made = Guarded(tmp_path, *self.RULES)
        yield made
        made.broker.stop()

    def test_predictions_wait_until_the_acl_is_corrected(
        self, guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is said once; alarms go on; then all of them come in order, each once."""
        monkeypatch.setattr(stream, "REFUSED_SECONDS", 0.2)
        gateway = Gateway(tmp_path, guarded.broker.port)
        listener = Listener(guarded.broker.port, "fedmill/v1/gw-1/out/#")
        try:
            gateway.predict(0, 30)
            eventually(lambda: gateway.told() == 0 and gateway.journal.of("publication.refused"))
            gateway.store.add_alarm("hot", "raised", 7, "{}")
            eventually(lambda: gateway.told() == 0 and len(listener.look()) == 1)
            assert listener.look()[0].topic == "fedmill/v1/gw-1/out/alarm/oven"
            eventually(lambda: gateway.links[0].backlog == 0)
            assert gateway.told() == 0
            guarded.allow(*self.RULES, "write fedmill/v1/gw-1/out/#")
            guarded.reread()
            eventually(lambda: gateway.told() == 30)
            eventually(lambda: len(listener.look()) == 31)
            told = [json.loads(each.payload)["time_ns"] for each in listener.look()[1:]]
            assert told == [n * 10**9 for n in range(30)]
            [line] = gateway.journal.of("publication.refused")
            topic = "fedmill/v1/gw-1/out/prediction/oven"
            assert (line["topic"], line["reason"]) == (topic, "Not authorized")
            assert (
                f"check the broker's ACL: gw-1 must be allowed to publish to {topic}"
                in (line["remedy"])
            )
            assert len(gateway.journal.of("publication.resumed")) == 1
        finally:
            gateway.close()
            listener.link.stop()


class Host:
    """A host application that keeps what nodes of a group say, as the specification has it."""

    def __init__(self, port: int) -> None:
        self.listener = Listener(port, "spBv1.0/plant/#")

    def messages(self) -> list[tuple[str, payload.Payload]]:
        """Kind and payload of each message."""
        return [
            (each.topic.split("/")[2], payload.decode(each.payload))
            for each in self.listener.look()
            if each.topic.endswith("/gateway") and "/NCMD/" not in each.topic
        ]

    def births(self) -> list[payload.Payload]:
        """NBIRTHs so far."""
        return [told for kind, told in self.messages() if kind == "NBIRTH"]

    def values(self) -> dict[str, Any]:
        """The newest of each metric; None where it is null."""
        found: dict[str, Any] = {}
        for kind, told in self.messages():
            if kind == "NBIRTH":
                found = {}
            if kind in ("NBIRTH", "NDATA"):
                found |= {each.name: _value(each) for each in told.metrics}
        return found


def _value(metric: Metric) -> Any:
    return None if metric.null else metric.value()


def _born(birth: payload.Payload) -> Any:
    """The number of a birth."""
    [number] = [_value(each) for each in birth.metrics if each.name == payload.BD_SEQ]
    return number


class TestSparkplug:
    @pytest.fixture
    def host(self, broker: Mosquitto) -> Iterator[Host]:
        """It listens before the node is born."""
        made = Host(broker.port)
        yield made
        made.listener.link.stop()

    @pytest.fixture
    def node(self, broker: Mosquitto) -> Iterator[SparkplugNode]:
        """A node that is not started yet."""
        made = SparkplugNode(
            "gw-1",
            BrokerSection(port=broker.port),
            SparkplugSection(group="plant", node="gateway"),
            clock=SystemClock(),
            log=Journal(),
            jitter=lambda _: 0.05,
        )
        yield made
        made.stop()
        made.join(20.0)

    def test_the_newest_prediction(self, host: Host, node: SparkplugNode) -> None:
        """Born with all metrics, null before the first; then what changes, numbered."""
        node.show(job("oven"), None)
        node.start()
        eventually(lambda: len(host.births()) == 1)
        assert host.values()["oven/class"] is None
        names = set(host.values())
        node.show(job("oven"), said(7, confidence=0.75, plausible=("burnt",), good_share=0.5))
        eventually(lambda: host.values()["oven/class"] == "burnt")
        values = host.values()
        assert set(values) == names
        assert (values["oven/confidence"], values["oven/good_share"]) == (0.75, 0.5)
        assert (values["oven/plausible"], values["oven/unit"]) == ('["burnt"]', "oven-1")
        assert (values["oven/version"], values["oven/number"]) == ("ab" * 32, 3)
        assert [told.seq for kind, told in host.messages() if kind != "NDEATH"] == [0, 1]
        [data] = [told for kind, told in host.messages() if kind == "NDATA"]
        assert {each.time_ms for each in data.metrics} == {7000}

    def test_a_host_may_ask_for_the_birth(self, host: Host, node: SparkplugNode) -> None:
        """It comes with the present values; what is no command is passed over."""
        node.show(job("oven"), said(1))
        node.start()
        eventually(lambda: len(host.births()) == 1)
        host.listener.say("spBv1.0/plant/NCMD/gateway", b"\xff nonsense")
        host.listener.say("spBv1.0/plant/NCMD/gateway", payload.rebirth_request(1))
        eventually(lambda: len(host.births()) == 2)
        assert host.births()[1].seq == 0
        assert host.values()["oven/class"] == "burnt"

    def test_jobs_come_and_go(self, host: Host, node: SparkplugNode) -> None:
        """Each time the node is born again, with the metrics that there are."""
        outlet = Outlet(Gone(), lambda call: call(), node)
        newest: list[Prediction] = []
        shown = Shown(job("oven"), node, outlet, lambda: newest[-1] if newest else None)
        outlet.start()
        eventually(lambda: len(host.births()) == 1)
        Shown(job("press"), node, outlet, lambda: None)
        newest.append(said(4))
        outlet.pump()
        eventually(lambda: {"oven/class", "press/class"} <= set(host.values()))
        eventually(lambda: host.values()["oven/class"] == "burnt")
        shown.close()
        eventually(lambda: "oven/class" not in host.values())
        assert outlet.share == 8

    def test_a_job_that_predicts_something_else_now(self, host: Host, node: SparkplugNode) -> None:
        """It goes and comes between two messages: its other metrics are announced first."""
        node.show(job("oven"), said(1))
        node.start()
        eventually(lambda: len(host.births()) == 1)
        node.hide("oven")
        node.show(structs.replace(job("oven"), job=Task(name="oven", task="regression")), None)
        eventually(lambda: len(host.messages()) > 1)
        assert [kind for kind, _ in host.messages()] == ["NBIRTH", "NBIRTH"]
        assert {"oven/value", "oven/low", "oven/high"} <= set(host.values())

    def test_it_comes_back_with_the_broker(
        self, broker: Mosquitto, host: Host, node: SparkplugNode
    ) -> None:
        """Another session, with another number of births, and what is newest by then.

        The node may be back before the host is, so the host asks for the birth, as hosts do.
        """
        node.show(job("oven"), said(1))
        node.start()
        eventually(lambda: len(host.births()) == 1)
        broker.stop()
        node.show(job("oven"), said(2, confidence=0.5))
        broker.start()
        host.listener.ready()

        def born_again() -> bool:
            host.listener.say("spBv1.0/plant/NCMD/gateway", payload.rebirth_request(1))
            return len(host.births()) > 1

        eventually(born_again)
        assert host.values()["oven/confidence"] == 0.5
        assert _born(host.births()[-1]) > _born(host.births()[0])

    def test_as_the_configuration_wants_it(
        self, broker: Mosquitto, host: Host, tmp_path: Path
    ) -> None:
        """The node alone, if nothing is to be published; it goes with the agent."""
        section = SparkplugSection(group="plant", node="gateway")
        config = AgentConfig(
            agent=AgentSection(id="gw-2"),
            broker=BrokerSection(port=broker.port),
            inference=InferenceSection(sparkplug=section),
        )
        clock, log, newest = SystemClock(), Journal(), said(5)
        store = WindowStore(tmp_path / "w", clock=clock, max_bytes=1 << 24, max_age_seconds=1e9)
        outlet = open_outlet(config, Gone(), lambda call: call(), clock, log)
        [shown] = tellers(config, job("oven"), store, outlet, lambda: newest, clock=clock, log=log)
        outlet.start()
        outlet.pump()
        eventually(lambda: host.values().get("oven/class") == "burnt")
        assert log.of("sparkplug.connected") == [{"group": "plant", "node": "gateway"}]
        shown.close()
        outlet.close()
        eventually(lambda: host.messages()[-1][0] == "NDEATH")
        store.close()

    def test_a_farewell_is_a_death(self, host: Host, node: SparkplugNode) -> None:
        """With the number of the birth that it ends."""
        node.show(job("oven"), None)
        node.start()
        eventually(lambda: len(host.births()) == 1)
        node.stop()
        node.join(20.0)
        eventually(lambda: host.messages()[-1][0] == "NDEATH")
        deaths = [_value(each) for each in host.messages()[-1][1].metrics]
        assert deaths == [_born(host.births()[0])] == [0]


class Gone:
    """A line without a broker."""

    connected = False
    crowded = False
