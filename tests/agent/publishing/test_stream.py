# SPDX-License-Identifier: Apache-2.0
"""From the store to the broker: in order, none passed over, never more than a few in flight."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.kit import Journal

from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.publishing.outlet import IN_FLIGHT, Outlet
from fedmill_agent.publishing.publisher import RETRY_SECONDS, Publisher
from fedmill_agent.publishing.stream import (
    MOST_GIVEN_UP,
    READ_AHEAD,
    REFUSED_SECONDS,
    TOLD_SECONDS,
)
from fedmill_agent.store import cursors
from fedmill_agent.store.bounds import Rules
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import BrokerError, StoreError
from fedmill_shared.job import Job, Labels, Signal, Task, Window
from fedmill_shared.link.base import Done, Rejection

JOB = Job(
    job=Task(name="oven"),
    signals=[Signal(name="heat")],
    window=Window(length=4),
    labels=Labels(classes=["good", "burnt"]),
)


class Wire:
    """Stands in for the agent's line: a test acknowledges, or does not."""

    def __init__(self) -> None:
        self.connected = True
        self.crowded = False
        self.largest = 10_000
        self.forbidden: set[str] = set()
        self.flying: list[tuple[bytes, Done, Rejection | None]] = []
        self.heard: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def publish(self, kind: str, job: str, payload: bytes, done: Done) -> None:
        """Take a message."""
        if len(payload) > self.largest:
            raise BrokerError("too large")
        assert self.connected
        topic = f"gw-1/out/{kind}/{job}"
        no = Rejection(topic, "Not authorized", "check the ACL") if kind in self.forbidden else None
        self.flying.append((payload, done, no))

    def acknowledge(self, count: int = 1000) -> None:
        """The broker answers the oldest ``count``."""
        taken, self.flying = self.flying[:count], self.flying[count:]
        for payload, done, no in taken:
            (self.heard if no is None else self.refused).append(json.loads(payload))
            done(no)

    def ends(self) -> list[int]:
        """Which windows were told of."""
        return [each["time_ns"] for each in self.heard]


class Desk:
    """A job's store with what publishes it; restarts as a process does."""

    def __init__(self, folder: Path, max_bytes: int = 1 << 22, **options: Any) -> None:
        self.path = folder / "w.sqlite"
        self.clock, self.journal, self.wire = ManualClock(), Journal(), Wire()
        self.max_bytes = max_bytes
        self.options = InferenceSection(**({"publish": "all"} | options))
        self.newest: Prediction | None = None
        self.made = 0
        self.open()

    def open(self) -> None:
        """The agent starts."""
        self.store = WindowStore(
            self.path, clock=self.clock, max_bytes=self.max_bytes, max_age_seconds=1e9,
            rules=Rules(),
        )  # fmt: skip
        self.outlet = Outlet(self.wire, lambda call: call())
        self.publisher = self.publishing("oven")

    def publishing(self, name: str) -> Publisher:
        """What publishes a job of this name."""
        return Publisher(
            "gw-1",
            Job(job=Task(name=name), signals=JOB.signals, window=JOB.window, labels=JOB.labels),
            self.store,
            self.outlet,
            self.options,
            newest=lambda: self.newest,
            clock=self.clock,
            log=self.journal,
        )

    def predict(self, count: int) -> None:
        """The model says something of ``count`` windows."""
        outputs, now = np.array([0, 1], np.float32), self.clock.now_ns()
        said = [
            Prediction("r", n, "v", outputs, now, "oven-1")
            for n in range(self.made, self.made + count)
        ]
        self.made += count
        self.store.add_predictions(said)
        self.newest = said[-1]

    def deliver(self, rounds: int = 1000) -> None:
        """Publish and acknowledge until nothing more goes out."""
        for _ in range(rounds):
            self.outlet.pump()
            if not self.wire.flying:
                return
            self.wire.acknowledge()

    def crash(self) -> None:
        """The process ends without a word, and starts again; the broker keeps its session."""
        self.store.close()
        self.wire.acknowledge()
        self.open()

    def close(self) -> None:
        """Leave nothing open."""
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Makes desks and closes them."""
    made: list[Desk] = []

    def make(**options: Any) -> Desk:
        made.append(Desk(tmp_path / str(len(made)), **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


class TestOrder:
    def test_each_once_in_the_order_in_which_they_were_made(
        self, desk: Callable[..., Desk]
    ) -> None:
        """More than are read at once, in several goes."""
        made = desk()
        for count in (1, 2 * READ_AHEAD + 3, 5):
            made.predict(count)
            made.deliver()
        assert made.wire.ends() == list(range(made.made))

    def test_what_was_there_before_nobody_asked_for(
        self, desk: Callable[..., Desk], tmp_path: Path
    ) -> None:
        """Publishing begins with what comes after it was switched on."""
        path = tmp_path / "0"
        with WindowStore(
            path / "w.sqlite", clock=ManualClock(), max_bytes=1 << 22, max_age_seconds=1e9
        ) as store:
            store.add_predictions([Prediction("r", 77, "v", np.ones(2, np.float32), 1)])
        made = desk()
        made.predict(2)
        made.deliver()
        assert made.wire.ends() == [0, 1]

    def test_alarms_go_first(self, desk: Callable[..., Desk]) -> None:
        """They are what somebody waits for."""
        made = desk()
        made.predict(3)
        made.store.add_alarm("hot", "raised", 9, '{"value":7}')
        made.outlet.pump()
        first = json.loads(made.wire.flying[0][0])
        assert (first["name"], first["state"], first["record"]) == ("hot", "raised", {"value": 7})

    def test_alarms_alone(self, desk: Callable[..., Desk]) -> None:
        """Predictions are neither told nor remembered as told."""
        made = desk(publish="alarms")
        made.predict(3)
        made.store.add_alarm("hot", "raised", 9, "{}")
        made.deliver()
        assert [each["name"] for each in made.wire.heard] == ["hot"]
        assert made.store.publication("predictions")[0] is None


class TestFlight:
    def test_never_more_than_a_few(self, desk: Callable[..., Desk]) -> None:
        """However many wait; one more goes out for each that has arrived."""
        made = desk()
        made.predict(100)
        made.outlet.pump()
        assert len(made.wire.flying) == IN_FLIGHT
        made.wire.acknowledge(3)
        for n in range(20):
            made.store.add_alarm("hot", "raised", n, "{}")
        made.publisher.tick()
        made.outlet.pump()
        assert len(made.wire.flying) == IN_FLIGHT

    def test_jobs_share_it(self, desk: Callable[..., Desk]) -> None:
        """One with a long backlog leaves room for another."""
        made = desk()
        made.publishing("press")
        made.predict(100)
        made.outlet.pump()
        jobs = [json.loads(payload)["job"] for payload, *_ in made.wire.flying]
        assert [jobs.count(name) for name in ("oven", "press")] == [IN_FLIGHT // 2] * 2

    @pytest.mark.parametrize("state", ["connected", "crowded"])
    def test_rounds_go_first(self, desk: Callable[..., Desk], state: str) -> None:
        """Nothing goes out while much else waits for the broker, or while nobody would get it."""
        made = desk()
        setattr(made.wire, state, state == "crowded")
        made.predict(5)
        made.outlet.pump()
        assert made.wire.flying == []
        setattr(made.wire, state, state == "connected")
        made.deliver()
        assert made.wire.ends() == list(range(5))


class TestCrash:
    def test_nothing_is_lost_and_what_comes_twice_has_the_same_id(
        self, desk: Callable[..., Desk]
    ) -> None:
        """What was in flight, or acknowledged in the last second, is told again."""
        made = desk()
        made.predict(20)
        made.deliver(1)
        made.publisher.tick()
        made.outlet.pump()
        made.crash()
        made.predict(5)
        made.deliver()
        assert sorted(set(made.wire.ends())) == list(range(25))
        ids = {each["time_ns"]: each["id"] for each in made.wire.heard}
        assert len(set(ids.values())) == 25
        assert all(each["id"] == ids[each["time_ns"]] for each in made.wire.heard)
        assert len(made.wire.heard) - 25 <= IN_FLIGHT

    def test_after_a_farewell_nothing_comes_twice(self, desk: Callable[..., Desk]) -> None:
        """The place is kept when the job is closed."""
        made = desk()
        made.predict(20)
        made.deliver()
        made.publisher.close()
        made.crash()
        made.predict(1)
        made.deliver()
        assert made.wire.ends() == list(range(21))

    @given(
        steps=st.lists(
            st.sampled_from(
                [
                    *("predict", "pump", "acknowledge", "tick", "crash", "away", "back"),
                    *("forbid", "allow", "wait"),
                ]
            ),
            max_size=30,
        )
    )
    @settings(max_examples=40)
    def test_at_least_once_in_order(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[str]
    ) -> None:
        """Whatever happens when: all arrive, and new ones in the order in which they were made."""
        made = Desk(tmp_path_factory.mktemp("d"))
        for step in steps:
            match step:
                case "predict":
                    made.predict(3)
                case "pump":
                    made.outlet.pump()
                case "acknowledge":
                    made.wire.acknowledge(2)
                case "tick":
                    made.publisher.tick()
                case "crash":
                    made.crash()
                case "forbid":
                    made.wire.forbidden = {"prediction"}
                case "allow":
                    made.wire.forbidden = set()
                case "wait":
                    made.clock.advance(REFUSED_SECONDS)
                case _:
                    made.wire.connected = step == "back"
        made.wire.connected = True
        made.wire.forbidden = set()
        made.wire.acknowledge()
        made.clock.advance(REFUSED_SECONDS)
        made.publisher.tick()
        made.deliver()
        first = list(dict.fromkeys(made.wire.ends()))
        assert first == list(range(made.made))
        made.close()


class TestRefusal:
    """A broker that answers, and does not take it."""

    def test_it_is_no_acknowledgement(self, desk: Callable[..., Desk]) -> None:
        """The rows stay, and come in order once the broker takes them, each once."""
        made = desk()
        made.predict(3)
        made.deliver()
        made.wire.forbidden = {"prediction"}
        made.predict(20)
        made.deliver()
        made.publisher.tick()
        assert made.store.publication("predictions") == (3, 0)
        made.wire.forbidden = set()
        made.clock.advance(REFUSED_SECONDS)
        made.deliver()
        made.publisher.tick()
        assert made.wire.ends() == list(range(23))
        assert made.store.publication("predictions") == (23, 0)

    def test_one_is_tried_once_a_minute(self, desk: Callable[..., Desk]) -> None:
        """However often the loop turns and however many wait: always the oldest."""
        made = desk()
        made.wire.forbidden = {"prediction"}
        made.predict(100)
        made.deliver()
        assert [each["time_ns"] for each in made.wire.refused] == list(range(IN_FLIGHT))
        made.wire.refused.clear()
        for _ in range(3):
            for _ in range(6):
                made.clock.advance(REFUSED_SECONDS / 6)
                made.predict(1)
                made.publisher.tick()
                made.outlet.pump()
                made.outlet.pump()
                assert len(made.wire.flying) <= 1
                made.wire.acknowledge()
        assert [each["time_ns"] for each in made.wire.refused] == [0, 0, 0]

    def test_it_is_told_once_and_that_it_is_over(self, desk: Callable[..., Desk]) -> None:
        """Which topic, why, and what to do; and again when it begins again."""
        made = desk()
        for _ in range(2):
            made.wire.forbidden = {"prediction"}
            made.predict(20)
            for _ in range(5):
                made.deliver()
                made.clock.advance(REFUSED_SECONDS)
            assert len(made.journal.of("publication.resumed")) < len(
                told := made.journal.of("publication.refused")
            )
            made.wire.forbidden = set()
            made.deliver()
            assert len(made.journal.of("publication.resumed")) == len(told)
        assert len(told) == 2
        assert (told[0]["kind"], told[0]["topic"]) == ("prediction", "gw-1/out/prediction/oven")
        assert told[0]["reason"] == "Not authorized"
        assert told[0]["remedy"].startswith("check the ACL; ")

    @pytest.mark.parametrize(
        ("forbidden", "told"), [("prediction", ["hot"] * 20), ("alarm", list(range(20)))]
    )
    def test_others_go_on(self, desk: Callable[..., Desk], forbidden: str, told: list[Any]) -> None:
        """Alarms beside refused predictions, and predictions beside refused alarms."""
        made = desk()
        made.wire.forbidden = {forbidden}
        for n in range(20):
            made.predict(1)
            made.store.add_alarm("hot", "raised", n, "{}")
            made.publisher.tick()
            made.deliver()
        assert [each.get("name", each["time_ns"]) for each in made.wire.heard] == told

    def test_others_go_on_where_each_job_has_one_place(self, desk: Callable[..., Desk]) -> None:
        """A refused stream holds none while it waits."""
        made = desk()
        for n in range(IN_FLIGHT):
            made.publishing(f"press-{n}")
        made.wire.forbidden = {"alarm"}
        made.store.add_alarm("hot", "raised", 1, "{}")
        made.predict(3)
        made.deliver()
        assert made.outlet.share == 1
        assert {each["time_ns"] for each in made.wire.heard} == {0, 1, 2}

    def test_some_are_taken_behind_a_refused_one(self, desk: Callable[..., Desk]) -> None:
        """All behind it are told again, with the same ids; none is passed over."""
        made = desk()
        made.predict(8)
        made.outlet.pump()
        payload, done, _ = made.wire.flying[3]
        made.wire.flying[3] = payload, done, Rejection("t", "Quota exceeded", "raise it")
        made.wire.acknowledge()
        made.publisher.tick()
        assert made.store.publication("predictions") == (3, 0)
        made.clock.advance(REFUSED_SECONDS)
        made.deliver()
        assert made.wire.ends() == [0, 1, 2, 4, 5, 6, 7, *range(3, 8)]
        assert len({each["id"] for each in made.wire.heard}) == 8
        assert len(made.journal.of("publication.refused")) == 1

    def test_what_is_in_memory_is_bounded(self, desk: Callable[..., Desk]) -> None:
        """Rows wait in the store alone; those that it gives up meanwhile are counted, not tried."""
        made = desk(max_bytes=1 << 18)
        made.wire.forbidden = {"prediction"}
        for _ in range(10):
            made.predict(50)
            made.publisher.tick()
            made.deliver()
            [_, stream] = made.publisher._streams
            assert (stream.flying, len(stream._waiting)) == (0, 0)
        made.wire.forbidden = set()
        made.clock.advance(REFUSED_SECONDS)
        made.deliver()
        made.publisher.tick()
        arrived = made.wire.ends()
        assert arrived == list(range(500 - len(arrived), 500))
        assert made.store.publication("predictions") == (500, 500 - len(arrived))

    def test_what_became_too_old_meanwhile_is_given_up(self, desk: Callable[..., Desk]) -> None:
        """And counted; the next one is tried in its place."""
        made = desk(publish_max_age_seconds=3600.0)
        made.wire.forbidden = {"prediction"}
        made.predict(10)
        made.deliver()
        made.clock.advance(3601.0)
        made.predict(5)
        made.wire.refused.clear()
        made.publisher.tick()
        made.deliver()
        assert [each["time_ns"] for each in made.wire.refused] == [10]
        made.publisher.tick()
        assert made.store.publication("predictions") == (10, 10)

    def test_a_crash_forgets_nothing(self, desk: Callable[..., Desk]) -> None:
        """What was refused before is told after another start."""
        made = desk()
        made.wire.forbidden = {"prediction"}
        made.predict(5)
        made.deliver()
        made.crash()
        made.wire.forbidden = set()
        made.predict(1)
        made.deliver()
        assert made.wire.ends() == list(range(6))


class TestBounds:
    def test_what_the_store_gives_up_is_counted_and_told(self, desk: Callable[..., Desk]) -> None:
        """The oldest go while the broker is away; the rest arrives in order."""
        made = desk(max_bytes=1 << 18)
        made.wire.connected = False
        for _ in range(10):
            made.predict(50)
        made.wire.connected = True
        made.deliver()
        made.publisher.tick()
        arrived = made.wire.ends()
        assert arrived == list(range(500 - len(arrived), 500))
        [told] = made.journal.of("publication.lost")
        assert (told["kind"], told["records"]) == ("prediction", 500 - len(arrived))

    def test_it_is_told_once_a_minute(self, desk: Callable[..., Desk]) -> None:
        """With how many since the last time, and ever."""
        made = desk(publish_max_age_seconds=10.0)
        for _ in range(3):
            made.predict(2)
            made.clock.advance(11.0)
            made.deliver()
            made.publisher.tick()
            made.publisher.tick()
        made.clock.advance(TOLD_SECONDS)
        made.publisher.tick()
        told = made.journal.of("publication.lost")
        assert [(each["records"], each["ever"]) for each in told] == [(2, 2), (4, 6)]

    def test_what_is_too_old_is_given_up(self, desk: Callable[..., Desk]) -> None:
        """The others behind it are told."""
        made = desk(publish_max_age_seconds=3600.0)
        made.wire.connected = False
        made.predict(3)
        made.clock.advance(2.0)
        made.predict(2)
        made.clock.advance(3599.0)
        made.wire.connected = True
        made.deliver()
        made.publisher.tick()
        assert made.wire.ends() == [3, 4]
        assert made.store.publication("predictions") == (5, 3)

    def test_many_that_are_too_old_hold_up_no_window(self, desk: Callable[..., Desk]) -> None:
        """After weeks without a broker they are given up some at a time; none is passed over."""
        made = desk(publish_max_age_seconds=3600.0)
        made.predict(2 * MOST_GIVEN_UP + 1)
        made.clock.advance(3601.0)
        made.predict(1)
        for turn in range(1, 3):
            made.outlet.pump()
            made.publisher.tick()
            given_up = turn * MOST_GIVEN_UP
            assert made.store.publication("predictions") == (given_up, given_up)
        assert made.wire.flying == []
        made.deliver()
        assert made.wire.ends() == [2 * MOST_GIVEN_UP + 1]

    def test_what_is_too_large_for_the_broker_is_given_up(self, desk: Callable[..., Desk]) -> None:
        """It would hold up all that comes behind it, for ever."""
        made = desk()
        made.wire.largest = 500
        made.store.add_alarm("hot", "raised", 1, json.dumps({"text": "x" * 1000}))
        made.store.add_alarm("hot", "cleared", 2, "{}")
        made.deliver()
        made.publisher.tick()
        assert [each["state"] for each in made.wire.heard] == ["cleared"]
        assert made.store.publication("alarms") == (2, 1)
        assert len(made.journal.of("message.unsent")) == 1


class TestFaults:
    def test_a_fresh_file_is_told_from_its_beginning(self, desk: Callable[..., Desk]) -> None:
        """The damaged one was set aside, with the place and all that was told."""
        made = desk()
        made.predict(9)
        made.deliver()
        made.publisher.tick()
        made.store.close()
        made.path.unlink()
        made.store._database = made.store._open(made.path)
        made.predict(2)
        made.publisher.tick()
        made.deliver()
        assert made.wire.ends() == list(range(11))

    def test_numbers_that_are_given_again_are_told(self, desk: Callable[..., Desk]) -> None:
        """The newest rows were given up after they had been told."""
        made = desk()
        made.predict(9)
        made.deliver()
        made.publisher.tick()
        made.store._database.execute("DELETE FROM predictions WHERE id > 4")
        cursors.settle(made.store._database, "predictions")
        made.predict(1)
        made.publisher.tick()
        made.deliver()
        assert made.wire.ends() == list(range(10))

    def test_numbers_that_were_given_up_in_flight_are_told(self, desk: Callable[..., Desk]) -> None:
        """The broker has them a moment after the store let them go."""
        made = desk()
        made.predict(8)
        made.outlet.pump()
        made.store._database.execute("DELETE FROM predictions WHERE id > 4")
        cursors.settle(made.store._database, "predictions")
        made.wire.acknowledge()
        made.publisher.tick()
        made.predict(3)
        made.publisher.tick()
        made.deliver()
        assert made.wire.ends() == list(range(11))

    def test_what_a_fresh_file_loses_is_told(self, desk: Callable[..., Desk]) -> None:
        """It counts from the beginning, and so does who tells it."""
        made = desk(publish_max_age_seconds=10.0)
        made.predict(6)
        made.clock.advance(11.0)
        made.deliver()
        made.publisher.tick()
        made.publisher.tick()
        made.store.close()
        made.path.unlink()
        made.store._database = made.store._open(made.path)
        made.publisher.tick()
        made.predict(2)
        made.clock.advance(TOLD_SECONDS)
        made.deliver()
        made.publisher.tick()
        made.publisher.tick()
        told = made.journal.of("publication.lost")
        assert [(each["records"], each["ever"]) for each in told] == [(6, 6), (2, 2)]

    def test_a_store_that_fails_is_left_alone_for_a_while(self, desk: Callable[..., Desk]) -> None:
        """It is told once, and nothing else of the agent stops."""
        made = desk()
        made.predict(2)
        made.store.close()
        for _ in range(5):
            made.outlet.pump()
            made.publisher.tick()
        assert len(made.journal.of("publication.delayed")) == 1
        made.clock.advance(RETRY_SECONDS)
        made.outlet.pump()
        assert len(made.journal.of("publication.delayed")) == 2

    def test_a_farewell_does_not_wait_for_a_store_that_failed(
        self, desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may work again by then: the place is kept, and nothing comes twice."""
        made = desk()
        made.predict(5)
        made.deliver()

        def fails(_table: str) -> None:
            raise StoreError("the disk is away")

        with monkeypatch.context() as away:
            away.setattr(made.store, "publication", fails)
            made.publisher.tick()
        made.publisher.close()
        assert made.store.publication("predictions") == (5, 0)
