# SPDX-License-Identifier: Apache-2.0
"""What a simulated device shows is what the source of its protocol reads."""

import gc
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from fedmill_agent.cli import main
from fedmill_agent.simulate.device import Device, Shape
from fedmill_agent.simulate.modbus import ModbusDevice
from fedmill_agent.simulate.opcua import OpcUaDevice
from fedmill_agent.simulate.playing import Line, Tempo, play, shapes
from fedmill_agent.sources import live_of
from fedmill_agent.sources.live import GOOD, LiveOptions, Readings
from fedmill_agent.sources.modbus.declaration import Fields
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.rig import RigOptions, read
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, SourceError
from fedmill_shared.log import get_logger

RATE = 2000.0
TEMPO = Tempo(RATE, 400, idle=5)
RECORDING = RigOptions(name="one", seconds=0.6, resonance_hz=[300.0], noise_g=0.2)
LINES = [Line(name, [RECORDING], ["vibration"]) for name in ("train", "test")]
SCALE = 0.0001


def line_file(folder: Path, name: str) -> str:
    """A line with one recording."""
    folder.mkdir(exist_ok=True)
    path = folder / "line.toml"
    path.write_text(
        f'[agent]\nid = "{name}"\n[[sources]]\nkind = "rig"\nname = "r"\n'
        'tags = { vibration = "vibration" }\n'
    )
    return str(path)


def made(protocol: str, port: int) -> tuple[Device, LiveOptions, dict[str, str], float]:
    """A device, the source that reads its second line, its tags, and how exact a sample is."""
    if protocol == "opcua":
        options: LiveOptions = OpcuaOptions(
            name="rig",
            url=f"opc.tcp://127.0.0.1:{port}/fedmill/",
            tags={"vibration": "ns=2;s=test.vibration"},
            rates={"vibration": RATE},
        )
        tags = {"vibration": "ns=2;s=test.vibration", "part": "ns=2;s=test.part"}
        return OpcUaDevice("127.0.0.1", port), options, tags, 0.0
    options = ModbusOptions(
        name="rig",
        port=port,
        device=2,
        interval_seconds=0.03,
        registers={
            "vibration": Fields(
                kind="holding",
                address=2,
                type="int16",
                count=TEMPO.block,
                rate_hz=RATE,
                sequence="holding 0 uint16",
            ),
            "part": Fields(kind="holding", address=1),
        },
    )
    return ModbusDevice("127.0.0.1", port), options, {"vibration": "vibration", "part": "part"}, 1.0


@contextmanager
def playing(device: Device) -> Iterator[None]:
    """The device plays until the context ends."""
    stopping = threading.Event()
    device.open(shapes(LINES, TEMPO, SCALE))
    thread = threading.Thread(
        target=lambda: play(
            device, LINES, TEMPO, clock=SystemClock(), wait=stopping.wait, log=get_logger()
        )
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(20)
        device.close()
        assert not thread.is_alive()


@pytest.mark.parametrize("protocol", ["opcua", "modbus"])
class TestDevice:
    def test_the_source_reads_what_it_plays(self, protocol: str) -> None:
        """All samples of the recording in their order, evenly spaced, and the part around them."""
        device, options, tags, exact = made(protocol, free_port())
        (samples, *_) = read(RECORDING, ["vibration"], RATE)
        wanted = samples.values[0]  # type: ignore[union-attr]
        found: dict[str, list[Readings]] = defaultdict(list)
        with playing(device):
            session = live_of(options).open(options, list(tags.values()), SystemClock())
            try:
                for _ in range(400):
                    for each in session.read(0.1):
                        assert isinstance(each, Readings)
                        found[each.tag].append(each)
                    parts = [int(each.values[-1]) for each in found[tags["part"]] if len(each)]
                    shown = sum(np.count_nonzero(each.values) for each in found[tags["vibration"]])
                    if 1 in parts and parts[-1] == 0 and shown > 0.99 * len(wanted):
                        break
            finally:
                session.close()
        blocks = [each for each in found[tags["vibration"]] if (each.quality == GOOD).all()]
        values = np.concatenate([each.values for each in blocks])
        times = np.concatenate([each.times_ns for each in blocks])
        first = int(np.flatnonzero(values)[0])
        scale = SCALE if exact else 1.0
        played = values[first : first + len(wanted)] * scale
        np.testing.assert_allclose(played, wanted, atol=exact * SCALE)
        steps = np.diff(times[first : first + len(wanted)])
        assert abs(int(steps.max()) - round(1e9 / RATE)) < 2_000_000
        assert parts.count(1)

    def test_a_port_that_is_taken(self, protocol: str) -> None:
        """Is told, with the remedy."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            device, *_ = made(protocol, taken.getsockname()[1])
            with pytest.raises(SourceError, match=r"in use.*choose another --port"):
                device.open(shapes(LINES, TEMPO, SCALE))

    def test_a_client_that_does_not_sign_off(
        self, protocol: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Is left alone by a device that is closed, without a word."""
        device, options, tags, _ = made(protocol, free_port())
        with playing(device):
            session = live_of(options).open(options, list(tags.values()), SystemClock())
        try:
            gc.collect()
            assert not capsys.readouterr().err
        finally:
            with suppress(SourceError):
                session.close()


def test_an_address_of_another_machine(capfd: pytest.CaptureFixture[str]) -> None:
    """Is told with the reason, once; 192.0.2.1 is nobody's (RFC 5737)."""
    with pytest.raises(SourceError, match=r"Cannot assign requested address \(.*--host"):
        ModbusDevice("192.0.2.1", free_port()).open(shapes(LINES, TEMPO, SCALE))
    assert not capfd.readouterr().err


class TestCommand:
    def test_a_configuration_without_recordings(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """There is nothing to play."""
        path = tmp_path / "line.toml"
        path.write_text('[agent]\nid = "a"\n')
        code = main(["simulate", str(path), "--protocol", "modbus", "--rate", "10"])
        assert code == 10
        assert "no recording to play" in capsys.readouterr().err

    def test_recordings_without_tags(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nobody knows what of them to show."""
        path = tmp_path / "line.toml"
        path.write_text('[agent]\nid = "a"\n[[sources]]\nkind = "rig"\nname = "r"\n')
        assert main(["simulate", str(path), "--protocol", "modbus", "--rate", "10"]) == 10
        assert "map no tags" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "numbers",
        [
            "--rate 0",
            "--rate nan",
            "--rate inf",
            "--rate 1e12",
            "--rate 10 --block inf",
            "--rate 10 --block 1e9",
            "--rate 10 --scale nan",
            "--rate 10 --idle nan",
            "--rate 10 --idle -1",
            "--rate 10 --idle 1e15",
            "--rate 10 --port 0",
            "--rate 10 --port 65536",
        ],
    )
    def test_numbers_that_mean_nothing(
        self, numbers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Are a wrong command line, told before anything is opened."""
        path = line_file(tmp_path, "a")
        assert main(["simulate", path, "--protocol", "modbus", *numbers.split()]) == 2
        told = capsys.readouterr().err
        assert numbers.split()[-2] in told or "lower --rate or --block" in told

    def test_two_lines_with_one_name(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One would hide the other."""
        paths = [line_file(tmp_path / each, "a") for each in "xy"]
        assert main(["simulate", *paths, "--protocol", "modbus", "--rate", "10"]) == 10
        assert "2 lines are called 'a'" in capsys.readouterr().err


class TestRoom:
    def test_more_samples_than_registers(self) -> None:
        """Two tags of 40000 samples are more than a device can have."""
        device = ModbusDevice("127.0.0.1", free_port())
        with pytest.raises(ConfigError, match="need 80002 registers, a device has 65536"):
            device.open([Shape("press", ["x", "y"], 40_000, RATE, SCALE)])
        device.close()

    def test_more_lines_than_ids(self) -> None:
        """Numbers of devices end at 247."""
        device = ModbusDevice("127.0.0.1", free_port())
        with pytest.raises(ConfigError, match="248 lines"):
            device.open([Shape(f"l{n}", ["x"], 2, RATE, SCALE) for n in range(248)])
        device.close()

    @pytest.mark.parametrize("kind", [ModbusDevice, OpcUaDevice])
    def test_a_device_that_never_opened_leaves_nothing(
        self, kind: type[ModbusDevice] | type[OpcUaDevice]
    ) -> None:
        """Not even a loop; closing it twice is closing it once."""
        before = set(threading.enumerate())
        device = kind("127.0.0.1", 65536)  # no such port
        with pytest.raises(SourceError):
            device.open([Shape("press", ["x"], 2, RATE, SCALE)])
        device.close()
        device.close()
        assert set(threading.enumerate()) <= before
