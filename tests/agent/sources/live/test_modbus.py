# SPDX-License-Identifier: Apache-2.0
"""Modbus TCP sessions with real servers: good days, bad days, and the end."""

import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymodbus.constants import ExcCodes
from tests.agent.sources.live.modbus_memory import Memory, register
from tests.agent.sources.live.sessions import lost
from tests.agent.sources.live.stands.modbus import (
    HOST,
    SIZE,
    Puppet,
    Server,
    Stand,
    float_words,
)
from tests.waiting import PATIENCE

from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.modbus import KIND, ModbusOptions
from fedmill_agent.sources.modbus.answer import SILENT, Answer
from fedmill_agent.sources.modbus.declaration import Fields
from fedmill_agent.sources.modbus.opening import make_poller
from fedmill_agent.sources.modbus.plan import Request
from fedmill_agent.sources.modbus.session import ModbusSession
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import ConfigError, SourceError


def options(port: int, **fields: Any) -> ModbusOptions:
    """Quick ones."""
    quick: dict[str, Any] = {
        "name": "line",
        "host": HOST,
        "port": port,
        "interval_seconds": 0.02,
        "timeout_seconds": 1.0,
        "device_retry_seconds": 0.1,
        "register_retry_seconds": 0.1,
    }
    return ModbusOptions(**(quick | fields))


def opened(own: ModbusOptions, *tags: str) -> ModbusSession:
    """A session for ``tags``, or for all that are declared."""
    assert KIND.live is not None
    session = KIND.live.open(own, tags or tuple(own.declared), SystemClock())
    assert isinstance(session, ModbusSession)
    return session


def until(
    session: ModbusSession, enough: Callable[[dict[str, Readings]], bool]
) -> dict[str, Readings]:
    """Read until the newest readings by tag are ``enough``."""
    newest: dict[str, Readings] = {}
    end = time.monotonic() + PATIENCE
    while not enough(newest):
        assert time.monotonic() < end, (newest, session.counts, session.problems)
        for each in session.read(0.5):
            assert isinstance(each, Readings)
            newest[each.tag] = each
    return newest


def good(**values: float) -> Callable[[dict[str, Readings]], bool]:
    """That the newest values are these, and good."""

    def enough(newest: dict[str, Readings]) -> bool:
        return all(
            tag in newest and newest[tag].values[-1] == value and newest[tag].quality[-1] == 192
            for tag, value in values.items()
        )

    return enough


def bad(*tags: str) -> Callable[[dict[str, Readings]], bool]:
    """That the newest values of ``tags`` are bad."""
    return lambda newest: all(tag in newest and newest[tag].quality[-1] == 0 for tag in tags)


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    made = Server()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """The stand of the contract, running."""
    made = Stand(tmp_path)
    for tag in made.tags:
        made.say(tag, 0.0)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def puppet() -> Iterator[Callable[[Callable[[bytes], bytes | None]], Puppet]]:
    """Makes raw servers."""
    made: list[Puppet] = []

    def make(answer: Callable[[bytes], bytes | None]) -> Puppet:
        made.append(Puppet(answer))
        return made[-1]

    yield make
    for each in made:
        each.stop()


Make = Callable[[Callable[[bytes], bytes | None]], Puppet]


class TestReading:
    def test_values_come_with_their_arrival(self, stand: Stand) -> None:
        """New ones soon."""
        stand.say("temperature", 21.5)
        before = time.time_ns()
        session = opened(stand.options())
        newest = until(session, good(temperature=21.5, speed=0.0))
        assert before <= newest["temperature"].times_ns[0] <= time.time_ns()
        stand.say("temperature", 22.5)
        until(session, good(temperature=22.5))
        stand.say_bad("temperature")
        until(session, bad("temperature"))
        session.close()
        assert session.counts == {}
        assert session.problems == {}

    def test_all_kinds_from_several_devices(self, server: Server) -> None:
        """Only the functions 1 to 4 are ever on the wire, when discovering too."""
        own = options(
            server.port,
            registers={
                "coil": "coil 17",
                "switch": "discrete 3 device 2",
                "measure": "input 9 float64 GHEFCDAB device 3",
                "count": "40101 uint32",
                "bit": "holding 110.15",
            },
            scan="coil 0-9, discrete 0-9, input 0-9, holding 0-9",
        )
        server.put("coil", 17, 1)
        server.put("discrete", 3, 1, device=2)
        server.put("input", 9, *struct.unpack(">HHHH", struct.pack(">d", -2.5))[::-1], device=3)
        server.put("holding", 100, 1, 0)
        server.put("holding", 110, 0x8000)
        session = opened(own)
        until(session, good(coil=1, switch=1, measure=-2.5, count=65536, bit=1))
        session.close()
        assert KIND.live is not None
        assert KIND.live.discover is not None
        assert len(list(KIND.live.discover(own, SystemClock()))) == 5 + 40
        assert server.functions == {1, 2, 3, 4}

    def test_questions_are_joined(self, server: Server) -> None:
        """A hundred tags, three questions."""
        registers = {f"t{each}": f"holding {2 * each} float32" for each in range(100)}
        for each in range(100):
            server.put_float(2 * each, float(each))
        session = opened(options(server.port, registers=registers))
        until(session, good(**{f"t{each}": float(each) for each in range(100)}))
        session.close()
        assert server.asked[:2] == [(1, "holding", 0, 124), (1, "holding", 124, 76)]

    def test_a_tag_may_be_a_line_of_its_own(self, server: Server) -> None:
        """As discovery shows it; one that is none is a problem, and the others come."""
        server.put_float(0, 21.5)
        session = opened(options(server.port), "holding 0 float32", "nonsense")
        until(session, good(**{"holding 0 float32": 21.5}))
        assert session.problems == {
            "nonsense": "no register 'nonsense' is declared: add it to `registers`"
        }
        session.close()

    def test_blocks_come_once_each(self, server: Server) -> None:
        """Over several questions, spaced by the device's number."""
        block: dict[str, Any] = {
            "kind": "holding",
            "address": 100,
            "type": "int16",
            "count": 1000,
            "rate_hz": 10_000.0,
            "sequence": "holding 99",
        }
        own = options(server.port, registers={"v": Fields(**block)})
        server.put("holding", 99, 1, *range(1000))
        session = opened(own)
        first = until(session, lambda newest: "v" in newest)["v"]
        assert first.values.tolist() == list(range(1000))
        server.put("holding", 100, *range(1000, 2000))
        server.put("holding", 99, 3)
        second = until(session, lambda newest: "v" in newest)["v"]
        session.close()
        assert second.values.tolist() == list(range(1000, 2000))
        assert second.times_ns[0] - first.times_ns[-1] == 100_100_000
        assert session.counts["lost block"] == 1

    def test_suspects_are_for_whoever_knows_the_range(self, server: Server) -> None:
        """`check` knows what is plausible."""
        server.put("holding", 0, *float_words(1450.0)[::-1])
        session = opened(options(server.port, registers={"speed": "holding 0 float32"}))
        until(session, lambda newest: "speed" in newest)
        assert session.suspects("speed", 100.0, 3000.0) == [("CDAB", 1450.0)]
        session.close()


class TestTrouble:
    def test_a_missing_address_is_one_tag_s_problem(self, stand: Stand) -> None:
        """And comes again when the device has it."""
        session = opened(stand.options())
        stand.say("temperature", 1.0)
        stand.say_text("speed", "running")
        until(session, lambda newest: good(temperature=1.0)(newest) and bad("speed")(newest))
        assert list(session.problems) == ["speed"]
        stand.say("speed", 3.0)
        until(session, good(temperature=1.0, speed=3.0))
        assert session.problems == {}
        session.close()

    def test_beyond_the_end_of_the_memory(self, server: Server) -> None:
        """The server's own refusal."""
        registers = {"t": f"holding {SIZE - 1}", "u": f"holding {SIZE} float32"}
        session = opened(options(server.port, registers=registers))
        newest = until(session, lambda seen: len(seen) == 2)
        assert newest["t"].quality.tolist() == [192]
        assert "exception 2" in session.problems["u"]
        session.close()

    def test_one_silent_device_behind_a_gateway(self, server: Server) -> None:
        """The others go on, and it comes back."""
        registers = {"near": "holding 0 float32", "far": "holding 0 float32 device 2"}
        own = options(server.port, registers=registers, timeout_seconds=0.1)
        server.silent = {2}
        server.put_float(0, 7.0, device=2)
        session = opened(own)
        until(session, bad("far"))
        for value in (1.0, 2.0, 3.0):
            server.put_float(0, value)
            until(session, good(near=value))
        assert "device 2 does not answer in time" in session.problems["far"]
        server.silent = set()
        until(session, good(far=7.0))
        assert session.problems == {}
        session.close()

    @pytest.mark.parametrize(
        ("code", "told"),
        [(ExcCodes.DEVICE_BUSY, "is busy"), (ExcCodes.GATEWAY_NO_RESPONSE, "answer the gateway")],
    )
    def test_exceptions_of_a_device(self, server: Server, code: ExcCodes, told: str) -> None:
        """Its tags are bad, with the reason, until it is well again."""
        registers = {"near": "holding 0 float32", "far": "holding 0 float32 device 2"}
        server.codes = {2: code}
        session = opened(options(server.port, registers=registers))
        until(session, lambda newest: good(near=0.0)(newest) and bad("far")(newest))
        assert told in session.problems["far"]
        server.codes = {}
        until(session, good(far=0.0))
        session.close()

    def test_garbage_spoils_a_poll_and_no_more(self, stand: Stand) -> None:
        """It is counted, the poll's tags are bad, and the next one is good."""
        session = opened(stand.options())
        stand.say("speed", 4.0)
        until(session, good(speed=4.0))
        stand.garbage()
        until(session, lambda _newest: session.counts["garbage"] == 1)
        until(session, good(speed=4.0))
        assert session.problems == {}
        session.close()

    def test_a_wrong_transaction_is_no_answer(self, puppet: Make) -> None:
        """Even if all else is right; the problem says that something came."""

        def shifted(question: bytes) -> bytes:
            number = int.from_bytes(question[:2], "big") + 7
            return struct.pack(">HHHBBBH", number, 0, 5, 1, 3, 2, 99)

        made = puppet(shifted)
        own = options(made.port, registers={"t": "holding 0"}, timeout_seconds=0.05)
        session = opened(own)
        newest = until(session, bad("t"))
        assert np.isnan(newest["t"].values).all()
        assert "answers what makes no sense" in session.problems["t"]
        session.close()

    def test_a_server_of_another_protocol(self, puppet: Make) -> None:
        """It is called that, and soon."""
        made = puppet(lambda _question: b"HTTP/1.1 400 Bad Request\r\n\r\n")
        session = opened(options(made.port, registers={"t": "holding 0"}))
        assert "answers, and not in Modbus TCP" in str(lost(session))
        session.close()

    def test_truncated_answers(self, puppet: Make) -> None:
        """They are given up after the time limit, and whole ones count again."""
        whole = False

        def cut(question: bytes) -> bytes:
            frame = question[:2] + bytes.fromhex("0000 0005 01 03 02 0063")
            return frame if whole else frame[:9]

        made = puppet(cut)
        session = opened(options(made.port, registers={"t": "holding 0"}, timeout_seconds=0.05))
        until(session, bad("t"))
        whole = True
        until(session, good(t=99.0))
        assert session.counts["garbage"] >= 1
        session.close()


class TestEnds:
    def test_stop_and_start_again(self, stand: Stand) -> None:
        """The session ends with an error; a new one reads from the same port."""
        stand.say("speed", 5.0)
        for _ in range(2):
            session = opened(stand.options())
            until(session, good(speed=5.0))
            stand.stop()
            assert f"{HOST}:{stand.server.port}" in str(lost(session))
            session.close()
            with pytest.raises(SourceError, match="cannot be reached: Connection refused"):
                opened(stand.options())
            stand.start()

    def test_a_loss_between_polls_is_noticed_at_once(self, stand: Stand) -> None:
        """Long before the next question is due."""
        session = opened(stand.options(interval_seconds=3600.0, silence_seconds=0.0))
        until(session, good(speed=0.0))
        stand.stop()
        assert "closed the connection" in str(lost(session))
        session.close()

    def test_nobody_listens(self) -> None:
        """Host and port are named."""
        port = free_port()
        with pytest.raises(SourceError) as caught:
            opened(options(port, registers={"t": "holding 0"}))
        assert f"{HOST}:{port} cannot be reached" in str(caught.value)
        assert "check `host` and `port`" in caught.value.remedy

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", "\udcff"])
    def test_a_host_that_there_is_not(self, host: str) -> None:
        """Nor one that can be."""
        with pytest.raises(SourceError, match="cannot be reached"):
            opened(options(502, host=host))

    def test_a_server_that_accepts_and_never_answers(self, puppet: Make) -> None:
        """Some questions are put, then the connection is given up; closing takes no time."""
        made = puppet(lambda _question: b"")
        own = options(made.port, registers={"t": "holding 0"}, timeout_seconds=0.05)
        session = opened(own)
        assert "none of 3 questions was answered within 0.05 s" in str(lost(session))
        session.close()
        assert made.connections == 1

    def test_closing_while_an_answer_is_awaited(self, puppet: Make) -> None:
        """Reading waits as long as it may, not as long as the answer may take."""
        asked = threading.Event()

        def never(_question: bytes) -> bytes:
            asked.set()
            return b""

        made = puppet(never)
        own = options(made.port, registers={"t": "holding 0"}, timeout_seconds=60.0)
        session = opened(own)
        while not asked.is_set():
            assert session.read(0.1) == []
        session.close()
        session.close()

    def test_nothing_is_left_behind(self, stand: Stand) -> None:
        """Neither threads nor sockets."""
        threads = set(threading.enumerate())
        session = opened(stand.options())
        until(session, good(speed=0.0))
        assert set(threading.enumerate()) == threads
        session.close()
        with pytest.raises(SourceError):
            lost_again(session)

    def test_the_library_is_needed_to_open_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without it the error names the extra."""
        for name in [each for each in sys.modules if each.startswith("pymodbus")]:
            monkeypatch.delitem(sys.modules, name)
        for name in ("opening", "scan", "wire", "frames"):
            monkeypatch.delitem(sys.modules, f"fedmill_agent.sources.modbus.{name}", raising=False)
        monkeypatch.setitem(sys.modules, "pymodbus", None)
        own = options(502, registers={"t": "holding 0"})
        assert KIND.live is not None
        assert KIND.live.discover is not None
        with pytest.raises(ConfigError) as caught:
            KIND.live.open(own, ["t"], SystemClock())
        assert caught.value.remedy == "pip install fedmill-agent[modbus]"
        with pytest.raises(ConfigError):
            list(KIND.live.discover(own, SystemClock()))

    def test_options_do_not_import_the_library(self) -> None:
        """A daemon pays for it when a session is opened."""
        code = "import sys, fedmill_agent.sources.modbus; print('pymodbus' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.strip() == b"False"

    def test_the_library_prints_nothing(self, puppet: Make) -> None:
        """Its log of what it refuses would go to standard error."""
        made = puppet(lambda question: question[:2] + bytes.fromhex("0000 0003 01 5a 90"))
        code = (
            "from fedmill_agent.sources.modbus import KIND, ModbusOptions\n"
            "from fedmill_shared.clock import SystemClock\n"
            f"own = ModbusOptions(name='x', host='{HOST}', port={made.port})\n"
            "session = KIND.live.open(own, ['holding 0'], SystemClock())\n"
            "session.read(0.2)\n"
            "print(session.counts['garbage'])\n"
            "session.close()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.strip() == b"1"
        assert done.stderr == b""


def lost_again(session: ModbusSession) -> None:
    """Use a session that is closed."""
    for _ in range(10):
        session.read(0.1)


class TestDiscovery:
    def test_what_is_declared_and_what_is_found(self, server: Server) -> None:
        """Holes in a range are left out, floats are shown as such."""
        server.put_float(10, 21.5)
        server.put("holding", 12, 7)
        server.refused = {(1, "holding", 14), (1, "holding", 3)}
        own = options(
            server.port,
            registers={"temperature": "holding 10 float32", "gone": "holding 3"},
            scan="holding 10-15, coil 0-1 device 2",
        )
        assert KIND.live is not None
        assert KIND.live.discover is not None
        found = {each.tag: each for each in KIND.live.discover(own, SystemClock())}
        assert (found["temperature"].value, found["temperature"].type) == ("21.5", "float32")
        assert found["temperature"].note == "holding 10 float32 ABCD device 1"
        assert found["gone"].value == ""
        assert "exception 2" in found["gone"].note
        assert found["holding 10 device 1"].note == "with the next one as float32: ABCD 21.5"
        assert found["holding 12 device 1"].value == "7"
        assert "holding 14 device 1" not in found
        assert found["coil 1 device 2"].type == "bool"
        assert found["coil 1 device 2"].writable
        assert len(found) == 2 + 5 + 2

    def test_found_tags_can_be_read_as_they_stand(self, server: Server) -> None:
        """They are declarations."""
        server.put("input", 5, 42)
        own = options(server.port, scan="input 5")
        assert KIND.live is not None
        assert KIND.live.discover is not None
        (found,) = KIND.live.discover(own, SystemClock())
        session = opened(own, found.tag)
        until(session, good(**{found.tag: 42.0}))
        session.close()
        assert not found.writable

    def test_a_silent_device_ends_its_range(self, server: Server) -> None:
        """It is not asked two thousand times."""
        server.silent = {2}
        own = options(server.port, scan="input 0-999 device 2, input 7", timeout_seconds=0.05)
        assert KIND.live is not None
        assert KIND.live.discover is not None
        assert [each.tag for each in KIND.live.discover(own, SystemClock())] == ["input 7 device 1"]
        assert len(server.asked) == 2

    def test_nobody_listens(self) -> None:
        """As when reading."""
        assert KIND.live is not None
        assert KIND.live.discover is not None
        with pytest.raises(SourceError, match="cannot be reached"):
            list(KIND.live.discover(options(free_port()), SystemClock()))


class PacedWire:
    """A wire to a memory under a clock that goes on as the test says."""

    def __init__(self, clock: ManualClock) -> None:
        self.counts = Counter[str]()
        self.late: list[int] = []
        self.memory = Memory()
        self.takes = 0.0
        self._clock = clock
        self._asked: Request | None = None
        self._ready = 0.0

    def ask(self, request: Request) -> None:
        """Remember it, and when its answer is there."""
        self._asked, self._ready = request, self._clock.monotonic() + self.takes

    def receive(self, seconds: float) -> Answer | None:
        """The answer once it is there; else the time that may be waited goes by."""
        wait = max(0.0, self._ready - self._clock.monotonic())
        if self._asked is None or self._asked.device in self.memory.silent or seconds < wait:
            self._clock.advance(max(seconds, 1e-6))
            return None
        self._clock.advance(wait)
        answer, self._asked = self.memory.answer(self._asked), None
        return answer

    def give_up(self) -> Answer:
        """Silence."""
        self._asked = None
        return SILENT

    def close(self) -> None:
        """Nothing to let go of."""


class TestPace:
    def paced(self, interval: float = 1.0) -> tuple[ModbusSession, PacedWire, ManualClock]:
        """A session under a clock of its own."""
        clock = ManualClock()
        own = options(502, interval_seconds=interval)
        poller = make_poller(own, [register("t", "holding 0")], clock, Counter())
        wire = PacedWire(clock)
        return ModbusSession(wire, poller, clock, interval=interval, timeout=5.0), wire, clock

    @staticmethod
    def times(session: ModbusSession, polls: int) -> Sequence[int]:
        """Of the next readings, ns."""
        found: list[int] = []
        while len(found) < polls:
            for each in session.read(0.5):
                assert isinstance(each, Readings)
                found += each.times_ns.tolist()
        return found

    def test_polls_do_not_drift(self) -> None:
        """An answer that takes a while puts no later poll off."""
        session, wire, clock = self.paced()
        begin = clock.now_ns()
        wire.takes = 0.3
        told = [begin + number * 10**9 + 300_000_000 for number in range(50)]
        assert np.abs(np.array(self.times(session, 50)) - told).max() < 10_000
        assert session.counts == {}

    def test_late_polls_are_counted_and_not_made_up_for(self) -> None:
        """The next one is on the grid again."""
        session, wire, clock = self.paced()
        begin = clock.now_ns()
        self.times(session, 1)
        clock.advance(3.6)
        wire.takes = 0.1
        came = np.array(self.times(session, 2)) - begin
        assert np.abs(came - [3_700_000_000, 4_100_000_000]).max() < 10_000
        assert session.counts == {"late poll": 2}

    def test_reading_waits_no_longer_than_it_may(self) -> None:
        """A poll that is not over goes on in the next call."""
        session, wire, clock = self.paced()
        wire.takes = 1.75
        begin = clock.monotonic()
        for count in (0, 0, 0, 1):
            assert len(session.read(0.5)) == count
            assert clock.monotonic() - begin <= 2.0
        assert session.read(0.0) == []

    def test_who_answers_late_is_asked_again(self) -> None:
        """In the next poll, without the pause of the dead."""
        clock = ManualClock()
        own = options(502, interval_seconds=1.0, timeout_seconds=0.5, device_retry_seconds=60.0)
        registers = [register("t", "holding 0"), register("u", "holding 0 device 2")]
        wire = PacedWire(clock)
        wire.memory.silent = {2}
        poller = make_poller(own, registers, clock, Counter())
        session = ModbusSession(wire, poller, clock, interval=1.0, timeout=0.5)
        self.times(session, 2)
        wire.late.append(2)
        wire.memory.silent = set()
        while session.problems:
            session.read(0.5)
        assert [each.device for each in wire.memory.asked] == [1, 1, 2]
        assert wire.late == []

    def test_silence_ends_a_session(self) -> None:
        """After one question for the device and two more."""
        session, wire, clock = self.paced()
        wire.memory.silent = {1}
        begin = clock.monotonic()
        with pytest.raises(SourceError, match="none of 3 questions was answered within 5 s"):
            self.times(session, 10)
        assert clock.monotonic() - begin == pytest.approx(15.0, abs=0.1)
