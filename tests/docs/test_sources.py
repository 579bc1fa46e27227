# SPDX-License-Identifier: Apache-2.0
"""The files of ``docs/sources.md``, used as they stand on the page."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs
from pyarrow import array, table, timestamp
from pyarrow.parquet import write_table

from fedmill_agent.cli import main
from fedmill_agent.config import load
from fedmill_agent.cutter import cutter_for
from fedmill_agent.sources import kind_of, live_of
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.modbus import ModbusOptions
from fedmill_agent.sources.mqtt.messages import Messages
from fedmill_agent.sources.mqtt.options import MqttOptions
from fedmill_agent.sources.mqtt.tags import place_of
from fedmill_agent.sources.opcua.address import NodeName, parse
from fedmill_agent.sources.opcua.address import Path as NamePath
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.rest import RestOptions
from fedmill_agent.sources.rest.answers import Json
from fedmill_agent.sources.rest.pages import pages_of
from fedmill_agent.sources.sparkplug.options import SparkplugOptions
from fedmill_agent.sources.sparkplug.topics import place_of as sparkplug_place
from fedmill_agent.sources.tail import TailOptions
from fedmill_shared.clock import SystemClock
from fedmill_shared.job_check import load_job
from fedmill_shared.link.base import Message

PAGE = "docs/sources.md"


@pytest.fixture
def place(files: Callable[[str], dict[str, str]], tmp_path: Path) -> Path:
    """A folder with the files on the page."""
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    return tmp_path


class TestHost:
    def test_the_job_fits_the_source(self, place: Path) -> None:
        """Signals, tags and units of the forecast are those of the machine."""
        config, job = load(place / "host.toml"), load_job(place / "load-forecast.toml")
        assert cutter_for(job, config.sources[0]).tags[0] == "cpu_percent"

    def test_the_command_accepts_it(
        self, place: Path, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The machine that runs the test is read for some seconds."""
        page = (root / PAGE).read_text()
        (line,) = re.findall(r"^fedmill-agent (check host.*)$", page, re.MULTILINE)
        words = [str(place / word) if word.endswith(".toml") else word for word in line.split()]
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert re.search(r"cpu +tag cpu_percent", shown)
        assert "wrong:" not in shown


class TestModbus:
    def test_the_example_declares_what_it_says(self, place: Path) -> None:
        """Both notations mean the same place, and the block has what counts it."""
        (source,) = load(place / "modbus.toml").sources
        assert isinstance(source, ModbusOptions)
        found = source.declared
        assert str(found["temperature"]) == "holding 100 float32 CDAB"
        assert str(found["pressure"]) == "holding 106 int16 AB"
        assert found["pressure"].not_a_number == (0x8000,)
        assert (str(found["force"]), found["force"].device) == ("input 20 int32 ABCD", 2)
        assert (str(found["door_open"]), found["door_open"].bit) == ("holding 110.3 uint16 AB", 3)
        assert found["vibration"].count == 1000
        assert str(found["vibration"].sequence) == "input 199 uint16 AB"


class TestMqtt:
    def test_the_example_reads_the_messages_it_names(self, place: Path) -> None:
        """As its comments show them."""
        (source,) = load(place / "mqtt.toml").sources
        assert isinstance(source, MqttOptions)
        assert source.password_file == str(place / "mqtt-password")
        messages = Messages(source, [place_of(tag) for tag in source.tags.values()])
        said = {
            "line3/oven/temperature": b"21.5",
            "line3/drive": b'{"motor": {"speed": 1480}, "ts": 1700000000, "quality": 7}',
            "gateway/7": b'{"values": [{"id": "x", "v": 1}, {"id": "press.p1", "v": 2}]}',
            "cell/A12/torque": b'{"points": [{"value": 3, "ts": 1}, {"value": 4, "ts": 2}]}',
            "line3/vibration": b'{"samples": [0.1, 0.2], "ts": "2024-01-01T00:00:00Z"}',
        }
        heard = [
            reading
            for topic, payload in said.items()
            for reading in messages.take(Message(topic, payload), 0)
        ]
        assert [each.values.tolist() for each in heard] == [[21.5], [1480], [2], [3, 4], [0.1, 0.2]]
        assert heard[1].quality.tolist() == [500]
        assert messages.problems == {}


class TestOpcua:
    def test_the_example_names_nodes_and_files(self, place: Path) -> None:
        """In each notation; files are looked for beside the configuration."""
        (source,) = load(place / "opcua.toml").sources
        assert isinstance(source, OpcuaOptions)
        named = {signal: parse(tag) for signal, tag in source.tags.items()}
        assert named["temperature"] == NodeName(2, "", "s", "Line1.Temperature")
        assert named["force"] == NodeName(0, "urn:press:line1", "s", "Force")
        assert named["speed"] == NamePath(((None, "Line1"), (None, "Drive"), (None, "Speed")))
        assert source.tag_rates == {"ns=2;i=5012": 12800.0}
        assert source.server_certificate_file == str(place / "press-plc.der")
        assert source.place == "192.168.10.30:4840"


class TestRest:
    def test_the_examples_read_the_answers_they_show(self, place: Path) -> None:
        """As their comments have them: a value with its own time, and a list of records."""
        values, archive = load(place / "rest.toml").sources
        assert isinstance(values, RestOptions)
        assert isinstance(archive, RestOptions)
        assert values.token_file == str(place / "press-7.token")
        shown = re.findall(r"# (\{.*\})$", (place / "rest.toml").read_text(), re.MULTILINE)
        expected = ((1480.0, 1_700_000_000 * 10**9), (3.5, 1_700_000_000_123 * 10**6))
        for options, body, told in zip((values, archive), shown, expected, strict=True):
            tags = list(options.tags.values())
            page, reader = pages_of(options, tags)[0], Json(options.records, 1000)
            (found,), _, _ = page.readings(reader.records(body.encode()), options, reader, 0)
            assert (float(found.values[0]), int(found.times_ns[0])) == told
            assert found.quality.tolist() == [192]


class TestSparkplug:
    def test_the_example_names_what_it_says(self, place: Path) -> None:
        """Nodes, a device, metrics; what a plant tells rarely is held long."""
        (source,) = load(place / "sparkplug.toml").sources
        assert isinstance(source, SparkplugOptions)
        assert (source.hold_seconds, source.secure) == (3600.0, True)
        found = [sparkplug_place(tag) for tag in (*source.tags.values(), source.run_tag)]
        assert {each.node for each in found} == {("Plant 1", "Press 4")}
        assert [each.device for each in found] == ["", "Drive", "Drive", ""]
        assert found[0].metric == "Hydraulics/Oil Temperature"


class TestTail:
    def test_the_example_reads_such_a_file(self, place: Path, tmp_path: Path) -> None:
        """Two parts, a status text and a finding, as a logger in Berlin writes them."""
        (source,) = load(place / "tail.toml").sources
        assert isinstance(source, TailOptions)
        assert Path(source.path).is_absolute()
        (tmp_path / "bench-2_1.csv").write_text(
            "Zeit;Kraft;Weg;Teil;Befund\n31.07.2024 12:00:00;1,5;2;A;gut\n"
            "31.07.2024 12:00:01;Bad Input;3;B;Riss\n",
            encoding="cp1252",
        )
        own = structs.replace(source, path=str(tmp_path / "bench-2_*.csv"), start="beginning")
        session = live_of(own).open(own, ["Teil", "Kraft", "Weg"], SystemClock())
        found = session.read(0.0)
        session.close()
        named = [each.text for each in found if isinstance(each, Readings) and each.tag == "Teil"]
        assert named == ["A", "B"]
        assert [each.run for each in found if isinstance(each, LabelInterval)] == ["logger/A"]


class TestParquet:
    def test_the_example_reads_such_a_file(self, place: Path) -> None:
        """Two batches with their findings."""
        write_table(
            table(
                {
                    "timestamp": array([0, 1000, 2000, 3000], timestamp("ms")),
                    "force_kN": [1.0, 2.0, 3.0, 4.0],
                    "batch": ["a", "a", "b", "b"],
                    "finding": ["good", "good", "crack", None],
                }
            ),
            place / "campaign-7.parquet",
        )
        (source,) = load(place / "parquet.toml").sources
        found = list(kind_of(source).read(source, ["force_kN"], 1.0))
        labels = [(each.run, each.text) for each in found if isinstance(each, LabelInterval)]
        assert labels == [("campaign-7-a", "good"), ("campaign-7-b", "crack")]
