# SPDX-License-Identifier: Apache-2.0
"""What a simulated device shows is what the source of its protocol reads."""

import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedmill_agent.cli import main
from fedmill_agent.simulate.device import Device
from fedmill_agent.simulate.modbus import ModbusDevice
from fedmill_agent.simulate.opcua import OpcUaDevice
from fedmill_agent.simulate.playing import Line, Pace, play, shapes
from fedmill_agent.sources import live_of
from fedmill_agent.sources.live import GOOD, LiveOptions, Readings
from fedmill_agent.sources.modbus.declaration import Fields
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.rig import RigOptions, read
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import SourceError
from fedmill_shared.log import get_logger

RATE = 2000.0
PACE = Pace(RATE, 400, idle=5)
RECORDING = RigOptions(name="one", seconds=0.6, resonance_hz=[300.0], noise_g=0.2)
LINES = [Line(name, [RECORDING], ["vibration"]) for name in ("train", "test")]
SCALE = 0.0001


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


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
                count=PACE.block,
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
    device.open(shapes(LINES, PACE, SCALE))
    thread = threading.Thread(
        target=lambda: play(
            device, LINES, PACE, clock=SystemClock(), wait=stopping.wait, log=get_logger()
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
            with pytest.raises(SourceError, match="choose another --port"):
                device.open(shapes(LINES, PACE, SCALE))


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

    def test_a_rate_of_nothing(self, tmp_path: Path) -> None:
        """Is a wrong command line."""
        arguments = ["simulate", str(tmp_path / "x"), "--protocol", "modbus", "--rate", "0"]
        assert main(arguments) == 2
