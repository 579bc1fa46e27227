# SPDX-License-Identifier: Apache-2.0
"""From predictions to what people are told of alarms, across restarts and disks that fail."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.agent.kit import Journal, a_job

from fedmill_agent.alarms import book
from fedmill_agent.alarms.book import FILE, active, read
from fedmill_agent.alarms.record import LARGEST, AlarmRecord, encode
from fedmill_agent.alarms.teller import SAID_SECONDS, SAVE_SECONDS
from fedmill_agent.alarms.watch import AlarmWatch, Tools
from fedmill_agent.explaining.explanation import Cause, Explanation
from fedmill_agent.inference.scored import Scored
from fedmill_agent.store.alarms import AlarmRow
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.uncertainty.calibration import describe
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ModelError, StoreError
from fedmill_shared.job import Alarm, Job
from fedmill_shared.signals.windows import Window

SECOND = 10**9
LIMIT = Alarm(name="short-life", below=10.0, clear=20.0, windows=2, per_hour=0, remedy="order one")
EXPLANATION = Explanation("vibration carries all of it", (Cause("vibration", 1.0),))


def numbers(*alarms: Alarm) -> Job:
    """A job that foretells hours."""
    return msgspec.structs.replace(a_job(task="regression"), alarms=list(alarms or (LIMIT,)))


class Shelf:
    """A journal in memory, on a disk that may fail."""

    def __init__(self) -> None:
        self.rows: list[AlarmRow] = []
        self.full = False

    def add_alarm(self, name: str, state: str, at_ns: int, record: str) -> int:
        """Keep a record."""
        if self.full:
            raise StoreError("windows.sqlite: database or disk is full")
        self.rows.append(AlarmRow(len(self.rows) + 1, name, state, at_ns, record))
        return len(self.rows)

    def alarms(self, limit: int = 1000) -> list[AlarmRow]:
        """The newest records."""
        return self.rows[-limit:]


@dataclass
class Explainer:
    """Says always the same, and remembers what it was asked."""

    noted: list[str] = field(default_factory=list)
    asked: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    fails: bool = False

    def note(self, window: Window) -> None:
        """A usual window."""
        self.noted.append(window.unit)

    def explain(self, window: Window, classes: Sequence[str]) -> Explanation:
        """Why it is an alarm."""
        self.asked.append((window.unit, classes))
        if self.fails:
            raise ModelError("the model failed to run")
        return EXPLANATION


@dataclass
class Plant:
    """An agent's alarms in a folder of their own."""

    folder: Path
    job: Job = field(default_factory=numbers)
    clock: ManualClock = field(default_factory=ManualClock)
    shelf: Shelf = field(default_factory=Shelf)
    explainer: Explainer = field(default_factory=Explainer)
    journal: Journal = field(default_factory=Journal)
    index: int = 0

    def __post_init__(self) -> None:
        """The agent starts."""
        self.start()

    def start(self) -> None:
        """As after a restart, or a kill."""
        tools = Tools(self.explainer, self.shelf)
        self.watch = AlarmWatch(self.job, self.folder, tools, clock=self.clock, log=self.journal)

    def restart(self) -> None:
        """In order."""
        self.watch.close()
        self.start()

    def say(self, *outputs: float | Sequence[float], unit: str = "m1") -> None:
        """The model says numbers, or logits, of the next windows; one a second."""
        for each in outputs:
            self.index += 1
            self.clock.advance(1.0)
            window = Window(
                "run",
                unit,
                self.index * SECOND,
                (self.index + 1) * SECOND - 1,
                np.zeros((1, 8), np.float32),
                1.0,
                self.index,
            )
            row = np.array([np.atleast_1d(each)], np.float32)
            scored = Scored([window], row, None, "v" * 64, self.clock.now_ns(), 7)
            self.watch.observe(structs.replace(scored, sure=describe(self.job, row, None)))

    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.advance(seconds)
        self.watch.tick()

    @property
    def told(self) -> list[AlarmRecord]:
        """What the journal has."""
        return [msgspec.json.decode(row.record, type=AlarmRecord) for row in self.shelf.rows]

    @property
    def states(self) -> list[str]:
        """What it says, one after the other."""
        return [record.state for record in self.told]

    @property
    def logged(self) -> list[str]:
        """What the log says of alarms."""
        return [name for name, _ in self.journal.entries if name.startswith("alarm")]


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A job that foretells hours, with an alarm below ten."""
    made = Plant(tmp_path)
    yield made
    made.watch.close()


class TestRecord:
    def test_it_says_what_where_and_what_to_do(self, plant: Plant) -> None:
        """All that is known when it is raised."""
        plant.say(50, 9, 8)
        [record] = plant.told
        assert record == AlarmRecord(
            number=record.number,
            alarm="short-life",
            severity="warning",
            state="raised",
            unit="m1",
            run="run",
            since_ns=2 * SECOND,
            start_ns=3 * SECOND,
            end_ns=4 * SECOND - 1,
            told_ns=plant.clock.now_ns(),
            version="v" * 64,
            version_number=7,
            value=8.0,
            value_unit="h",
            cause="vibration carries all of it",
            causes=EXPLANATION.causes,
            remedy="order one",
        )
        row = plant.shelf.rows[0]
        assert (row.name, row.state, row.at_ns) == ("short-life", "raised", record.end_ns)

    def test_the_log_has_it_too(self, plant: Plant) -> None:
        """One line, with what people need."""
        plant.say(9, 8)
        [line] = plant.journal.of("alarm.raised")
        assert line == {
            "alarm": "short-life",
            "severity": "warning",
            "unit": "m1",
            "predicted": 8.0,
            "cause": "vibration carries all of it",
            "remedy": "order one",
            "suppressed": 0,
        }

    def test_when_it_is_over_it_says_since_when_it_was(self, plant: Plant) -> None:
        """And no cause: there is none any more."""
        plant.say(9, 8, 15, 30, 40)
        raised, cleared = plant.told
        assert (cleared.state, cleared.since_ns, cleared.cause) == ("cleared", raised.since_ns, "")
        assert cleared.value == 40.0
        assert plant.logged == ["alarm.raised", "alarm.cleared"]

    def test_classes_with_their_probability(self, tmp_path: Path) -> None:
        """In the words of the job; the explanation is asked for the alarm's classes."""
        alarm = Alarm(name="worn", classes=["worn"], windows=1, least_confidence=0.8)
        job = msgspec.structs.replace(a_job(), alarms=[alarm])
        plant = Plant(tmp_path, job)
        plant.say([0, 1], [0, 3])
        [record] = plant.told
        assert (record.predicted, record.value) == ("worn", None)
        assert record.confidence == pytest.approx(1 / (1 + np.exp(-3)))
        assert b'"class":"worn"' in encode(record).encode()
        assert plant.explainer.asked == [("m1", ["worn"])]

    def test_one_that_cannot_be_explained_is_told_all_the_same(self, plant: Plant) -> None:
        """Without a cause."""
        plant.explainer.fails = True
        plant.say(9, 8)
        assert [record.cause for record in plant.told] == [""]
        assert plant.logged == ["alarm.unexplained", "alarm.raised"]

    @given(seed=st.text(min_size=1, max_size=6), many=st.integers(0, 8))
    @example(seed="\x01", many=8)
    @example(seed="\N{SNOWMAN}", many=2)
    def test_it_fits_its_row_whatever_is_in_it(self, seed: str, many: int) -> None:
        """Names come from outside, and a character may take six bytes."""
        text = seed * 500
        record = AlarmRecord(
            number=1,
            alarm="a" * 32,
            severity="critical",
            state="raised",
            unit=text[:120],
            run=text[:120],
            since_ns=1,
            start_ns=1,
            end_ns=1,
            told_ns=1,
            version="v" * 64,
            predicted=text[:120],
            plausible=(text[:120],) * many,
            cause=text[:400],
            causes=(Cause(text[:200], 1.0),) * min(many, 3),
            remedy=text[:500],
        )
        told = encode(record)
        assert len(told.encode()) <= LARGEST
        known = msgspec.json.decode(told, type=AlarmRecord)
        assert (known.unit, known.run, known.predicted) == (text[:120],) * 3
        rest = [
            name for name in ("plausible", "causes", "remedy", "cause") if getattr(record, name)
        ]
        kept = [getattr(known, name) == getattr(record, name) for name in rest]
        assert kept == sorted(kept), "what it can do without goes first"


class TestMachines:
    def test_each_machine_has_its_own_row(self, plant: Plant) -> None:
        """Windows of one do not go on with those of another."""
        plant.say(9, unit="m1")
        plant.say(9, unit="m2")
        assert plant.told == []
        plant.say(9, unit="m2")
        assert [record.unit for record in plant.told] == ["m2"]

    def test_where_nobody_named_the_machine_it_is_the_run(self, plant: Plant) -> None:
        """Something must tell them apart."""
        plant.say(9, 9, unit="")
        assert [record.unit for record in plant.told] == ["run"]

    def test_alarms_of_a_job_stand_for_themselves(self, tmp_path: Path) -> None:
        """One may be raised while another is not."""
        soon = Alarm(name="now", below=2.0, windows=1)
        plant = Plant(tmp_path, numbers(LIMIT, soon))
        plant.say(9, 9, 1)
        assert [record.alarm for record in plant.told] == ["short-life", "now"]

    def test_alarms_of_one_moment_have_numbers_of_their_own(self, tmp_path: Path) -> None:
        """Each larger than the one before, and each is in the log; also after a restart."""
        both = [structs.replace(LIMIT, windows=1, name=name) for name in ("one", "two")]
        plant = Plant(tmp_path, numbers(*both))
        plant.say(9)
        plant.clock.advance(-1.0)  # it was set back
        plant.restart()
        plant.say(50)
        told = [record.number for record in plant.told]
        assert told == sorted(set(told))
        assert plant.logged == ["alarm.raised"] * 2 + ["alarm.cleared"] * 2

    def test_usual_windows_are_noted(self, plant: Plant) -> None:
        """Only those of a machine without an alarm, that raise none."""
        plant.say(50, 15, 9, 9, 50, 50, 50)
        assert len(plant.explainer.noted) == 2  # the first and the last: then it had ended

    def test_machines_without_end_are_forgotten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those at rest first, quietly; one whose alarm is raised with a word in the log."""
        monkeypatch.setattr(book, "MOST_ENTRIES", 5)
        plant = Plant(tmp_path)
        plant.say(9, unit="quiet")
        for n in range(6):
            plant.say(9, 9, unit=f"part-{n}")
        assert [each["unit"] for each in plant.journal.of("alarm.forgotten")] == ["part-0"]

    def test_a_machine_at_rest_takes_no_room(self, plant: Plant) -> None:
        """Neither where a row has come to nothing, nor where an alarm has ended."""
        plant.say(9, unit="once")
        plant.say(9, 9)
        plant.watch.close()
        assert list(read(plant.folder / FILE).entries["short-life"]) == ["once", "m1"]
        plant.say(50, unit="once")
        plant.say(50, 50)
        plant.watch.close()
        assert read(plant.folder / FILE).entries == {}


class TestTime:
    def test_what_the_limit_held_back_is_told_when_it_may(self, tmp_path: Path) -> None:
        """Also where no more windows come; with the count."""
        rules = {"windows": 1, "per_hour": 2, "clear": None}
        plant = Plant(tmp_path, numbers(msgspec.structs.replace(LIMIT, **rules)))
        plant.say(9, 50, 9, 50, 9)
        assert plant.states == ["raised", "cleared"]
        plant.wait(3600)
        assert plant.states == ["raised", "cleared", "raised"]
        assert plant.told[-1].suppressed == 1
        assert plant.told[-1].told_ns == plant.clock.now_ns()
        plant.wait(3600)
        assert len(plant.told) == 3

    def test_a_late_end_is_told(self, tmp_path: Path) -> None:
        """Of what people know of."""
        rules = {"windows": 1, "per_hour": 1}
        plant = Plant(tmp_path, numbers(msgspec.structs.replace(LIMIT, **rules)))
        plant.say(9, 50)
        plant.wait(3600)
        assert plant.states == ["raised", "cleared"]
        assert plant.told[-1].cause == ""

    def test_a_late_end_is_that_of_the_window_that_ended_it(self, tmp_path: Path) -> None:
        """Not of the one that raised it: others order turns by their time."""
        rules = {"windows": 1, "per_hour": 1}
        plant = Plant(tmp_path, numbers(msgspec.structs.replace(LIMIT, **rules)))
        plant.say(9, 50, 51)
        plant.restart()
        plant.wait(3600)
        raised, cleared = plant.told
        assert (cleared.value, cleared.end_ns) == (50, raised.end_ns + SECOND)
        assert cleared.since_ns == raised.since_ns
        assert [row.at_ns for row in plant.shelf.rows] == [raised.end_ns, cleared.end_ns]

    def test_nothing_is_explained_that_is_not_told(self, tmp_path: Path) -> None:
        """It costs sixty windows."""
        rules = {"windows": 1, "per_hour": 1}
        plant = Plant(tmp_path, numbers(msgspec.structs.replace(LIMIT, **rules)))
        plant.say(*[9, 50] * 20)
        assert len(plant.explainer.asked) == 1

    def test_repeated(self, tmp_path: Path) -> None:
        """While windows say so."""
        plant = Plant(tmp_path, numbers(msgspec.structs.replace(LIMIT, repeat_seconds=3.0)))
        plant.say(*[9] * 8)
        assert plant.states == ["raised", "repeated", "repeated"]
        assert plant.logged == ["alarm.raised", "alarm.repeated", "alarm.repeated"]


class TestRestart:
    def test_a_row_goes_on(self, plant: Plant) -> None:
        """In order, nothing is lost."""
        plant.say(9)
        plant.restart()
        plant.say(9)
        assert plant.states == ["raised"]

    def test_a_kill_tells_nothing_twice_and_forgets_no_alarm(self, plant: Plant) -> None:
        """What was told is on the disk."""
        plant.say(9, 9)
        plant.start()
        plant.say(9, 9)
        assert plant.states == ["raised"]
        plant.say(50, 50)
        plant.start()
        plant.say(50, 50)
        assert plant.states == ["raised", "cleared"]

    def test_rows_that_came_to_nothing_yet_are_written_from_time_to_time(
        self, plant: Plant
    ) -> None:
        """Not with every window."""
        plant.say(9)
        plant.start()
        plant.say(9)
        assert plant.states == [], "the row was not written"
        plant.wait(SAVE_SECONDS)
        plant.start()
        plant.say(9)
        assert plant.states == ["raised"]

    def test_killed_between_writing_down_and_telling(self, plant: Plant) -> None:
        """It is told after the restart, once."""
        plant.shelf.full = True
        plant.say(9, 9)
        plant.start()
        plant.shelf.full = False
        plant.watch.tick()
        plant.watch.tick()
        assert plant.states == ["raised"]

    def test_killed_between_telling_and_writing_that_down(self, plant: Plant) -> None:
        """The journal knows its number: it is not told twice."""
        plant.say(9)
        plant.say(9)
        page = read(plant.folder / FILE)
        assert len(page.waiting) == 1, "written before it was told"
        plant.start()
        plant.watch.tick()
        assert plant.states == ["raised"]

    def test_numbers_grow_even_if_the_file_is_lost(self, plant: Plant) -> None:
        """So that others can tell new from old."""
        plant.say(9, 9)
        (plant.folder / FILE).unlink()
        plant.start()
        plant.say(9, 9)
        first, second = plant.told
        assert second.number > first.number

    def test_a_damaged_file_is_told_and_begun_anew(self, plant: Plant) -> None:
        """Alarms that go on are raised again."""
        plant.say(9, 9)
        (plant.folder / FILE).write_bytes(b"\x93 nonsense")
        plant.start()
        plant.say(9, 9)
        assert len(plant.journal.of("alarms.unreadable")) == 1
        assert plant.states == ["raised", "raised"]

    def test_alarms_that_the_job_no_longer_has_are_forgotten(self, plant: Plant) -> None:
        """They can neither end nor be told."""
        plant.say(9, 9)
        plant.watch.close()
        again = Plant(plant.folder, numbers(msgspec.structs.replace(LIMIT, name="other")))
        again.say(9)
        again.watch.close()
        assert list(read(plant.folder / FILE).entries) == ["other"]

    @settings(max_examples=40)
    @given(
        steps=st.lists(
            st.tuples(st.sampled_from([5.0, 15.0, 50.0]), st.booleans(), st.integers(0, 1)),
            max_size=25,
        )
    )
    def test_restarts_change_nothing(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, bool, int]]
    ) -> None:
        """Whenever they come, what is told is the same."""
        job = numbers(msgspec.structs.replace(LIMIT, per_hour=3, repeat_seconds=2.0))
        whole = Plant(tmp_path_factory.mktemp("whole"), job)
        parted = Plant(tmp_path_factory.mktemp("parted"), job)
        for value, restart, machine in steps:
            for each in (whole, parted):
                each.say(value, unit=f"m{machine}")
            if restart:
                parted.restart()
        assert whole.told == parted.told


class TestFullDisk:
    def test_the_log_has_it_at_once_and_the_journal_later(self, plant: Plant) -> None:
        """Once each, in their order."""
        plant.shelf.full = True
        plant.say(9, 9, 50, 50)
        assert plant.logged[:2] == ["alarm.raised", "alarms.delayed"]
        assert plant.states == []
        plant.shelf.full = False
        plant.wait(1.0)
        assert plant.states == ["raised", "cleared"]
        assert plant.logged.count("alarm.raised") == 1

    def test_it_is_tried_again_once_a_second(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not with every batch of windows, which would wait for the disk each time."""
        plant.shelf.full, tried = True, []
        monkeypatch.setattr(plant.watch._book, "save", lambda: tried.append(1))
        plant.say(9, 9)
        for _ in range(100):
            window = Window("run", "m2", 0, 1, np.zeros((1, 8), np.float32), 1.0, 0)
            row = np.array([[99.0]], np.float32)
            scored = Scored([window], row, None, "v" * 64, plant.clock.now_ns(), 7)
            plant.watch.observe(structs.replace(scored, sure=describe(plant.job, row, None)))
        assert len(tried) == 1
        plant.wait(1.0)
        assert len(tried) == 2

    def test_it_is_complained_of_once_a_minute(self, plant: Plant) -> None:
        """Not with every window."""
        plant.shelf.full = True
        plant.say(9, 9, *[50, 9] * 10)
        assert len(plant.journal.of("alarms.delayed")) == 1
        plant.wait(SAID_SECONDS)
        assert len(plant.journal.of("alarms.delayed")) == 2

    def test_what_waits_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first word of each alarm outlives its repeats."""
        monkeypatch.setattr(book, "MOST_WAITING", 10)
        rules = {"windows": 1, "repeat_seconds": 0.5}
        plant = Plant(tmp_path, numbers(msgspec.structs.replace(LIMIT, **rules)))
        plant.shelf.full = True
        plant.say(*[9] * 30)
        plant.shelf.full = False
        plant.wait(1.0)
        assert len(plant.told) == 10
        assert plant.states[0] == "raised"

    def test_a_folder_that_cannot_be_written(self, plant: Plant) -> None:
        """People hear of it all the same."""
        plant.watch._book._path = plant.folder / "missing" / FILE
        plant.say(9, 9)
        assert plant.states == ["raised"]
        assert len(plant.journal.of("alarms.delayed")) == 1


class TestActive:
    def test_the_file_says_what_is_raised(self, plant: Plant) -> None:
        """For people, also while the agent runs."""
        assert active(read(plant.folder / FILE)) == []
        plant.say(9, 9, unit="m1")
        plant.say(9, 9, unit="m2")
        found = active(read(plant.folder / FILE))
        assert [record.unit for record in found] == ["m2", "m1"]
        plant.say(50, 50, unit="m1")
        assert [record.unit for record in active(read(plant.folder / FILE))] == ["m2"]

    def test_what_was_not_told_is_raised_as_well(self, tmp_path: Path) -> None:
        """It is so, whether people were told or not."""
        rules = {"windows": 1, "per_hour": 1}
        plant = Plant(tmp_path, numbers(msgspec.structs.replace(LIMIT, **rules)))
        plant.say(9, 50, 9)
        plant.watch.close()
        assert len(active(read(tmp_path / FILE))) == 1


def test_the_window_store_is_a_journal(tmp_path: Path) -> None:
    """Its rows are what other systems get."""
    clock = ManualClock()
    path = tmp_path / "windows.sqlite"
    with WindowStore(path, clock=clock, max_bytes=1 << 24, max_age_seconds=1e6) as store:
        plant = Plant(tmp_path)
        shelf: Any = store
        plant.shelf = shelf
        plant.start()
        plant.say(9, 9, 50, 50)
        rows = store.alarms()
        assert [(row.name, row.state) for row in rows] == [
            ("short-life", "raised"),
            ("short-life", "cleared"),
        ]
        records = [msgspec.json.decode(row.record, type=AlarmRecord) for row in rows]
        assert records[0].cause == EXPLANATION.text
