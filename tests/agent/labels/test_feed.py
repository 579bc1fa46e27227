# SPDX-License-Identifier: Apache-2.0
"""Labels from files, brokers and web servers, for as long as it takes."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from tests.agent.kit import Journal
from tests.agent.sources.live.stands.mosquitto import Mosquitto, with_password
from tests.agent.sources.live.stands.rest import Server, document
from tests.waiting import PATIENCE, eventually

from fedmill_agent.config import AgentConfig, AgentSection, load
from fedmill_agent.labels.csv import MOST_LINES, open_labels
from fedmill_agent.labels.decode import Decoded, Shape
from fedmill_agent.labels.desk import LabelDesk
from fedmill_agent.labels.feed import STUCK_SECONDS, LabelFeed
from fedmill_agent.labels.options import AnyLabels, CsvLabels, MqttLabels, RestLabels
from fedmill_agent.sources.rest.client import Client as RestClient
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import ConfigError, StoreError

HEADER = "unit,start,end,class\n"
GOOD = {"unit": "press", "start": 1, "end": 2, "class": "good"}


class Book:
    """Remembers what a feed brings."""

    def __init__(self) -> None:
        self.journal = Journal()
        self._came = threading.Condition()
        self.records: list[Any] = []
        self.faults: list[str] = []
        self.full = False

    def take(self, found: Decoded, _origin: str) -> int:
        """Keep it, unless the disk is full."""
        if self.full:
            raise StoreError("the disk is full")
        with self._came:
            self.records += found.records
            self.faults += map(str, found.faults)
            self._came.notify_all()
        return len(found.records)

    def until(self, done: Callable[[], object]) -> None:
        """Wait for it."""
        with self._came:
            assert self._came.wait_for(done, PATIENCE), (self.records, self.journal.entries)

    def texts(self) -> list[str]:
        """Classes, in their order."""
        return [record.text for record in self.records]

    def told(self, event: str = "labels.failed") -> list[str]:
        """Errors that were logged."""
        return [fields["error"] for fields in self.journal.of(event)]


@pytest.fixture
def book() -> Book:
    """An empty one."""
    return Book()


@pytest.fixture
def feed(book: Book, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[AnyLabels], LabelFeed]]:
    """Starts feeds that are impatient, and ends them; no thread stays."""
    monkeypatch.setattr("fedmill_agent.labels.feed.FIRST_WAIT", 0.02)
    monkeypatch.setattr("fedmill_agent.labels.feed.READ_SECONDS", 0.05)
    before = set(threading.enumerate())
    made: list[LabelFeed] = []

    def start(options: AnyLabels) -> LabelFeed:
        made.append(LabelFeed(options, book.take, SystemClock(), book.journal))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()
    for each in made:
        each.join(PATIENCE)
    assert not {each for each in threading.enumerate() if each.name.startswith("labels-")} - before


class TestCsvInput:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """The file."""
        return tmp_path / "labels.csv"

    def drain(self, path: Path, clock: ManualClock | None = None, **fields: Any) -> Any:
        """A reader, and what it has read of the file until its end."""
        options = CsvLabels(name="line", path=str(path), interval_seconds=1.0, **fields)
        reader = open_labels(options, Shape(), clock or ManualClock())
        return reader, self.more(reader)

    def more(self, reader: Any) -> list[str]:
        """What comes until the end: classes, and what is wrong."""
        found: list[str] = []
        while not found or not reader._whole:
            decoded = reader.read(0.0)
            found += [record.text for record in decoded.records] + [
                str(fault) for fault in decoded.faults
            ]
            if reader._whole:
                break
        return found

    def test_what_is_added_is_read(self, path: Path) -> None:
        """Each line once, and only whole ones."""
        clock = ManualClock(start_ns=0)
        path.write_text(HEADER + "press,1,2,good\npress,2,3,wo")
        reader, first = self.drain(path, clock)
        assert first == ["good"]
        with path.open("a") as file:
            file.write("rn\npress,3,4,torn\n")
        assert self.more(reader) == []  # not before it is due
        clock.advance(1.1)
        assert self.more(reader) == ["worn", "torn"]
        reader.close()

    def test_a_last_line_without_an_end(self, path: Path) -> None:
        """It counts once nobody has written for a minute, or at once if nobody will."""
        path.write_text(HEADER + "press,1,2,good")
        os.utime(path, ns=(0, 0))
        for clock, follow, expected in (
            (ManualClock(start_ns=10**9), True, []),
            (ManualClock(start_ns=61 * 10**9), True, ["good"]),
            (ManualClock(start_ns=10**9), False, ["good"]),
        ):
            reader, found = self.drain(path, clock, follow=follow)
            assert found == expected
            reader.close()

    @pytest.mark.parametrize("way", ["replaced", "rewritten", "shortened"])
    def test_a_new_file_is_read_from_its_beginning(self, path: Path, way: str) -> None:
        """However it came to be there."""
        clock = ManualClock(start_ns=0)
        path.write_text(HEADER + "press,1,2,good\n")
        reader, _ = self.drain(path, clock)
        text = HEADER + ("press,1,2,ok\n" if way == "shortened" else "press,1,2,worn\noven,1,2,x\n")
        if way == "replaced":
            other = path.with_name("other")
            other.write_text(text)
            other.replace(path)
        else:
            path.write_text(text)
        clock.advance(1.1)
        assert self.more(reader) == (["ok"] if way == "shortened" else ["worn", "x"])
        reader.close()

    def test_it_may_come_later(self, path: Path) -> None:
        """And go, and come again."""
        clock = ManualClock(start_ns=0)
        reader, first = self.drain(path, clock)
        assert first == []
        for text in ("good", "worn"):
            path.write_text(HEADER + f"press,1,2,{text}\n")
            clock.advance(1.1)
            assert self.more(reader) == [text]
            path.unlink()
            clock.advance(1.1)
            assert self.more(reader) == []
        reader.close()

    def test_a_bad_line_spoils_no_other(self, path: Path) -> None:
        """It is told; also one that is no text, or has no end in sight."""
        path.write_bytes(
            HEADER.encode()
            + b"press,1,2,\xff\npress,1,2\n"
            + b"x" * (5 << 20)
            + b"\npress,1,2,ok\n"
        )
        reader, found = self.drain(path)
        reader.close()
        assert found[0] == "ok"
        for told, number, problem in zip(
            found[1:], (2, 3, 4), ("is not UTF-8 text", "has 3 cells", "is longer"), strict=True
        ):
            assert f"line {number} {problem}" in told

    def test_many_lines_come_in_portions(self, path: Path) -> None:
        """A large file delays nobody for long."""
        lines = [f"press,{n},{n},good" for n in range(2 * MOST_LINES)]
        path.write_text(HEADER + "\n".join([*lines, ""]))
        options = CsvLabels(name="line", path=str(path))
        reader = open_labels(options, Shape(), ManualClock())
        assert len(reader.read(0.0).records) == MOST_LINES - 1
        assert len(reader.read(0.0).records) == MOST_LINES
        assert len(reader.read(0.0).records) == 1
        reader.close()


class TestFeed:
    def test_a_file_that_grows(self, tmp_path: Path, book: Book, feed: Any) -> None:
        """Through the thread, with the options of the entry."""
        path = tmp_path / "labels.csv"
        path.write_text("start;result\n1,5;good\n")
        feed(
            CsvLabels(
                name="line",
                path=str(path),
                unit="press",
                fields={"class": "result"},
                delimiter=";",
                decimal=",",
                interval_seconds=0.05,
            )
        )
        book.until(lambda: book.texts() == ["good"])
        with path.open("a") as file:
            file.write("2,5;worn\nsoon;good\n")
        book.until(lambda: book.texts() == ["good", "worn"] and book.faults)
        assert [record.unit for record in book.records] == ["press"] * 2
        assert "line 4: the label `start` is 'soon'" in book.faults[0]

    def test_a_full_disk_loses_no_label(self, tmp_path: Path, book: Book, feed: Any) -> None:
        """It is told once, and tried until it works."""
        path = tmp_path / "labels.csv"
        path.write_text(HEADER + "press,1,2,good\n")
        book.full = True
        feed(CsvLabels(name="line", path=str(path)))
        eventually(book.told)
        book.full = False
        book.until(lambda: book.texts() == ["good"])
        assert book.told() == ["the disk is full"]

    def test_a_folder_is_no_file(self, tmp_path: Path, book: Book, feed: Any) -> None:
        """It is told once, however often it is tried."""
        feed(CsvLabels(name="line", path=str(tmp_path), interval_seconds=0.05))
        eventually(book.told)
        (tmp_path / "x").touch()
        assert len(book.told()) == 1
        assert "cannot be read" in book.told()[0]


class Share:
    """A file on a share that does not answer until it is told to."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()

    def open(self, *_: object) -> "Share":
        """As ``open_labels``."""
        return self

    def read(self, timeout: float) -> Decoded:
        """Nothing is ever in it."""
        self.asked.set()
        self.answer.wait(PATIENCE)
        self.answer.wait(timeout)
        return Decoded()

    def close(self) -> None:
        """There is nothing to let go of."""


class TestHanging:
    def test_whoever_hangs_is_late(self, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
        """After an hour, until it goes on; nobody else could tell."""
        share, clock = Share(), ManualClock()
        monkeypatch.setattr("fedmill_agent.labels.csv.open_labels", share.open)
        monkeypatch.setattr("fedmill_agent.labels.feed.READ_SECONDS", 0.01)
        feed = LabelFeed(CsvLabels(name="lab", path="x"), book.take, clock, book.journal)
        assert feed.late == 0.0
        feed.start()
        assert share.asked.wait(PATIENCE)
        clock.advance(STUCK_SECONDS - 1)
        assert feed.late == 0.0
        clock.advance(8.0)
        assert round(feed.late) == 7
        share.answer.set()
        eventually(lambda: feed.late == 0.0)
        feed.stop()
        feed.join(PATIENCE)
        clock.advance(2 * STUCK_SECONDS)
        assert feed.late == 0.0

    @pytest.mark.parametrize("broken", ["the disk is full", "the file cannot be read"])
    def test_whoever_tries_again_is_not(
        self, tmp_path: Path, book: Book, monkeypatch: pytest.MonkeyPatch, broken: str
    ) -> None:
        """For days, if need be."""
        monkeypatch.setattr("fedmill_agent.labels.feed.FIRST_WAIT", 0.02)
        monkeypatch.setattr("fedmill_agent.labels.feed.LONGEST_WAIT", 0.02)
        clock, path = ManualClock(), tmp_path / "labels.csv"
        book.full = broken == "the disk is full"
        if book.full:
            path.write_text(HEADER + "press,1,2,good\n")
        else:
            path.mkdir()
        feed = LabelFeed(CsvLabels(name="lab", path=str(path)), book.take, clock, book.journal)
        feed.start()
        for days in range(1, 4):
            eventually(book.told)
            clock.advance(days * 24 * STUCK_SECONDS)
            eventually(lambda: feed.late == 0.0)
        feed.stop()
        feed.join(PATIENCE)

    def test_the_desk_says_who(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the name of its entry; the others are as they were."""
        labels: list[AnyLabels] = [
            CsvLabels(name=name, path=str(tmp_path / "none")) for name in ("lab", "mes")
        ]
        config = AgentConfig(agent=AgentSection(id="gw", state=str(tmp_path)), labels=labels)
        clock = ManualClock()
        desk = LabelDesk(config, clock, Journal())
        monkeypatch.setattr(LabelFeed, "start", lambda _: None)
        desk.start()
        assert desk.late() == {}
        desk._feeds[1]._pulse.beat()
        clock.advance(STUCK_SECONDS + 5.0)
        assert {name: round(late) for name, late in desk.late().items()} == {"mes": 5}


class TestRest:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        """A web server."""
        made = Server()
        made.start()
        yield made
        made.stop()

    def options(self, server: Server, **fields: Any) -> RestLabels:
        """Labels of it, asked for often."""
        usual: dict[str, Any] = {"name": "lab", "url": f"{server.url}labels"}
        return RestLabels(**(usual | {"interval_seconds": 0.05, "timeout_seconds": 1.0} | fields))

    def test_what_is_new(self, server: Server, book: Book, feed: Any) -> None:
        """The same answer is not read again."""
        server.pages["/labels"] = document([GOOD])
        feed(self.options(server))
        book.until(lambda: book.texts() == ["good"])
        asked = len(server.requests)
        eventually(lambda: len(server.requests) > asked + 2)
        assert book.texts() == ["good"]
        server.pages["/labels"] = document([GOOD, GOOD | {"class": "worn"}])
        book.until(lambda: book.texts() == ["good", "good", "worn"])

    def test_a_list_inside_an_answer(self, server: Server, book: Book, feed: Any) -> None:
        """With other names, and something else beside it."""
        rows = [{"serial": "7", "result": "good", "operator": "ann"}, {"serial": "8"}]
        server.pages["/labels"] = document({"count": 2, "data": {"items": rows}})
        fields = {"part": "serial", "class": "result"}
        feed(self.options(server, records="data.items", fields=fields))
        book.until(lambda: book.texts() == ["good"] and book.faults)
        assert "label 2: the label has neither class nor value" in book.faults[0]

    def test_a_server_that_fails(self, server: Server, book: Book, feed: Any) -> None:
        """It is told, with what to do; it goes on when the server does."""
        feed(self.options(server))
        eventually(book.told)
        assert "answers 404 Not Found (check `url`" in book.told()[0]
        server.pages["/labels"] = document(b"nonsense")
        book.until(lambda: book.faults)
        assert "is not JSON" in book.faults[0]
        server.stop()
        eventually(lambda: len(book.told()) > 1)
        server.pages["/labels"] = document([GOOD])
        server.start()
        book.until(lambda: book.texts() == ["good"])

    def test_a_server_that_leads_nowhere(self, server: Server, book: Book, feed: Any) -> None:
        """A redirection to what is no URL ends no thread."""
        server.pages["/labels"] = lambda _q, _h: (302, {"Location": "http://[x"}, b"")
        feed(self.options(server))
        eventually(book.told)
        assert "leads to what is no URL" in book.told()[0]
        server.pages["/labels"] = document([GOOD])
        book.until(lambda: book.texts() == ["good"])

    def test_half_characters(self, server: Server, book: Book, feed: Any) -> None:
        """In an answer that is read leniently: told, and the next answer counts."""
        server.pages["/labels"] = document(b'{"rows": [NaN, {"unit": "\\ud800", "start": 1}]}')
        feed(self.options(server, records="rows"))
        book.until(lambda: book.faults)
        assert "the answer cannot be used: no JSON" in book.faults[0]
        server.pages["/labels"] = document({"rows": [GOOD]})
        book.until(lambda: book.texts() == ["good"])

    def test_whatever_goes_wrong(
        self, server: Server, book: Book, feed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told, and everything begins anew: nobody else would."""
        server.pages["/labels"] = document([GOOD])
        with monkeypatch.context() as broken:
            broken.setattr(RestClient, "get", lambda *_: 1 // 0)
            feed(self.options(server))
            eventually(book.told)
        assert book.told()[0].startswith("ZeroDivisionError: ")
        book.until(lambda: book.texts() == ["good"])

    def test_what_is_too_large(self, server: Server, book: Book, feed: Any) -> None:
        """It is not taken into memory."""
        server.pages["/labels"] = document([GOOD] * 100)
        feed(self.options(server, largest_bytes=1000))
        eventually(book.told)
        assert "over 1000 bytes (raise `largest_bytes`" in book.told()[0]

    def test_a_path_that_leads_nowhere(self, server: Server, book: Book, feed: Any) -> None:
        """The answer has no such list."""
        server.pages["/labels"] = document({"rows": []})
        feed(self.options(server, records="data"))
        book.until(lambda: book.faults)
        assert "the answer cannot be used" in book.faults[0]


class Publisher:
    """Somebody who has labels."""

    def __init__(self, broker: Mosquitto) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def say(self, topic: str, payload: Any, *, retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has it."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, data, qos=1, retain=retain).wait_for_publish(PATIENCE)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.mark.system
class TestMqtt:
    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[Mosquitto]:
        """The plant's own."""
        made = Mosquitto(tmp_path / "broker")
        made.start()
        yield made
        made.stop()

    @pytest.fixture
    def publisher(self, broker: Mosquitto) -> Iterator[Publisher]:
        """Somebody who has labels."""
        made = Publisher(broker)
        yield made
        made.close()

    def options(self, broker: Mosquitto, **fields: Any) -> MqttLabels:
        """Labels of one topic."""
        usual: dict[str, Any] = {"client_id": "a-labels", "topics": ["quality/#"]}
        return MqttLabels(name="quality", port=broker.port, **(usual | fields))

    @pytest.mark.parametrize("version", ["5", "3.1.1"])
    def test_messages(
        self, broker: Mosquitto, publisher: Publisher, book: Book, feed: Any, version: Any
    ) -> None:
        """Retained ones, lists, and what is none; an empty message says nothing."""
        publisher.say("quality/press", GOOD, retain=True)
        feed(self.options(broker, version=version))
        book.until(lambda: book.texts() == ["good"])
        publisher.say("quality/press", b"", retain=True)
        publisher.say("quality/oven", [GOOD | {"class": "worn"}, {"class": "torn"}])
        publisher.say("other", GOOD)
        publisher.say("quality/oven", b"nonsense")
        book.until(lambda: len(book.faults) == 2)
        assert book.texts() == ["good", "worn"]
        assert "topic quality/oven: label 2: the label names no unit" in book.faults[0]
        assert "topic quality/oven: is not JSON" in book.faults[1]

    @pytest.mark.parametrize("version", ["5", "3.1.1"])
    def test_what_came_while_we_were_away(
        self, broker: Mosquitto, publisher: Publisher, book: Book, feed: Any, version: Any
    ) -> None:
        """The broker has kept it."""
        first = feed(self.options(broker, version=version))
        eventually(lambda: book.journal.of("labels.opened"))
        first.stop()
        first.join(PATIENCE)
        publisher.say("quality/press", GOOD)
        feed(self.options(broker, version=version))
        book.until(lambda: book.texts() == ["good"])

    def test_a_broker_that_goes_and_comes(self, broker: Mosquitto, book: Book, feed: Any) -> None:
        """It is told, and tried again."""
        feed(self.options(broker))
        eventually(lambda: book.journal.of("labels.opened"))
        broker.stop()
        eventually(book.told)
        broker.start()
        eventually(lambda: len(book.journal.of("labels.opened")) > 1)
        publisher = Publisher(broker)
        publisher.say("quality/press", GOOD)
        book.until(lambda: book.texts() == ["good"])
        publisher.close()

    def test_a_broker_that_asks_who(self, tmp_path: Path, book: Book, feed: Any) -> None:
        """The password is in a file of its own."""
        broker = with_password(tmp_path / "strict", "ann", "secret")
        broker.start()
        try:
            feed(self.options(broker))
            eventually(book.told)
            assert "refuses us" in book.told()[0]
            (tmp_path / "password").write_text("secret\n")
            known = {"user": "ann", "password_file": str(tmp_path / "password")}
            feed(self.options(broker, client_id="other", **known))
            eventually(lambda: book.journal.of("labels.opened"))
        finally:
            broker.stop()


CONFIG = """
[agent]
id = "a"

[[labels]]
kind = "csv"
name = "inspection"
path = "labels.csv"

[[labels]]
kind = "mqtt"
name = "quality"
topics = ["plant/quality/#"]
user = "fedmill"
password_file = "password"

[[labels]]
kind = "rest"
name = "laboratory"
url = "https://lab.example/labels"
fields = {part = "serial", class = "result"}
"""


class TestConfiguration:
    def test_entries(self, tmp_path: Path) -> None:
        """Files are relative to the configuration."""
        path = tmp_path / "a.toml"
        path.write_text(CONFIG)
        csv, mqtt, rest = load(path).labels
        assert csv.path == str(tmp_path / "labels.csv")
        assert mqtt.password_file == str(tmp_path / "password")
        assert rest.server().url == "https://lab.example/labels"

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ('name = "quality"', 'name = "inspection"', r"labels\[0\] has the same name"),
            ('class = "result"', 'clas = "result"', "`fields` has 'clas'; labels have id"),
            ('topics = ["plant/quality/#"]', "", "has no topics"),
            ('user = "fedmill"', "", "`password_file` needs the `user`"),
            ('url = "https', 'url = "ftp', "is not like http"),
            ('kind = "rest"', 'kind = "rset"', r"labels\[2\].kind"),
        ],
    )
    def test_what_is_wrong_with_them(self, tmp_path: Path, old: str, new: str, told: str) -> None:
        """Told as of sources, before anything is opened."""
        path = tmp_path / "a.toml"
        path.write_text(CONFIG.replace(old, new))
        with pytest.raises(ConfigError, match=told):
            load(path)

    def test_the_desk_opens_them(self, tmp_path: Path) -> None:
        """Into the book, and from there to jobs."""
        path = tmp_path / "labels.csv"
        path.write_text(HEADER + "press,1,2,good\n")
        config = AgentConfig(
            agent=AgentSection(id="a", state=str(tmp_path / "state")),
            labels=[CsvLabels(name="line", path=str(path))],
        )
        desk = LabelDesk(config, SystemClock(), Journal())
        desk.start()
        try:
            eventually(lambda: desk.newest)
            assert [entry.record.text for entry in desk.since(0, "j")[0]] == ["good"]
        finally:
            desk.close()

    def test_whoever_connects_gets_all_that_is_told(self) -> None:
        """Nothing of a connection is lost on the way to those who make it."""
        files = {"password_file": "p", "ca_file": "a", "certificate_file": "b", "key_file": "k"}
        known = {"name": "q", "user": "u"}
        mqtt = MqttLabels(
            topics=["t"],
            host="h",
            port=9,
            version="3.1.1",
            client_id="c",
            tls=True,
            **known,
            **files,
        )
        broker = mqtt.broker()
        names = {*MqttLabels.__struct_fields__} & {*type(broker).__struct_fields__} - {"unit"}
        assert all(getattr(broker, name) == getattr(mqtt, name) for name in names)
        rest = RestLabels(
            url="https://h/x", interval_seconds=600.0, timeout_seconds=3.0, **known, **files
        )
        server = rest.server()
        assert (server.user, server.key_file, server.interval_seconds) == ("u", "k", 600.0)
        with pytest.raises(ValueError, match="would cross the network readable"):
            MqttLabels(topics=["t"], host="10.0.0.5", **known, password_file=files["password_file"])
