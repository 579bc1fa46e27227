# SPDX-License-Identifier: Apache-2.0
"""Sparkplug over a real broker, with an edge node that lives, dies and comes back."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.agent.kit import Journal
from tests.agent.sources.live.sessions import started, until
from tests.agent.sources.live.stands.mosquitto import with_password
from tests.agent.sources.live.stands.sparkplug import (
    DOUBLE,
    GROUP,
    INT32,
    NODE,
    STRING,
    Stand,
    now_ms,
)
from tests.waiting import PATIENCE, eventually

from fedmill_agent.config import StoreSection
from fedmill_agent.places import samples_file
from fedmill_agent.sources.base import Samples
from fedmill_agent.sources.hub import Hub
from fedmill_agent.sources.live import BAD, GOOD, STALE, Readings
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.sources.sparkplug import KIND
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_agent.sources.sparkplug.session import SparkplugSession as Session
from fedmill_agent.sources.wanted import Wanted
from fedmill_agent.store.samples import recording
from fedmill_agent.store.samples_reader import SampleReader
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, SourceError
from fedmill_shared.link.plant import PlantBroker, PlantLink

pytestmark = pytest.mark.system
TEMPERATURE, SPEED = Stand.tags
FLOAT_ARRAY = 30


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Broker and node, running."""
    with started(Stand(tmp_path)) as made:
        yield made


def has(tag: str, value: float) -> Callable[[Sequence[Readings]], bool]:
    """Whether a tag had a good value."""
    return lambda them: any(
        each.tag == tag and value in each.values[each.quality == GOOD] for each in them
    )


def settled(session: Session) -> None:
    """Return once the births that a session asks for at its beginning have come."""
    until(session, lambda _: not session.problems)


class TestReading:
    def test_births_at_the_beginning_then_data(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """What was said before comes with the birth that the session asks for."""
        stand.say(TEMPERATURE, 20.0)
        session = opened(stand.options(), *stand.tags)
        until(session, has(TEMPERATURE, 20.0))
        stand.say(SPEED, 1500.0)
        until(session, has(SPEED, 1500.0))
        assert session.problems == {}
        assert session.requests == 1
        assert stand.node.births == 2

    def test_qualities_types_and_garbage(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """As the node says them; nothing ends the session."""
        session = opened(stand.options(), *stand.tags)
        settled(session)
        stand.say(TEMPERATURE, 1.0)
        stand.say_bad(TEMPERATURE)
        stand.say_stale(TEMPERATURE)
        stand.say_text(TEMPERATURE, "off")
        stand.garbage()
        stand.say(TEMPERATURE, float("nan"))
        stand.say(TEMPERATURE, 2.0)
        heard = until(session, has(TEMPERATURE, 2.0))
        assert [int(q) for each in heard for q in each.quality] == [
            GOOD,
            BAD,
            STALE,
            BAD,
            BAD,
            GOOD,
        ]
        assert session.counts["garbage"] == 1
        assert session.counts["type"] == 1

    @pytest.mark.parametrize("version", ["5", "3.1.1"])
    def test_waveforms(self, stand: Stand, opened: Callable[..., Session], version: str) -> None:
        """Blocks of an array, without gaps."""
        stand.node.set("", "Vibration", FLOAT_ARRAY, b"")
        tag = f"{GROUP}/{NODE}:Vibration"
        options = stand.options(tags={"v": tag}, rates={"v": 10_000.0}, version=version)
        session = opened(options, tag)
        until(session, lambda _: stand.node.births >= 2)
        begin = now_ms()
        for number in range(5):
            block = np.full(1000, number, "<f4").tobytes()
            stand.node.say("", "Vibration", FLOAT_ARRAY, block, timestamp=begin + 100 * number)
        blocks = until(session, lambda them: len(them) == 5)
        times = [t for block in blocks for t in block.times_ns.tolist()]
        assert {b - a for a, b in pairwise(times)} == {100_000}
        assert [float(block.values[0]) for block in blocks] == [0, 1, 2, 3, 4]

    def test_missing_metric(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """Told; the others come."""
        session = opened(stand.options(), TEMPERATURE, f"{GROUP}/{NODE}:Nothing", "g/other:x")
        stand.say(TEMPERATURE, 3.0)
        until(session, has(TEMPERATURE, 3.0))
        assert "born without a metric 'Nothing'" in session.problems[f"{GROUP}/{NODE}:Nothing"]
        assert "no birth certificate of g/other" in session.problems["g/other:x"]


class TestLifeAndDeath:
    @pytest.mark.parametrize("politely", [True, False])
    def test_of_the_node(
        self, stand: Stand, opened: Callable[..., Session], *, politely: bool
    ) -> None:
        """By its will or by its own word: all is stale; and good again with a new life."""
        session = opened(stand.options(), *stand.tags)
        stand.say(TEMPERATURE, 1.0)
        until(session, has(TEMPERATURE, 1.0))
        stand.power_off(politely=politely)
        stale = dict.fromkeys(stand.tags, STALE)
        until(session, lambda them: {each.tag: int(each.quality[-1]) for each in them} == stale)
        assert "is dead" in session.problems[SPEED]
        stand.power_on(aliases=7)
        stand.say(TEMPERATURE, 2.0)
        stand.say(SPEED, 3.0)
        until(session, has(SPEED, 3.0))
        assert session.problems == {}

    def test_of_the_device(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """The node's own values live on."""
        session = opened(stand.options(), *stand.tags)
        settled(session)
        stand.node.device_death("drive")
        (gone,) = until(session, lambda them: len(them) == 1)
        assert (gone.tag, gone.quality[0]) == (SPEED, STALE)
        stand.say(TEMPERATURE, 4.0)
        until(session, has(TEMPERATURE, 4.0))
        stand.node.device_birth("drive")
        stand.say(SPEED, 5.0)
        until(session, has(SPEED, 5.0))

    def test_aliases_and_types_change_with_a_birth(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """The same numbers then mean other metrics."""
        session = opened(stand.options(), *stand.tags)
        settled(session)
        node = stand.node
        node.metrics.clear()
        node.set("", "Other", DOUBLE, 9.0)
        node.set("", "Oven/Temperature", INT32, 30)
        node.set("drive", "Speed", STRING, "1500")
        node.birth()
        node.say("", "Other", DOUBLE, 99.0)
        node.say("", "Oven/Temperature", INT32, 2**32 - 5)
        heard = until(session, has(TEMPERATURE, -5.0))
        good = [float(v) for each in heard for v in each.values[each.quality == GOOD]]
        assert sorted(good) == [-5.0, 30.0, 1500.0]

    def test_lost_messages_call_for_a_birth(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """Counted; asked for, and not more often than allowed."""
        session = opened(stand.options(), *stand.tags)
        settled(session)
        begun = time.monotonic()
        births = stand.node.births
        for number in range(10):
            stand.node.send("", [{"alias": 100, "double_value": float(number)}], skip=2)
            session.read(0.01)
        until(session, lambda _: stand.node.births > births)
        assert session.counts["gap"] >= 1
        assert session.requests <= 2 + (time.monotonic() - begun) / 1.0

    def test_who_may_write_nothing(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """No birth is asked for; data before one are counted, and one that comes is understood."""
        session = opened(stand.options(rebirth=False), *stand.tags)
        stand.say(TEMPERATURE, 1.0)
        until(session, lambda _: session.counts["unborn"] >= 1)
        assert "no birth certificate" in session.problems[TEMPERATURE]
        assert stand.node.births == 1
        stand.node.birth()
        stand.say(TEMPERATURE, 2.0)
        until(session, has(TEMPERATURE, 2.0))
        assert session.requests == 0

    def test_births_that_the_broker_keeps(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """On a broker that is aware of Sparkplug a silent listener understands data at once."""
        births, kept = list[tuple[str, bytes]](), "$sparkplug/certificates"
        keeper = PlantLink(PlantBroker(host="127.0.0.1", port=stand.broker.port, client_id=""))
        try:
            kinds = [f"spBv1.0/{GROUP}/NBIRTH/+", f"spBv1.0/{GROUP}/DBIRTH/+/+"]
            keeper.open([*kinds, *(f"{kept}/{each}" for each in kinds)])
            stand.node.birth()
            while len(births) < 2:
                births += [(each.topic, each.payload) for each in keeper.read(0.5)]
            for topic, body in births:
                keeper.publish(f"{kept}/{topic}", body, qos=1, retain=True)
            back: list[str] = []
            while len(back) < 2:  # then the broker has them
                back += [each.topic for each in keeper.read(0.5)]
            assert all(each.startswith(kept) for each in back)
            session = opened(stand.options(rebirth=False), *stand.tags)
            stand.say(TEMPERATURE, 1.0)
            until(session, has(TEMPERATURE, 1.0))
            assert session.counts["unborn"] == 0
        finally:
            keeper.close()


class TestHistory:
    """Store and forward: the node kept what nobody heard, and tells it afterwards."""

    def test_the_present_goes_on_and_the_past_is_recorded(
        self, stand: Stand, tmp_path: Path
    ) -> None:
        """Two hours old, told among live values: one run, nothing late, all of it in the ring."""
        clock, state = SystemClock(), str(tmp_path / "state")
        hub = Hub(
            [stand.options(tags={"x": TEMPERATURE}, silence_seconds=0.0)],
            clock=clock,
            log=Journal(),
            failed=pytest.fail,
            recording=lambda source: recording(StoreSection(), state, source, clock),
        )
        live: list[object] = []

        def sink(told: SourceEvent) -> bool:
            live.append(told.event)
            return True

        def alive(value: float) -> bool:
            return any(value in each.values[0] for each in live if isinstance(each, Samples))

        try:
            hub.subscribe(1, "line", Wanted([TEMPERATURE], 1000.0, [1], [False]), sink)
            hub.start()
            eventually(lambda: stand.node.births == 2)
            alias = stand.node.metrics["", "Oven/Temperature"]["alias"]
            begin = now_ms() - 7_200_000
            for n in range(40):
                past = {"alias": alias, "timestamp": begin + n, "double_value": -1.0 - n}
                stand.node.send("", [past | {"is_historical": True}])
                stand.say(TEMPERATURE, float(n))
            eventually(lambda: alive(39.0))
            assert not any(alive(-1.0 - n) for n in range(40))
            assert {type(each) for each in live} == {Samples}
            assert hub.standings()["line"].dropped == {}
        finally:
            hub.close(PATIENCE)
        with SampleReader(samples_file(state, "line")) as reader:
            values = [value for each in reader.read() for value in each.values.tolist()]
        assert values[:40] == [-1.0 - n for n in range(40)]
        assert set(range(40)) <= set(values[40:])


class TestPrimaryHost:
    def test_says_that_it_is_there_and_that_it_is_not(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """Retained; insists when somebody says otherwise; says goodbye, or its will does."""
        topic = "spBv1.0/STATE/fedmill"
        watcher = PlantLink(PlantBroker(host="127.0.0.1", port=stand.broker.port, client_id=""))
        told: list[bool] = []

        def hear(*last: bool, session: Session | None = None) -> bool:
            """Whether the last that was told comes to be so."""
            deadline = time.monotonic() + PATIENCE
            while tuple(told[-len(last) :]) != last and time.monotonic() < deadline:
                if session is not None:
                    session.read(0.05)
                told.extend(json.loads(each.payload)["online"] for each in watcher.read(0.05))
            return tuple(told[-len(last) :]) == last

        try:
            watcher.open([topic])
            session = opened(stand.options(host_id="fedmill"), *stand.tags)
            assert hear(True, session=session)
            watcher.publish(topic, b'{"online": false, "timestamp": 1}', qos=1)
            assert hear(True, False, True, session=session)
            session.close()
            assert hear(False)
            broken = opened(stand.options(host_id="fedmill"), *stand.tags)
            assert hear(False, True)
            connection = broken._link._client.socket()
            assert isinstance(connection, socket.socket)
            connection.shutdown(socket.SHUT_RDWR)
            with suppress(SourceError):
                broken.read(0.5)
            assert hear(True, False)
        finally:
            watcher.close()


class TestLoss:
    def test_the_broker_goes_and_comes(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """The session tells it; a new one asks for births and reads on."""
        session = opened(stand.options(), *stand.tags)
        settled(session)
        stand.stop()
        with pytest.raises(SourceError, match=f"127.0.0.1:{stand.broker.port}"):
            until(session, lambda _: False)
        session.close()
        with pytest.raises(SourceError, match="no connection"):
            opened(stand.options(), *stand.tags)
        stand.start()
        again = opened(stand.options(), *stand.tags)
        stand.say(TEMPERATURE, 2.0)
        until(again, has(TEMPERATURE, 2.0))

    def test_a_broker_that_hangs(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """Closing does not wait for it, which would be for ever."""
        session = opened(stand.options(host_id="fedmill"), *stand.tags)
        with stand.broker.frozen():
            session.read(0.05)
            session.close()
            with pytest.raises(SourceError, match="does not answer"):
                opened(stand.options(connect_seconds=0.3), *stand.tags)

    def test_nobody_there_and_nobody_allowed(
        self, tmp_path: Path, opened: Callable[..., Session]
    ) -> None:
        """Host and port are named; a wrong password is told and not shown."""
        port = free_port()
        with pytest.raises(SourceError, match=f"127.0.0.1:{port}"):
            opened(SparkplugOptions(name="a", port=port), TEMPERATURE)
        with pytest.raises(ConfigError, match="names no metric"):
            opened(SparkplugOptions(name="a", port=port), "nonsense")
        broker = with_password(tmp_path / "broker", "line", "secret")
        wrong = tmp_path / "wrong"
        wrong.write_text("guessed")
        broker.start()
        try:
            options = SparkplugOptions(
                name="a", port=broker.port, user="line", password_file=str(wrong)
            )
            with pytest.raises(SourceError, match="refuses us") as told:
                opened(options, TEMPERATURE)
            assert "guessed" not in str(told.value)
        finally:
            broker.stop()


class TestDiscovery:
    def test_lists_metrics_of_nodes_that_speak(self, stand: Stand) -> None:
        """A node that says anything is asked for its birth."""
        assert KIND.live is not None
        assert KIND.live.discover is not None
        stand.node.set(
            "", "Pressure", DOUBLE, 1.5, properties={"engUnit": (STRING, "string_value", "bar")}
        )
        stop = threading.Event()

        def talk() -> None:
            while not stop.wait(0.02):
                stand.say(TEMPERATURE, 20.0)

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            options = stand.options(listen_seconds=1.5)
            found = {each.tag: each for each in KIND.live.discover(options, SystemClock())}
            mute = stand.options(listen_seconds=0.5, rebirth=False)
            assert list(KIND.live.discover(mute, SystemClock())) == []
        finally:
            stop.set()
            thread.join()
        pressure = found[f"{GROUP}/{NODE}:Pressure"]
        assert (pressure.type, pressure.value, pressure.unit) == ("Double", "1.5", "bar")
        assert {TEMPERATURE, SPEED} <= found.keys()
        assert found[f"{GROUP}/{NODE}:Node Control/Rebirth"].writable

    def test_other_groups_are_not_listened_to(self, stand: Stand) -> None:
        """Where some are named."""
        assert KIND.live is not None
        assert KIND.live.discover is not None
        options = stand.options(groups=["elsewhere"], listen_seconds=0.3)
        found = KIND.live.discover(options, SystemClock())
        stand.node.birth()
        assert list(found) == []


def test_a_node_of_our_own_making_reads_like_any_other(
    stand: Stand, opened: Callable[..., Session]
) -> None:
    """What the agent itself would publish is understood by itself, over a real broker."""
    from fedmill_agent.sources.sparkplug import payload
    from fedmill_agent.sources.sparkplug.datatypes import DataType

    link = PlantLink(PlantBroker(host="127.0.0.1", port=stand.broker.port, client_id=""))
    try:
        link.open(["spBv1.0/fedmill/NCMD/agent"])
        session = opened(stand.options(), "fedmill/agent:Prediction/Wear")
        session.read(0.1)
        wear = payload.metric("Prediction/Wear", DataType.Double, 0.5, alias=1)
        (asked,) = link.read(PATIENCE)
        (wish,) = payload.decode(asked.payload).metrics
        assert (wish.name, wish.value()) == (payload.REBIRTH, True)
        birth = payload.node_birth([wear], time_ms=now_ms(), seq=0, bd_seq=0)
        link.publish("spBv1.0/fedmill/NBIRTH/agent", birth)
        more = payload.metric("Prediction/Wear", DataType.Double, 0.75, alias=1)
        link.publish("spBv1.0/fedmill/NDATA/agent", payload.data([more], time_ms=now_ms(), seq=1))
        until(session, has("fedmill/agent:Prediction/Wear", 0.75))
        link.publish("spBv1.0/fedmill/NDEATH/agent", payload.node_death(0))
        (gone,) = until(session, lambda them: len(them) == 1)
        assert gone.quality[0] == STALE
        assert session.problems == {"fedmill/agent:Prediction/Wear": "fedmill/agent is dead"}
    finally:
        link.close()
