# SPDX-License-Identifier: Apache-2.0
"""An hour of a line's own time without the broker: the gateway misses nothing of its work."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from msgspec import json
from tests.faults.proxy import Proxy
from tests.system.fleet import COORDINATOR, Fleet, federation

from fedmill_agent.store.alarms import AlarmRow
from fedmill_agent.store.predictions import Prediction
from fedmill_coordinator.demo.recipes.plan import Plant
from fedmill_shared.job import (
    Alarm,
    Drift,
    Evaluation,
    Federation,
    Job,
    Labels,
    Learning,
    Mlp,
    Signal,
    Task,
    Window,
)
from fedmill_shared.link.base import LinkEvent, Message
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = [pytest.mark.system, pytest.mark.drill]

AGENT = "agent-1"
LINE = "line-line"
"""The run, by source and recording."""

RATE_HZ = 2.0
LENGTH = 20
WINDOW_NS = round(LENGTH / RATE_HZ * 1e9)
SPEED = 240.0
MINUTE = round(60 * RATE_HZ)
"""Samples of a minute."""
LEAK = range(30 * MINUTE, 37 * MINUTE)
SHIFT = range(40 * MINUTE, 52 * MINUTE)
"""When the sensor shows three bar too much."""
RECORDED = 120 * MINUTE
AWAY_NS = 3600 * 10**9
GROWTH_LIMIT = 8 << 20


def job() -> Job:
    """Two rounds of a pressure that drops where there is a leak."""
    return Job(
        job=Task(name="pressure"),
        signals=[Signal(name="pressure", unit="bar", rate_hz=RATE_HZ)],
        window=Window(length=LENGTH),
        labels=Labels(classes=["tight", "leak"]),
        model=Mlp(hidden=[8, 8]),
        learning=Learning(optimiser="sgd", learning_rate=0.1, momentum=0.0, steps=60),
        federation=Federation(rounds=2, minimum=1, deadline_seconds=10.0),
        evaluation=Evaluation(every=0),
        alarms=[Alarm(name="leak", classes=["leak"], windows=3, remedy="close valve 7")],
        drift=Drift(watch=["input"], run_length=1000, warn_run_length=200, reference_windows=200),
    )


def pressure(leaks: Sequence[bool], seed: int) -> list[float]:
    """Bar, with some noise; a leak takes two of six."""
    noise = np.random.default_rng(seed).normal(scale=0.2, size=len(leaks))
    return [round(6.0 - 2.0 * leak + float(n), 4) for leak, n in zip(leaks, noise, strict=True)]


def write(path: Path, label: str, values: Sequence[float]) -> str:
    """A recording of one run."""
    rows = [f"{path.stem},{value},{label}" for value in values]
    path.write_text("\n".join(["run,pressure,label", *rows]) + "\n")
    return str(path)


def plant(folder: Path) -> Plant:
    """An agent with two recordings to learn from.

    What is usual is tight: the newest windows that are learned from.
    """
    recordings = {"leak": pressure([True] * 800, 1), "tight": pressure([False] * 6000, 0)}
    common = {"kind": "csv", "run_column": "run", "label_column": "label", "split": "train"}
    sources: list[dict[str, object]] = [
        common | {"name": label, "path": write(folder / f"{label}.csv", label, values)}
        for label, values in recordings.items()
    ]
    return Plant(AGENT, sources)


def line(folder: Path) -> str:
    """The configuration of a line that leaks for some minutes, and whose sensor is off later on.

    It is scored, four minutes of it a second.
    """
    values = pressure([number in LEAK for number in range(RECORDED)], 2)
    values = [value + 3.0 * (number in SHIFT) for number, value in enumerate(values)]
    path = write(folder / "line.csv", "", values)
    source = {"kind": "csv", "name": "line", "path": path, "run_column": "run", "split": "live"}
    return tomli_w.dumps({"sources": [source | {"speed": SPEED}]})


class Subscriber:
    """Another system of the plant, which hears all that the agent publishes."""

    def __init__(self, port: int) -> None:
        self.heard: dict[str, list[Any]] = {"prediction": [], "alarm": []}
        topic = f"fedmill/v1/{AGENT}/out/#"
        place = Endpoint(host="127.0.0.1", port=port, client_id="historian", subscriptions=[topic])
        self.link = MqttLink(place, self._hear)

    def _hear(self, event: LinkEvent) -> None:
        if isinstance(event, Message):
            kind = event.topic.split("/")[-2]
            self.heard[kind].append(json.decode(event.payload))

    def first(self, kind: str) -> list[Any]:
        """What was told, without repetitions."""
        return list({each["id"]: each for each in reversed(self.heard[kind])}.values())[::-1]


@contextmanager
def behind_a_line(folder: Path) -> Iterator[tuple[Fleet, Proxy, Subscriber]]:
    """A federation that has learned, whose agent reaches the broker by a line that can be cut."""
    folder.mkdir()
    running = federation(folder / "fleet", job(), [plant(folder)], only=[COORDINATOR])
    with running as fleet, Proxy(fleet.port) as proxy:
        config = fleet.layout.agents[AGENT]
        text = config.read_text().replace(f"port = {fleet.port}", f"port = {proxy.port}")
        config.write_text(f'{text}\n[inference]\npublish = "all"\n')
        subscriber = Subscriber(fleet.port)
        subscriber.link.start()
        try:
            fleet.start(AGENT)
            fleet.finish()
            fleet.end(AGENT)
            config.write_text(config.read_text() + line(folder))
            fleet.start(AGENT)
            yield fleet, proxy, subscriber
        finally:
            fleet.end(AGENT)
            subscriber.link.stop()


def newest(fleet: Fleet) -> int:
    """End (ns) of the newest window of the line that was scored."""
    return max((each.end_ns for each in line_of(fleet)), default=0)


def line_of(fleet: Fleet) -> list[Prediction]:
    """Predictions for the line, in their order."""
    with fleet.windows(AGENT) as store:
        return [each for each in store.predictions(100_000) if each.run == LINE]


def alarms_of(fleet: Fleet) -> list[AlarmRow]:
    """What became of alarms, in its order."""
    with fleet.windows(AGENT) as store:
        return store.alarms()


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What was seen before, during and after an hour without the broker."""
    seen: dict[str, Any] = {}
    with behind_a_line(tmp_path_factory.mktemp("hour") / "away") as (fleet, proxy, subscriber):
        fleet.wait("some of the line", lambda: len(line_of(fleet)) >= 10)
        proxy.refuse(refusing=True)
        proxy.cut()
        fleet.wait("away", lambda: not fleet.status(AGENT).connected)
        seen["left"], seen["before"] = newest(fleet), fleet.status(AGENT)
        heard = len(subscriber.first("prediction"))
        fleet.wait("an hour", lambda: newest(fleet) - seen["left"] >= AWAY_NS, 120.0)
        seen["back"], seen["away"] = newest(fleet), fleet.status(AGENT)
        seen["alarms away"] = [each for each in alarms_of(fleet) if each.at_ns > seen["left"]]
        seen["drift away"] = fleet.events(AGENT, "drift.alarmed")
        seen["told away"] = len(subscriber.first("prediction")) - heard
        proxy.heal()
        told = lambda: {each["time_ns"] for each in subscriber.first("prediction")}  # noqa: E731
        fleet.wait("all of it is told", lambda: seen["back"] in told())
        alarms = len(alarms_of(fleet))
        fleet.wait("and its alarms", lambda: len(subscriber.first("alarm")) == alarms)
        fleet.wait("told of itself", lambda: fleet.status(AGENT).connected)
        time.sleep(0.5)
        seen["stored"], seen["after"] = line_of(fleet), fleet.status(AGENT)
        seen["heard"] = {kind: list(told) for kind, told in subscriber.heard.items()}
        seen["first"] = {kind: subscriber.first(kind) for kind in subscriber.heard}
    return seen


class TestAnHourWithoutTheBroker:
    def test_every_window_is_scored(self, hour: dict[str, Any]) -> None:
        """None is left out: an hour has 360 of them, and they follow each other."""
        ends = [each.end_ns for each in hour["stored"] if each.end_ns <= hour["back"]]
        away = [end for end in ends if hour["left"] < end]
        assert len(away) >= 360
        assert {later - earlier for earlier, later in pairwise(ends)} == {WINDOW_NS}

    def test_a_leak_is_an_alarm_meanwhile(self, hour: dict[str, Any]) -> None:
        """It is raised and cleared with nobody there to hear of it."""
        assert [each.state for each in hour["alarms away"]] == ["raised", "cleared"]
        assert hour["left"] < hour["alarms away"][0].at_ns < hour["back"]

    def test_drift_is_watched_meanwhile(self, hour: dict[str, Any]) -> None:
        """A sensor that is off is a shift of the input, which the watch has noticed."""
        assert hour["drift away"]

    def test_nothing_is_told_while_it_is_away(self, hour: dict[str, Any]) -> None:
        """The line was really cut."""
        assert hour["told away"] <= 8

    def test_afterwards_all_is_told_in_order(self, hour: dict[str, Any]) -> None:
        """What other systems hear is what the store holds, from the first window to the last."""
        line = [each for each in hour["first"]["prediction"] if each["run"] == LINE]
        told = [each["time_ns"] for each in line if each["time_ns"] <= hour["back"]]
        assert told == [each.end_ns for each in hour["stored"] if each.end_ns <= hour["back"]]
        alarms = [each["state"] for each in hour["first"]["alarm"]]
        assert alarms[-2:] == ["raised", "cleared"]

    def test_what_is_told_twice_is_little(self, hour: dict[str, Any]) -> None:
        """Only what was in flight when the line was cut."""
        times = Counter(each["id"] for each in hour["heard"]["prediction"])
        assert sum(count - 1 for count in times.values()) <= 8

    def test_memory_does_not_grow_with_what_waits(self, hour: dict[str, Any]) -> None:
        """What waits is on disk."""
        before, *later = (hour[when].state.resident_bytes for when in ("before", "away", "after"))
        assert max(later) - before <= GROWTH_LIMIT
