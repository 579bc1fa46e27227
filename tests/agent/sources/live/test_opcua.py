# SPDX-License-Identifier: Apache-2.0
"""OPC UA sessions against asyncua's server: what comes, what is told, and how everything ends."""

import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.server.monitored_item_service import MonitoredItemService
from tests.agent.sources.live.stands.opcua import (
    PART,
    RUNNING,
    SPEED,
    START,
    TEMPERATURE,
    VIBRATION,
    Stand,
)

from fedmill_agent.sources.live import BAD, GOOD, STALE, Found, Readings, Session
from fedmill_agent.sources.opcua import KIND, connection, discovery, session
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, SourceError

LIVE = KIND.live
assert LIVE is not None
OWN = ("opcua",)
MODES = pytest.mark.parametrize("mode", ["subscribe", "poll"])


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a thread of a session behind."""
    yield
    assert [each.name for each in threading.enumerate() if each.name.startswith(OWN)] == []


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """One server for all tests: the first start takes a second, and others nothing."""
    stand = Stand(tmp_path_factory.mktemp("opcua"))
    stand.start()
    yield stand
    stand.stop()


@pytest.fixture
def line(stand: Stand) -> Stand:
    """The server with its values as at the beginning."""
    if not stand.running:
        stand.start()
    for tag, value in START.items():
        stand.say(tag, value)
    return stand


@pytest.fixture
def own(line: Stand) -> Stand:
    """The same with no connections and subscriptions of earlier tests, which a test may stop."""
    line.stop()
    line.start()
    return line


class Tap:
    """A session, and what it brought that no test has looked at yet."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.held: deque[Readings] = deque()

    @property
    def counts(self) -> Counter[str]:
        """What was left out."""
        return self.session.counts

    @property
    def problems(self) -> dict[str, str]:
        """Tags that do not come."""
        return dict(self.session.problems)

    def close(self) -> None:
        """Of the session."""
        self.session.close()


def opened(options: OpcuaOptions, tags: Sequence[str]) -> "closing[Tap]":
    """A session that a ``with`` closes."""
    return closing(Tap(LIVE.open(options, tags, SystemClock())))


def until(reader: Tap, right: Callable[[Readings], bool]) -> Readings:
    """The next reading that is ``right``."""
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        while reader.held:
            if right(found := reader.held.popleft()):
                return found
        reader.held.extend(each for each in reader.session.read(0.5) if isinstance(each, Readings))
    raise AssertionError("it did not come")


def value(tag: str, number: float) -> Callable[[Readings], bool]:
    """A good value of a tag."""
    return lambda each: each.tag == tag and each.values[-1] == number and each.quality[-1] == GOOD


def of(tag: str, quality: int) -> Callable[[Readings], bool]:
    """A value of a tag with this quality."""
    return lambda each: each.tag == tag and int(each.quality[-1]) == quality


def broken(reader: Tap) -> SourceError:
    """The error with which a session ends."""
    with pytest.raises(SourceError) as caught:
        until(reader, lambda _: False)
    return caught.value


class TestValues:
    @MODES
    def test_first_what_stands_then_what_changes(self, line: Stand, mode: str) -> None:
        """Values of all kinds come at once; a change comes with the source's own time."""
        with opened(line.options(mode=mode), [TEMPERATURE, SPEED, RUNNING]) as reader:
            begun = time.time_ns()
            waiting = {TEMPERATURE: 20.0, SPEED: 1500.0, RUNNING: 1.0}
            while waiting:
                first = until(reader, lambda each: each.tag in waiting)
                assert first.values.tolist() == [waiting.pop(first.tag)]
                assert abs(int(first.times_ns[0]) - begun) < 5 * 10**9
            moment = datetime.now(UTC).replace(microsecond=123_000) + timedelta(seconds=1)
            line.write(TEMPERATURE, ua.Variant(21.5), source=moment)
            changed = until(reader, value(TEMPERATURE, 21.5))
            assert int(changed.times_ns[0]) == round(moment.timestamp() * 1000) * 10**6
            assert changed.arrived_ns > 0
        assert reader.problems == {}

    def test_a_value_of_last_week_counts_now(self, line: Stand) -> None:
        """It has not changed since; that is no reason to miss it."""
        line.write(SPEED, ua.Variant(900.0), source=datetime.now(UTC) - timedelta(days=7))
        with opened(line.options(), [SPEED]) as reader:
            first = until(reader, value(SPEED, 900.0))
            assert abs(int(first.times_ns[0]) - first.arrived_ns) < 2 * 10**9

    @MODES
    def test_without_a_source_time(self, line: Stand, mode: str) -> None:
        """The time of arrival, by the server's clock."""
        with opened(line.options(mode=mode), [SPEED]) as reader:
            line.write(SPEED, ua.Variant(77.0), stamped=False)
            told = until(reader, value(SPEED, 77.0))
            assert abs(int(told.times_ns[0]) - told.arrived_ns) < 2 * 10**9

    def test_paths_and_namespaces_by_name(self, line: Stand) -> None:
        """The same nodes under other names; two tags may mean one node."""
        tags = [
            "Objects/Line1/Temperature",
            "2:Line1/2:Speed",
            "nsu=urn:fedmill:test:line;s=Line1.Speed",
            SPEED,
        ]
        with opened(line.options(), tags) as reader:
            line.say(SPEED, 1.25)
            left = set(tags[1:])
            while left:
                left.discard(until(reader, lambda each: each.values[0] == 1.25).tag)
            assert reader.problems == {}

    @MODES
    def test_quality(self, line: Stand, mode: str) -> None:
        """Bad, uncertain, NaN, and good again."""
        with opened(line.options(mode=mode), [TEMPERATURE]) as reader:
            until(reader, value(TEMPERATURE, 20.0))
            line.say_bad(TEMPERATURE)
            assert np.isnan(until(reader, of(TEMPERATURE, BAD)).values[0])
            line.say_stale(TEMPERATURE)
            assert until(reader, of(TEMPERATURE, STALE)).values.tolist() == [1.0]
            line.say(TEMPERATURE, float("nan"))
            until(reader, of(TEMPERATURE, BAD))
            line.say(TEMPERATURE, 2.0)
            until(reader, value(TEMPERATURE, 2.0))

    @MODES
    def test_types_that_change(self, line: Stand, mode: str) -> None:
        """Number, text, array, integer, null, text of a number: the session lives on."""
        with opened(line.options(mode=mode), [SPEED]) as reader:
            until(reader, value(SPEED, 1500.0))
            line.say_text(SPEED, "stopped")
            assert until(reader, of(SPEED, BAD)).text == "stopped"
            assert "is the text 'stopped'" in reader.problems[SPEED]
            line.say(SPEED, [1.0, 2.0])
            until(reader, lambda each: each.text == "" and int(each.quality[0]) == BAD)
            assert "holds 2 values" in reader.problems[SPEED]
            line.write(SPEED, ua.Variant(7, ua.VariantType.UInt16))
            until(reader, value(SPEED, 7.0))
            line.write(SPEED, ua.Variant(None))
            until(reader, of(SPEED, BAD))
            line.say(SPEED, "12.5")
            until(reader, value(SPEED, 12.5))
            assert reader.problems == {}
            assert reader.counts["type"] >= 3

    def test_the_part_in_the_machine(self, line: Stand) -> None:
        """A text that names a run is no problem."""
        with opened(line.options(run_tag=PART), [PART]) as reader:
            assert until(reader, of(PART, BAD)).text == "A-17"
            assert (reader.problems, reader.counts["type"]) == ({}, 0)

    @MODES
    def test_a_waveform(self, line: Stand, mode: str) -> None:
        """An array becomes samples that end at its time."""
        options = line.options(mode=mode, tags={"x": VIBRATION}, rates={"x": 1000.0})
        with opened(options, [VIBRATION]) as reader:
            until(reader, lambda each: len(each) == 4)
            moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
            block = [float(each) for each in range(512)]
            line.write(VIBRATION, ua.Variant(block), source=moment)
            told = until(reader, lambda each: len(each) == 512)
            assert told.values.tolist() == block
            assert (round(moment.timestamp() * 10**9) - told.times_ns)[[0, -1]].tolist() == [
                511 * 10**6,
                0,
            ]

    def test_what_does_not_change_is_told_again(self, line: Stand) -> None:
        """The server says that nothing has changed: that is a good value too."""
        with opened(line.options(silence_seconds=0.6), [SPEED]) as reader:
            times = [int(until(reader, value(SPEED, 1500.0)).times_ns[0]) for _ in range(3)]
            assert times[0] < times[1] < times[2]

    def test_all_values_of_a_queue(self, line: Stand) -> None:
        """Between two messages the server keeps several values."""
        options = line.options(interval_seconds=0.5, queue_size=5)
        with opened(options, [SPEED]) as reader:
            until(reader, value(SPEED, 1500.0))
            for number in range(4):
                line.say(SPEED, float(number))
            for number in range(4):
                until(reader, value(SPEED, float(number)))

    def test_deadband(self, line: Stand) -> None:
        """Small changes are not told; what is no number has no deadband and comes all the same."""
        options = line.options(deadband=5.0)
        with opened(options, [SPEED, RUNNING]) as reader:
            until(reader, value(SPEED, 1500.0))
            line.say(SPEED, 1501.0)
            line.say(SPEED, 1510.0)
            seen = until(reader, lambda each: each.tag == SPEED and each.values[0] != 1500.0)
            assert seen.values.tolist() == [1510.0]


class TestMissing:
    @MODES
    def test_the_others_come(self, line: Stand, mode: str) -> None:
        """Each missing tag is told with the reason and what to do."""
        tags = [
            "ns=2;s=Line9",
            "Objects/Line1/Torque",
            "nsu=urn:other;s=x",
            "i=x",
            "ns=2;s=Line1",
            SPEED,
        ]
        with opened(line.options(mode=mode), tags) as reader:
            until(reader, value(SPEED, 1500.0))
            problems = reader.problems
            assert set(problems) == set(tags[:-1])
            assert "BadNodeIdUnknown" in problems["ns=2;s=Line9"]
            assert "Objects/Line1 has no node 'Torque'" in problems["Objects/Line1/Torque"]
            assert "no namespace 'urn:other'" in problems["nsu=urn:other;s=x"]
            assert "no node id" in problems["i=x"]
            assert "BadAttributeIdInvalid" in problems["ns=2;s=Line1"]

    @MODES
    def test_one_that_appears_later(
        self, line: Stand, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that is still starting gets its nodes by and by."""
        monkeypatch.setattr(session, "AGAIN_SECONDS", 0.1)
        tags = [f"ns=2;s=Late{mode}", f"Objects/Late{mode}"]
        with opened(line.options(mode=mode), tags) as reader:
            assert set(reader.problems) == set(tags)
            line.add(tags[0], 5.0)
            for tag in tags:
                until(reader, value(tag, 5.0))
            assert reader.problems == {}

    def test_two_nodes_of_one_name(self, line: Stand) -> None:
        """A path that may mean two nodes means none."""
        for space in (1, 2):
            node = f"ns={space};s=Twin{space}"

            async def add(node: str = node, space: int = space) -> None:
                await line.server.nodes.objects.add_variable(node, f"{space}:Twin", 1.0)

            line.run(add())
        with opened(line.options(), ["Objects/Twin", "Objects/2:Twin"]) as reader:
            until(reader, value("Objects/2:Twin", 1.0))
            assert "2 nodes 'Twin'" in reader.problems["Objects/Twin"]


class TestLimits:
    @MODES
    def test_many_nodes_go_in_parts(
        self, line: Stand, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As many at a time as the server says; and fewer if it takes less than it says."""
        sizes: list[int] = []
        create = MonitoredItemService.create_monitored_items

        async def counting(self: Any, params: Any) -> Any:
            sizes.append(len(params.ItemsToCreate))
            if len(params.ItemsToCreate) > 5:
                raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
            return await create(self, params)

        monkeypatch.setattr(MonitoredItemService, "create_monitored_items", counting)
        tags = [f"ns=2;s={mode}{number}" for number in range(23)]
        for number, tag in enumerate(tags):
            line.add(tag, float(number))
        for node in ("i=11714", "i=11705"):
            line.write(node, ua.Variant(8, ua.VariantType.UInt32))
        try:
            with opened(line.options(mode=mode), tags) as reader:
                left = set(tags)
                while left:
                    left.discard(until(reader, lambda each: each.tag in left).tag)
        finally:
            for node in ("i=11714", "i=11705"):
                line.write(node, ua.Variant(0, ua.VariantType.UInt32))
        assert sizes == ([] if mode == "poll" else [8, 4, 4, 4, 4, 4, 3])

    def test_a_message_that_is_too_large(
        self, line: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No server fills the gateway's memory: the connection ends."""
        with opened(line.options(), [VIBRATION]) as reader:
            until(reader, of(VIBRATION, BAD))
            monkeypatch.setattr(connection, "LARGEST_MESSAGE", 100_000)
            line.say(VIBRATION, [0.0] * 100_000)
            assert "a message of more than 100000 bytes" in str(broken(reader))

    def test_late_polls_are_counted(self, line: Stand) -> None:
        """A server that answers late is not asked more often for that."""
        with opened(line.options(mode="poll", interval_seconds=0.01), [SPEED]) as reader:
            until(reader, value(SPEED, 1500.0))
            with line.hanging():
                threading.Event().wait(0.1)
            line.say(SPEED, 3.0)
            until(reader, value(SPEED, 3.0))
            assert reader.counts["late poll"] >= 5


class TestLoss:
    @MODES
    def test_stop_and_restart(self, own: Stand, mode: str) -> None:
        """The session ends with an error that names the server; the next one goes on."""
        for number in range(3):
            own.say(SPEED, float(number))
            with opened(own.options(mode=mode), own.tags) as reader:
                until(reader, value(SPEED, float(number)))
                own.stop()
                assert f"127.0.0.1:{own.port}" in str(broken(reader))
            with pytest.raises(SourceError, match=f"nothing listens at 127.0.0.1:{own.port}"):
                LIVE.open(own.options(mode=mode), own.tags, SystemClock())
            own.start()

    @MODES
    def test_a_server_that_hangs(self, own: Stand, mode: str) -> None:
        """Its connection is open and nothing comes: noticed in bounded time, and left."""
        with opened(own.options(mode=mode, timeout_seconds=0.3), own.tags) as reader:
            until(reader, value(SPEED, 1500.0))
            with own.hanging():
                assert "in time" in str(broken(reader))

    def test_closing_while_it_hangs(self, own: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits for a goodbye: the thread has ended while the server still hangs."""
        monkeypatch.setattr(session, "CLOSE_SECONDS", 20.0)
        reader = LIVE.open(own.options(timeout_seconds=30.0), own.tags, SystemClock())
        with own.hanging():
            reader.close()
            assert not [each for each in threading.enumerate() if each.name.startswith(OWN)]
        reader.close()

    def test_a_subscription_that_dies_silently(self, own: Stand) -> None:
        """The server forgot it and says nothing (FreeOpcUa/opcua-asyncio, issue 70)."""
        with opened(own.options(timeout_seconds=0.3), own.tags) as reader:
            until(reader, value(SPEED, 1500.0))
            service = own.server.iserver.subscription_service
            own.run(service.delete_subscriptions(list(service.subscriptions)))
            assert isinstance(broken(reader), SourceError)

    def test_a_subscription_that_the_server_ends(self, own: Stand) -> None:
        """It says so."""
        with opened(own.options(), own.tags) as reader:
            until(reader, value(SPEED, 1500.0))
            (held,) = own.server.iserver.subscription_service.subscriptions.values()
            held._triggered_statuschanges.append(ua.StatusCode(ua.StatusCodes.BadTimeout))
            own.say(SPEED, 1.0)
            assert "ended the subscription: BadTimeout" in str(broken(reader))

    def test_nonsense_is_counted(self, own: Stand) -> None:
        """One answer that is none: what it may have said is asked for again."""
        with opened(own.options(), own.tags) as reader:
            until(reader, value(SPEED, 1500.0))
            own.garbage()
            until(reader, value(TEMPERATURE, 20.0))
            own.say(SPEED, 2.0)
            until(reader, value(SPEED, 2.0))
            assert reader.counts["garbage"] == 1

    def test_nothing_but_nonsense(self, own: Stand) -> None:
        """Bytes that are no message end the connection."""
        with opened(own.options(mode="poll"), own.tags) as reader:
            until(reader, value(SPEED, 1500.0))
            own.garbage()
            assert "no message of OPC UA" in str(broken(reader))

    @pytest.mark.parametrize("fault", [RuntimeError("boom"), KeyError("x"), AssertionError()])
    def test_any_fault_of_the_library(
        self, line: Stand, monkeypatch: pytest.MonkeyPatch, fault: Exception
    ) -> None:
        """Is one of ours, whatever it was."""

        async def fail(*_: object) -> None:
            raise fault

        monkeypatch.setattr(connection.Connection, "_ask_server", fail)
        with pytest.raises(SourceError, match=type(fault).__name__):
            LIVE.open(line.options(), line.tags, SystemClock())


class TestNobodyThere:
    def test_accepts_and_never_answers(self, line: Stand) -> None:
        """A port forward to nothing, or a PLC in stop: some seconds, then an error."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            options = line.options(url=f"opc.tcp://127.0.0.1:{port}", timeout_seconds=0.2)
            with pytest.raises(SourceError, match=f"127.0.0.1:{port} does not answer in time"):
                LIVE.open(options, line.tags, SystemClock())
            with pytest.raises(SourceError, match="does not answer in time"):
                list(discover(options))

    def test_another_service(self, line: Stand) -> None:
        """Something listens there that speaks another language."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer() -> None:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
                    while peer.recv(1000):
                        pass

            thread = threading.Thread(target=answer)
            thread.start()
            url = f"opc.tcp://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(SourceError, match=r"127\.0.*no message of OPC UA but b'HTTP"):
                LIVE.open(line.options(url=url), line.tags, SystemClock())
            thread.join(10)

    def test_an_unknown_host(self, line: Stand) -> None:
        """Named as it was written."""
        options = line.options(url="opc.tcp://no-such-host.invalid:4840")
        with pytest.raises(SourceError, match=r"no-such-host\.invalid"):
            LIVE.open(options, line.tags, SystemClock())

    def test_a_name_service_that_hangs(self, line: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits for it, at the end neither."""
        over = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) or [])
        options = line.options(url="opc.tcp://plc:4840", timeout_seconds=0.2)
        try:
            with pytest.raises(SourceError, match="in time"):
                LIVE.open(options, line.tags, SystemClock())
        finally:
            over.set()
        for each in threading.enumerate():
            if each.name == "opcua-name":
                each.join(10)

    def test_the_library_is_missing(self, line: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the extra."""
        for name in list(sys.modules):
            if name.startswith("fedmill_agent.sources.opcua."):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "asyncua", None)
        with pytest.raises(ConfigError, match=r"pip install fedmill-agent\[opcua\]"):
            LIVE.open(line.options(), line.tags, SystemClock())
        with pytest.raises(ConfigError, match=r"needs the package asyncua"):
            list(discover(line.options()))

    def test_it_is_imported_where_it_is_used(self) -> None:
        """A configuration with another kind of source does not pay for it, nor does a check."""
        code = (
            "import sys, fedmill_agent.sources as s; s.kinds(['opcua']); "
            "print('asyncua' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.strip() == b"False"

    def test_it_keeps_quiet(self) -> None:
        """The library's complaints do not reach standard error."""
        code = (
            "from fedmill_agent.sources.opcua import KIND\n"
            "from fedmill_agent.sources.opcua.options import OpcuaOptions\n"
            "from fedmill_shared.clock import SystemClock\n"
            f"o = OpcuaOptions(name='x', url='opc.tcp://127.0.0.1:{free_port()}')\n"
            "try: KIND.live.open(o, ['i=1'], SystemClock())\n"
            "except Exception as e: print(type(e).__name__)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert (done.stdout.strip(), done.stderr) == (b"SourceError", b"")


def discover(options: OpcuaOptions) -> Iterator[Found]:
    """What there is."""
    assert LIVE.discover is not None
    return LIVE.discover(options, SystemClock())


class TestDiscover:
    def test_what_the_line_has(self, own: Stand) -> None:
        """Type, value, unit, range, and which may be written; properties are no tags."""
        found = {each.tag: each for each in discover(own.options())}
        assert set(found) >= set(START)
        assert not any("Engineering" in each.note for each in found.values())
        assert found[TEMPERATURE] == Found(
            tag=TEMPERATURE,
            type="Double",
            value="20",
            unit="°C",
            note="of the melt; -20 to 300 °C; Objects/Line1/Temperature",
        )
        assert found[SPEED].writable
        assert (found[VIBRATION].type, found[VIBRATION].value) == ("Double[]", "4 values")
        assert found[RUNNING].value == "true"
        assert found[PART].value == "A-17"

    def test_what_is_bad_at_present(self, own: Stand) -> None:
        """Is told, and a null value is none."""
        own.say_bad(SPEED)
        found = {each.tag: each for each in discover(own.options())}
        assert (found[SPEED].value, found[SPEED].note.split("; ")[0]) == ("", "bad at present")

    def test_every_tag_can_be_read(self, own: Stand) -> None:
        """What is listed, also as a path, is what a configuration names."""
        found = [each for each in discover(own.options()) if each.tag in START]
        tags = [each.tag for each in found] + [each.note.split("; ")[-1] for each in found]
        with opened(own.options(), tags) as reader:
            left = set(tags)
            while left:
                left.discard(until(reader, lambda each: each.tag in left).tag)

    def test_bounded(self, own: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """In number; and a node that leads back to itself is looked at once."""
        before = {each.tag for each in discover(own.options())}
        monkeypatch.setattr(discovery, "MOST_TAGS", 12)
        monkeypatch.setattr(discovery, "TOGETHER", 3)

        async def fill() -> None:
            objects = own.server.nodes.objects
            for number in range(20):
                await objects.add_variable(f"ns=2;s=More{number}", f"2:More{number}", number)
            line = own.server.get_node("ns=2;s=Line1")
            await line.add_reference(objects, ua.ObjectIds.HasComponent)

        own.run(fill())
        assert len(list(discover(own.options()))) == 12
        monkeypatch.setattr(discovery, "MOST_TAGS", 1000)
        after = [each.tag for each in discover(own.options())]
        assert len(after) == len(set(after)) == 20 + len(before)

    def test_left_half_way(self, own: Stand) -> None:
        """Who has seen enough leaves no connection behind."""
        found = discover(own.options())
        next(found)
        found.close()
        assert own.run(_clients(own)) == 0


async def _clients(stand: Stand) -> int:
    """Connections of the server, once those that are closing have closed."""
    import asyncio

    for _ in range(400):
        if not stand.server.bserver.clients:
            break
        await asyncio.sleep(0.02)
    return len(stand.server.bserver.clients)
