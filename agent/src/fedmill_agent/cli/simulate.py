# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent simulate``: plays recordings as devices of a plant, behind a real protocol."""

import argparse
import math
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedmill_agent.config import load
from fedmill_agent.simulate.device import Device
from fedmill_agent.simulate.playing import MOST_SAMPLES, Line, Tempo, play, shapes
from fedmill_agent.sources.base import ReplayOptions
from fedmill_shared import log
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, UsageError
from fedmill_shared.stopping import on_stop

PORTS = {"opcua": 4840, "modbus": 5020, "sparkplug": 1883}
LONGEST_IDLE = 86_400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "lines",
        type=Path,
        nargs="+",
        metavar="LINE",
        help="configuration file whose recordings one machine plays, one after the other; the "
        "machine is called like its agent",
    )
    parser.add_argument("--protocol", choices=PORTS, required=True, help="what the machines speak")
    parser.add_argument("--host", default="127.0.0.1", help="where to serve, or the broker is")
    parser.add_argument("--port", type=int, help="default: 4840, 5020 or the broker's 1883")
    parser.add_argument("--rate", type=float, required=True, help="samples per second (Hz)")
    parser.add_argument(
        "--block", type=float, default=0.5, help="seconds of samples that are shown at a time"
    )
    parser.add_argument(
        "--scale", type=float, default=0.001, help="what one count of a Modbus register is worth"
    )
    parser.add_argument(
        "--idle", type=float, default=0.0, help="seconds before the first part (default: none)"
    )
    parser.add_argument(
        "--hold", action="store_true", help="wait for SIGUSR1 before the first part"
    )
    parser.add_argument(
        "--repeat",
        action="store_true",
        help="begin again at the end; a line whose recordings all have `repeat` does so anyway",
    )


def run(options: argparse.Namespace) -> int:
    """Play until SIGTERM or Ctrl-C.

    Raises:
        UsageError: a number of the command line cannot be used.
        ConfigError: a configuration is wrong or does not fit the device, or a library is not
            installed.
        DataError: a recording cannot be read.
        SourceError: the server cannot be opened.
    """
    log.configure()
    tempo = _tempo(options)
    lines = [_line(path, repeat=options.repeat) for path in options.lines]
    _check_names(lines)
    device = _device(options.protocol, options.host, _port(options))
    stopping, begun = threading.Event(), threading.Event()
    on_stop(stopping.set)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: begun.set())
    if not options.hold:
        begun.set()
    logger = log.get_logger()
    try:
        device.open(shapes(lines, tempo, options.scale))
        address = f"{options.host}:{_port(options)}"
        logger.info("simulate.open", protocol=options.protocol, address=address, lines=len(lines))
        play(
            device,
            lines,
            tempo,
            clock=SystemClock(),
            wait=stopping.wait,
            log=logger,
            begun=begun.is_set,
        )
    finally:
        device.close()
    return 0


def _tempo(options: argparse.Namespace) -> Tempo:
    for name in ("rate", "block", "scale"):
        given = getattr(options, name)
        if not (math.isfinite(given) and given > 0):
            raise UsageError(f"--{name} is {given:g}: it must be above 0, and finite")
    if not 0 <= options.idle <= LONGEST_IDLE:
        raise UsageError(f"--idle is {options.idle:g}: it must be 0 to {LONGEST_IDLE:g} s")
    samples = options.rate * options.block
    if samples > MOST_SAMPLES:
        raise UsageError(
            f"a block of {samples:.6g} samples is too long, at most {MOST_SAMPLES} are shown",
            remedy="lower --rate or --block",
        )
    block = max(2, 2 * round(samples / 2))
    return Tempo(options.rate, block, round(options.idle * options.rate / block))


def _port(options: argparse.Namespace) -> int:
    port = PORTS[options.protocol] if options.port is None else options.port
    if not 1 <= port <= 65535:
        raise UsageError(f"--port is {port}: it must be 1 to 65535")
    return int(port)


def _check_names(lines: Sequence[Line]) -> None:
    for name, number in Counter(line.name for line in lines).items():
        if number > 1:
            raise ConfigError(
                f"{number} lines are called {name!r}",
                remedy="give each of their files another agent.id",
            )


def _line(path: Path, *, repeat: bool) -> Line:
    config = load(path)
    recordings = [each for each in config.sources if isinstance(each, ReplayOptions)]
    if not recordings:
        raise ConfigError(f"{path}: there is no recording to play", remedy="add [[sources]]")
    tags = list(dict.fromkeys(tag for each in recordings for tag in each.tags.values()))
    if not tags:
        raise ConfigError(
            f"{path}: its recordings map no tags", remedy="name them under `tags` of a source"
        )
    for_ever = repeat or all(each.repeat for each in recordings)
    return Line(config.agent.id, recordings, tags, for_ever)


def _device(protocol: str, host: str, port: int) -> Device:
    try:
        if protocol == "opcua":
            from fedmill_agent.simulate.opcua import OpcUaDevice  # noqa: PLC0415  an extra

            return OpcUaDevice(host, port)
        if protocol == "modbus":
            from fedmill_agent.simulate.modbus import ModbusDevice  # noqa: PLC0415  an extra

            return ModbusDevice(host, port)
        from fedmill_agent.simulate.sparkplug import SparkplugDevice  # noqa: PLC0415  takes memory
    except ImportError as error:
        raise ConfigError(
            f"--protocol {protocol} needs a library that cannot be imported: {error}",
            remedy=f"pip install fedmill-agent[{protocol}]",
        ) from error
    return SparkplugDevice(host, port)
