# SPDX-License-Identifier: Apache-2.0
"""MQTT messages over a real broker, which goes, comes, hangs and refuses."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from tests.agent.sources.live.sessions import lost, started, until
from tests.agent.sources.live.stands.mosquitto import with_password, with_tls
from tests.agent.sources.live.stands.mqtt import Publisher, Stand

from fedmill_agent.sources.live import BAD, GOOD, STALE, Session
from fedmill_agent.sources.mqtt import KIND
from fedmill_agent.sources.mqtt.options import MqttOptions
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, SourceError

pytestmark = pytest.mark.system


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A machine, running."""
    with started(Stand(tmp_path)) as made:
        yield made


class TestReading:
    def test_values_with_their_times_and_qualities(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """As the machine says them."""
        session = opened(stand.options(), *stand.tags)
        before = time.time_ns()
        stand.say(stand.tags[0], 21.5)
        stand.say_bad(stand.tags[0])
        stand.say_stale(stand.tags[0])
        stand.say_text(stand.tags[0], "off")
        stand.garbage()
        stand.say(stand.tags[1], 1500.0)
        heard = until(session, lambda them: any(each.tag == stand.tags[1] for each in them))
        assert [int(each.quality[0]) for each in heard] == [GOOD, BAD, STALE, BAD, GOOD]
        assert [heard[0].values[0], heard[3].text] == [21.5, "off"]
        assert before <= heard[0].times_ns[0] <= heard[0].arrived_ns
        assert session.counts["garbage"] == 2
        assert session.counts["type"] == 1
        assert "no JSON" in session.problems[stand.tags[0]]

    def test_what_the_broker_kept(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """Comes at once, with its own time."""
        stand.say(stand.tags[0], 3.0)
        said = time.time_ns()
        session = opened(stand.options(), *stand.tags)
        (reading,) = until(session, lambda them: len(them) == 1)
        assert (reading.values[0], reading.quality[0]) == (3.0, GOOD)
        assert reading.times_ns[0] < said
        assert set(session.problems) == {stand.tags[1]}

    @pytest.mark.parametrize("version", ["5", "3.1.1"])
    def test_filters_that_take_in_more(
        self, stand: Stand, opened: Callable[..., Session], version: str
    ) -> None:
        """With `topics` a tag may be any that they let through; others are not looked at."""
        options = stand.options(topics=["line3/#", "line3/temperature"], version=version, qos=0)
        session = opened(options, *stand.tags)
        stand.publisher.publish("line3/other", b"5")
        stand.say(stand.tags[0], 1.0)
        stand.say(stand.tags[1], 2.0)
        heard = until(session, lambda them: {each.tag for each in them} == set(stand.tags))
        assert len(heard) == 2
        with pytest.raises(ConfigError, match="no filter in `topics` lets 'line4/x' through"):
            opened(options, "line4/x")

    def test_blocks(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """A waveform over a wire."""
        options = stand.options(rates={"vibration": 1000.0}, tags={"vibration": "line3/vib:v"})
        session = opened(options, "line3/vib:v")
        for number in range(3):
            body = {"v": list(range(100)), "time": 1_700_000_000_000 + 100 * number}
            stand.publisher.publish("line3/vib", json.dumps(body))
        heard = until(session, lambda them: len(them) == 3)
        times = [t for block in heard for t in block.times_ns.tolist()]
        assert [b - a for a, b in pairwise(times)] == [1_000_000] * 299

    def test_larger_messages_are_left_out(
        self, stand: Stand, opened: Callable[..., Session]
    ) -> None:
        """And nothing else."""
        session = opened(stand.options(max_message_bytes=2_000), *stand.tags)
        stand.publisher.publish("line3/temperature", b"[" + b"1," * 5_000 + b"1]")
        stand.say(stand.tags[0], 4.0)
        (reading,) = until(session, lambda them: len(them) == 1)
        assert reading.values[0] == 4.0


class TestLoss:
    def test_the_broker_goes_and_comes(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """The session tells it; a new one reads on."""
        session = opened(stand.options(), *stand.tags)
        stand.say(stand.tags[0], 1.0)
        until(session, lambda them: len(them) == 1)
        stand.stop()
        assert f"127.0.0.1:{stand.broker.port}: connection lost" in str(lost(session))
        session.close()
        with pytest.raises(SourceError, match=f"127.0.0.1:{stand.broker.port}: no connection"):
            opened(stand.options(), *stand.tags)
        stand.start()
        again = opened(stand.options(), *stand.tags)
        stand.say(stand.tags[0], 2.0)
        assert until(again, lambda them: len(them) == 1)[0].values[0] == 2.0

    def test_a_broker_that_hangs(self, stand: Stand, opened: Callable[..., Session]) -> None:
        """Closing does not wait for it, which would be for ever, and nobody gets a new session."""
        session = opened(stand.options(), *stand.tags)
        with stand.broker.frozen():
            assert session.read(0.05) == []
            session.close()
            with pytest.raises(SourceError, match="does not answer"):
                opened(stand.options(connect_seconds=0.3), *stand.tags)

    def test_who_takes_connections_and_says_nothing(self, opened: Callable[..., Session]) -> None:
        """No broker at all."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            options = MqttOptions(name="a", port=server.getsockname()[1], connect_seconds=0.3)
            with pytest.raises(SourceError, match="does not answer"):
                opened(options, "a")

    def test_nobody_there(self, opened: Callable[..., Session]) -> None:
        """Host and port are named."""
        port = free_port()
        with pytest.raises(SourceError, match=f"127.0.0.1:{port}"):
            opened(MqttOptions(name="a", port=port), "a")


class TestWho:
    def test_password_from_a_file(self, tmp_path: Path, opened: Callable[..., Session]) -> None:
        """The right one, a wrong one, and no file."""
        broker = with_password(tmp_path / "broker", "line", "secret")
        broker.start()
        secret, wrong = tmp_path / "secret", tmp_path / "wrong"
        secret.write_text("secret\n")
        wrong.write_text("guessed")
        try:
            known = MqttOptions(name="a", port=broker.port, user="line")
            opened(msgspec.structs.replace(known, password_file=str(secret)), "a")
            for file in ("", str(wrong)):
                with pytest.raises(SourceError, match="refuses us") as told:
                    opened(msgspec.structs.replace(known, password_file=file), "a")
                assert "guessed" not in str(told.value)
            with pytest.raises(ConfigError, match=r"password_file .*: No such file"):
                opened(msgspec.structs.replace(known, password_file=str(tmp_path / "-")), "a")
        finally:
            broker.stop()

    def test_tls(self, tmp_path: Path, opened: Callable[..., Session]) -> None:
        """With the plant's own authority; the system's does not know it."""
        broker, authority = with_tls(tmp_path)
        broker.start()
        try:
            opened(MqttOptions(name="a", port=broker.port, ca_file=str(authority)), "a")
            with pytest.raises(SourceError, match="not trusted"):
                opened(MqttOptions(name="a", port=broker.port, tls=True), "a")
            with pytest.raises(ConfigError, match=r"missing\.pem"):
                opened(MqttOptions(name="a", port=broker.port, ca_file="missing.pem"), "a")
        finally:
            broker.stop()


class TestDiscovery:
    def test_lists_what_is_said(self, stand: Stand) -> None:
        """Tags that can be read as they stand, with type, value and how often."""
        stand.say(stand.tags[0], 21.5)
        stand.publisher.publish("bare", b"7", retain=True)
        busy, stop = Publisher(stand.broker.port), threading.Event()

        def talk() -> None:
            while not stop.wait(0.02):
                busy.publish("busy", b"\xff\xff")

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            assert KIND.live is not None
            assert KIND.live.discover is not None
            found = {each.tag: each for each in KIND.live.discover(stand.options(), SystemClock())}
        finally:
            stop.set()
            thread.join()
            busy.stop()
        assert found[stand.tags[0]].value == "21.5"
        assert (found["bare"].type, found["bare"].note) == (
            "number",
            "1 in 0.5 s, kept by the broker",
        )
        assert found["busy"].type == "2 bytes"

    def test_nobody_there(self) -> None:
        """Told like everywhere."""
        assert KIND.live is not None
        assert KIND.live.discover is not None
        options = MqttOptions(name="a", port=free_port())
        with pytest.raises(SourceError, match="no connection"):
            list(KIND.live.discover(options, SystemClock()))
