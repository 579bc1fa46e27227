# SPDX-License-Identifier: Apache-2.0
"""What a bad network does to messages of QoS 1 over a real broker, fault by fault."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.proxy import BOTH, Direction, Proxy, _parse_publish

from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = [pytest.mark.system, pytest.mark.drill]
PATIENCE = 20.0
_names = count()


class Peer:
    """A link behind a proxy or beside it, and what it has heard."""

    def __init__(self, port: int, topic: str) -> None:
        self.events: SimpleQueue[LinkEvent] = SimpleQueue()
        self.heard: list[bytes] = []
        self.topic = topic
        name = f"proxied-{next(_names)}"
        place = Endpoint(host="127.0.0.1", port=port, client_id=name, subscriptions=[topic])
        self.link = MqttLink(place, self.events.put, jitter=lambda _longest: 0.01)

    def connect(self) -> None:
        """Return once connected, and subscribed, which a cut would undo."""
        self.link.start()
        self.until(Connected)
        self.link.publish(self.topic, b"ready")
        self.until(Message)
        self.settled()
        self.heard.clear()

    def until(self, kind: type[LinkEvent]) -> LinkEvent:
        """The next event of ``kind``; payloads on the way are kept."""
        while True:
            event = self.events.get(timeout=PATIENCE)
            if isinstance(event, Message):
                self.heard.append(event.payload)
            if isinstance(event, kind):
                return event

    def listen(self, last: bytes) -> list[bytes]:
        """All payloads heard, up to ``last``."""
        while last not in self.heard:
            self.until(Message)
        return self.heard

    def settled(self) -> None:
        """Return once the broker has acknowledged everything."""
        deadline = time.monotonic() + PATIENCE
        while self.link.backlog:
            assert time.monotonic() < deadline
            time.sleep(0.005)


class Line:
    """A sender and a receiver, one of them behind the proxy: ``direction`` is the bad one."""

    def __init__(self, proxy: Proxy, broker: int, direction: Direction, topic: str) -> None:
        self.proxy, self.topic = proxy, topic
        self.sender = Peer(proxy.port if direction == "up" else broker, f"{topic}/none")
        self.receiver = Peer(proxy.port if direction == "down" else broker, topic)
        self.behind = self.sender if direction == "up" else self.receiver

    def send(self, payloads: list[bytes]) -> None:
        """Publish in order."""
        for payload in payloads:
            self.sender.link.publish(self.topic, payload)


@pytest.fixture
def proxy(mosquitto: int) -> Iterator[Proxy]:
    """A proxy before the broker; neither thread nor connection is left."""
    before = set(threading.enumerate())
    with Proxy(mosquitto, random.Random(1)) as made:
        yield made
    assert set(threading.enumerate()) == before


@pytest.fixture(params=BOTH)
def direction(request: pytest.FixtureRequest) -> Direction:
    """Each direction in turn."""
    chosen: Direction = request.param
    return chosen


@pytest.fixture
def line(proxy: Proxy, mosquitto: int, direction: Direction) -> Iterator[Line]:
    """A connected line; its peers have left in the end."""
    made = Line(proxy, mosquitto, direction, f"proxy/{next(_names)}")
    with ExitStack() as stack:
        for peer in (made.receiver, made.sender):
            stack.callback(peer.link.stop)
            peer.connect()
        proxy.counts.clear()
        yield made


def numbered(amount: int) -> list[bytes]:
    """Payloads that tell their place."""
    return [b"%d" % number for number in range(amount)]


def one_by_one(line: Line, payloads: list[bytes]) -> None:
    """Publish each once the one before has arrived: alone on its way."""
    for payload in payloads:
        line.send([payload])
        line.receiver.listen(payload)


class TestGoodNetwork:
    def test_nothing_happens(self, line: Line) -> None:
        """Everything once and in order, whatever its size."""
        payloads = [bytes([size % 256]) * size for size in (0, 1, 100, 127, 128, 16_383, 299_000)]
        line.send([*payloads, b"end"])
        assert line.receiver.listen(b"end") == [*payloads, b"end"]
        assert line.proxy.counts["publish"] == len(payloads) + 1
        assert set(line.proxy.counts) == {"publish"}

    def test_no_broker(self, mosquitto: int) -> None:
        """A broker that is away is away for those behind the proxy, too."""
        with Proxy(1) as proxy:
            peer = Peer(proxy.port, "none")
            peer.link.start()
            assert isinstance(peer.until(Disconnected), Disconnected)
            peer.link.stop()
        assert proxy.counts["unreachable"] >= 1


class TestDelay:
    def test_latency_is_not_throughput(self, line: Line, direction: Direction) -> None:
        """Nothing arrives sooner than it may; many wait together, so that patience is enough."""
        line.proxy.delay(0.3, direction)
        began = time.monotonic()
        line.send(numbered(80))
        assert line.receiver.listen(b"79") == numbered(80)
        assert 0.3 <= time.monotonic() - began < PATIENCE < 80 * 0.3


class TestCut:
    def test_is_told_and_survived(self, line: Line) -> None:
        """Cut in mid-stream and again: at least once, nothing lost, and the backlog goes to 0."""
        for part in range(3):
            payloads = [b"%d/%d" % (part, number) for number in range(100)]
            line.send(payloads)
            line.proxy.cut()
            line.behind.until(Connected)
            line.receiver.listen(payloads[-1])
            assert set(line.receiver.heard) >= set(payloads)
        line.sender.settled()
        assert line.proxy.counts["cut"] >= 3

    def test_refuse(self, line: Line) -> None:
        """Cut off for good until new connections are taken again; what waited arrives then."""
        line.proxy.refuse(refusing=True)
        line.proxy.cut()
        line.send(numbered(5))
        for _ in range(3):
            line.behind.until(Disconnected)
        line.proxy.refuse(refusing=False)
        line.receiver.listen(b"4")
        assert set(line.receiver.heard) == set(numbered(5))
        assert line.proxy.counts["refused"] >= 2

    def test_a_delayed_connection_is_cut_at_once(self, line: Line) -> None:
        """What was under way is gone, and does not hold up the cut."""
        line.proxy.delay(PATIENCE)
        line.send(numbered(5))
        line.proxy.cut()
        line.proxy.heal()
        line.receiver.listen(b"4")


class TestHalve:
    def test_half_a_message_is_none(self, line: Line, direction: Direction) -> None:
        """The other half never comes: the message comes anew, whole, on the next connection."""
        line.proxy.halve(direction)
        payload = bytes(range(256)) * 500
        line.send([payload])
        line.behind.until(Disconnected)
        assert line.receiver.listen(payload) == [payload]
        line.sender.settled()
        assert line.proxy.counts["halved"] == 1


class TestDuplicate:
    def test_twice_each_and_acknowledged_once(self, line: Line, direction: Direction) -> None:
        """The receiver hears every message twice in a row; nobody is confused by it."""
        line.proxy.duplicate(1.0, direction)
        one_by_one(line, numbered(50))
        line.proxy.heal()
        line.send([b"end"])
        expected = [payload for payload in numbered(50) for _ in range(2)]
        assert line.receiver.listen(b"end") == [*expected, b"end"]
        line.sender.settled()
        assert line.proxy.counts["duplicated"] == 50
        assert line.receiver.events.empty()
        assert line.sender.events.empty()


class TestReorder:
    def test_neighbours_are_swapped(self, line: Line, direction: Direction) -> None:
        """Every message arrives once; one that is alone arrives after a while."""
        line.proxy.reorder(1.0, direction)
        line.send(numbered(10))
        line.receiver.listen(b"8")
        assert line.receiver.heard == [b"1", b"0", b"3", b"2", b"5", b"4", b"7", b"6", b"9", b"8"]
        line.send([b"alone"])
        assert line.receiver.listen(b"alone")[10:] == [b"alone"]
        assert line.proxy.counts["reordered"] == 5


class TestDrop:
    def test_acknowledged_and_lost(self, line: Line, direction: Direction) -> None:
        """The sender believes that all arrived; what matches did not."""
        line.proxy.drop(1.0, lambda topic: topic == line.topic, direction)
        line.send(numbered(30))
        line.sender.settled()
        deadline = time.monotonic() + PATIENCE
        while line.proxy.counts["dropped"] < 30:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        line.proxy.drop(1.0, lambda topic: topic != line.topic, direction)
        line.send([b"end"])
        assert line.receiver.listen(b"end") == [b"end"]

    def test_half_of_them(self, line: Line, direction: Direction) -> None:
        """As many as the dice say, the same for the same seed."""
        line.proxy.drop(0.5, direction=direction)
        line.send(numbered(40))
        line.sender.settled()
        chance = random.Random(1)
        kept = [payload for payload in numbered(40) if chance.random() >= 0.5]
        line.receiver.listen(kept[-1])
        assert line.receiver.heard == kept


class TestAll:
    def test_everything_at_once(self, line: Line) -> None:
        """Late, doubled, swapped and cut: all arrive, and the backlog goes to 0."""
        line.proxy.delay(0.002)
        line.proxy.duplicate(0.2)
        line.proxy.reorder(0.2)
        for part in range(4):
            line.send([b"%d/%d" % (part, number) for number in range(50)])
            line.proxy.cut()
        line.proxy.heal()
        line.send([b"end"])
        line.receiver.listen(b"end")
        line.sender.settled()
        expected = {b"%d/%d" % (part, number) for part in range(4) for number in range(50)}
        deadline = time.monotonic() + PATIENCE
        while set(line.receiver.heard) != expected | {b"end"}:
            assert time.monotonic() < deadline
            line.receiver.until(Message)


class TestParse:
    @given(
        topic=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
        number=st.none() | st.integers(1, 65_535),
        size=st.integers(0, 20_000),
    )
    def test_finds_what_was_packed(self, topic: str, number: int | None, size: int) -> None:
        """Topic and packet identifier are found behind a length of one to three bytes."""
        packed = topic.encode()
        rest = len(packed).to_bytes(2, "big") + packed
        rest += (b"" if number is None else number.to_bytes(2, "big")) + b"\0" + bytes(size)
        length, left = b"", len(rest)
        while left or not length:
            left, digit = divmod(left, 128)
            length += bytes([digit | (0x80 if left else 0)])
        head = bytes([0x30 if number is None else 0x32])
        assert _parse_publish(head + length + rest) == (topic, number)
