# SPDX-License-Identifier: Apache-2.0
"""The plants of a demo behind a real protocol: their recordings are played by simulated devices.

Every plant gets a line for training, one for tests, and one that goes on for ever. A part number
says which recording is in the machine, and a list of labels that the quality laboratory keeps says
which fault each part had.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import tomli_w

from fedmill_coordinator.demo.recipes import Plan, Plant
from fedmill_coordinator.demo.recipes.plan import Source
from fedmill_shared.errors import UsageError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.job import Job

Protocol = Literal["opcua", "modbus", "sparkplug"]
PROTOCOLS: tuple[Protocol, ...] = ("opcua", "modbus", "sparkplug")
SPLITS = ("train", "test", "live")
BLOCK_SECONDS = 0.5
COUNT_G = 0.001
"""What a count of a Modbus register is worth."""
LEAST_SHARE = 0.8
"""Share of a plant's training windows with which it may begin; the rest is lost at the edges."""


@dataclass(frozen=True, slots=True)
class Line:
    """One machine: its name, the number of its device, what it is for, and its recordings."""

    name: str
    number: int
    split: str
    recordings: list[Source]


@dataclass(frozen=True, slots=True)
class Floor:
    """What has to be started beside the agents.

    Attributes:
        plan: the demo's, with sources that read the devices.
        command: arguments of ``fedmill-agent`` that play them.
    """

    plan: Plan
    command: list[str]


def behind(plan: Plan, protocol: Protocol, folder: Path, port: int) -> Floor:
    """Write the lines of ``plan`` and its labels below ``folder``, for a server on ``port``.

    Raises:
        UsageError: the recordings of the plan have no fixed class.
        StoreError: the folder cannot be written.
    """
    place = make_folder(folder / "floor")
    job, files, plants = plan.job, list[Path](), list[Plant]()
    for plant in plan.plants:
        lines = _lines(plant, 1 + len(files))
        for line in lines:
            files.append(place / f"{line.name}.toml")
            write_atomic(files[-1], _line_file(line, job))
        labels = place / f"{plant.agent}-labels.csv"
        write_atomic(labels, _labels(lines))
        sources = [_source(line, protocol, port, job) for line in lines]
        laboratory: Source = {"kind": "csv", "name": "laboratory", "path": str(labels)}
        plants.append(Plant(plant.agent, sources, [laboratory]))
    changed = Plan(_patient(job, plan), plants)
    return Floor(changed, _command(files, protocol, port, job))


def _lines(plant: Plant, first: int) -> list[Line]:
    found = {
        split: [_longer(each) for each in plant.sources if each.get("split") == split]
        for split in SPLITS
    }
    played = [split for split in SPLITS if found[split]]
    return [
        Line(f"{plant.agent}-{split}", first + number, split, found[split])
        for number, split in enumerate(played)
    ]


def _longer(recording: Source) -> Source:
    """With another block: half of the first and of the last are lost at the edges of a part."""
    seconds = recording.get("seconds")
    if not isinstance(seconds, float) or not isinstance(recording.get("fault"), str):
        raise UsageError(
            "only the built-in rig can be played by simulated devices", remedy="omit --data"
        )
    changes: Source = {"seconds": seconds + BLOCK_SECONDS}
    return recording | changes


def _line_file(line: Line, job: Job) -> bytes:
    tags = {signal.name: signal.tag or signal.name for signal in job.signals}
    left_out = ("split", "speed")
    sources = [
        {key: value for key, value in each.items() if key not in left_out} | {"tags": tags}
        for each in line.recordings
    ]
    return tomli_w.dumps({"agent": {"id": line.name}, "sources": sources}).encode()


def _labels(lines: Sequence[Line]) -> bytes:
    """The class of every part, as a laboratory would list it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("unit", "part", "class"))
    for line in lines:
        for number, recording in enumerate(line.recordings, 1):
            table.writerow((line.name, number, recording["fault"]))
    return text.getvalue().encode()


def _source(line: Line, protocol: Protocol, port: int, job: Job) -> Source:
    """How an agent reads ``line``."""
    names = [signal.name for signal in job.signals]
    common: Source = {"kind": protocol, "name": line.split, "split": line.split, "unit": line.name}
    common["rates"] = dict.fromkeys(names, job.rate_hz)
    makers: Mapping[Protocol, Source] = {
        "opcua": {
            "url": f"opc.tcp://127.0.0.1:{port}/fedmill/",
            "tags": {name: f"ns=2;s={line.name}.{name}" for name in names},
            "run_tag": f"ns=2;s={line.name}.part",
        },
        "modbus": {
            "port": port,
            "device": line.number,
            "interval_seconds": 0.1,
            "registers": _registers(names, job),
            "scales": dict.fromkeys(names, COUNT_G),
            "tags": {name: name for name in names},
            "run_tag": "part",
        },
        "sparkplug": {
            "port": port,
            "tags": {name: f"fedmill/{line.name}:{name}" for name in names},
            "run_tag": f"fedmill/{line.name}:part",
        },
    }
    return common | makers[protocol]


def _registers(names: Sequence[str], job: Job) -> Source:
    count = round(BLOCK_SECONDS * job.rate_hz)
    found: Source = {"part": "holding 1 uint16"}
    for number, name in enumerate(names):
        found[name] = {
            "kind": "holding",
            "address": 2 + number * count,
            "type": "int16",
            "count": count,
            "rate_hz": job.rate_hz,
            "sequence": "holding 0 uint16",
        }
    return found


def _patient(job: Job, plan: Plan) -> Job:
    """Agents take part once nearly all of their training parts went by."""
    window = job.window
    least = []
    for plant in plan.plants:
        parts = [each for each in plant.sources if each.get("split") == "train"]
        samples = [float(str(each["seconds"])) * job.rate_hz for each in parts]
        windows = sum((n - window.length) // (window.stride or window.length) + 1 for n in samples)
        least.append(int(LEAST_SHARE * windows))
    federation = msgspec.structs.replace(job.federation, min_examples=min(least))
    return msgspec.structs.replace(job, federation=federation)


def _command(files: Sequence[Path], protocol: Protocol, port: int, job: Job) -> list[str]:
    return [
        "simulate",
        *map(str, files),
        *("--protocol", protocol, "--port", str(port)),
        *("--rate", str(job.rate_hz), "--block", str(BLOCK_SECONDS)),
        *("--scale", str(COUNT_G), "--hold"),
    ]


def listening(states: Sequence[Path]) -> bool:
    """Whether every agent, whose state folders these are, has the job and reads all its lines.

    They tell it every few seconds.
    """
    return all(_listens(state / "status.json") for state in states)


def _listens(path: Path) -> bool:
    try:
        told = msgspec.json.decode(path.read_bytes(), type=_Told)
    except (OSError, msgspec.MsgspecError):
        return False
    return bool(told.state.jobs) and all(each.connections for each in told.sources.values())


class _Standing(msgspec.Struct):
    connections: int = 0


class _Jobs(msgspec.Struct):
    jobs: dict[str, object] = {}


class _Told(msgspec.Struct):
    """What an agent says of itself, as far as it matters here."""

    state: _Jobs
    sources: dict[str, _Standing] = {}
