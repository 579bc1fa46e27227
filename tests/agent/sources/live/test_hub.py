# SPDX-License-Identifier: Apache-2.0
"""The live sources of an agent: shared by its jobs, recorded, and changed while they run."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import Journal
from tests.agent.sources.live.scripted import Script, ScriptedOptions, ScriptedSession, block
from tests.waiting import PATIENCE, eventually

from fedmill_agent.config import StoreSection
from fedmill_agent.places import samples_file
from fedmill_agent.sources import hub as hub_module
from fedmill_agent.sources import recorder, subscriber, supervisor
from fedmill_agent.sources.backfill import Backfill
from fedmill_agent.sources.base import LabelInterval, Samples
from fedmill_agent.sources.hub import Hub
from fedmill_agent.sources.live import STALE, Readings, reading
from fedmill_agent.sources.recorder import Recorder
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.sources.wanted import Wanted
from fedmill_agent.store.samples import SampleStore, recording
from fedmill_agent.store.samples_reader import SampleReader
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import FedmillError, SourceError, StoreError

SECOND = 10**9
ALL = Backfill(-(1 << 62), lambda: None)


class Sink:
    """A job's end: remembers what comes, or holds it up."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []
        self.stop_at = 1 << 30  # samples
        self.go_on = threading.Event()
        self.go_on.set()
        self.held = threading.Event()
        self.changed = threading.Condition()

    def __call__(self, event: SourceEvent) -> bool:
        """Take an event."""
        if not self.go_on.is_set():
            self.held.set()
            assert self.go_on.wait(PATIENCE)
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()
        return len(self.rows) < self.stop_at

    @property
    def rows(self) -> list[list[float]]:
        """All samples."""
        return [
            row
            for each in self.events
            if isinstance(each.event, Samples)
            for row in each.event.values.T.tolist()
        ]

    @property
    def times(self) -> list[int]:
        """Their times."""
        return [
            each.event.start_ns + n * each.event.period_ns
            for each in self.events
            if isinstance(each.event, Samples)
            for n in range(each.event.values.shape[1])
        ]

    def until(self, done: Callable[[], object]) -> None:
        """Wait until ``done``."""
        with self.changed:
            assert self.changed.wait_for(done, PATIENCE), self.events[-3:]


class Plant:
    """A hub of scripted sources, and rings on disk where wanted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.clock, self.journal = folder, ManualClock(), Journal()
        self.scripts: dict[str, Script] = {}
        self.failed: list[FedmillError] = []
        self.begin = self.clock.now_ns()
        self.hub: Hub | None = None
        monkeypatch.setattr(hub_module, "live_of", lambda options: self.script(options.name).live)
        monkeypatch.setattr(supervisor, "READ_SECONDS", 0.02)
        monkeypatch.setattr(supervisor.Backoff, "wait", lambda *_, **__: 0.0)

    def script(self, name: str) -> Script:
        """Of one source, whose sessions are kept."""
        return self.scripts.setdefault(name, Script())

    def open(self, *sources: ScriptedOptions, record: bool = False, start: bool = True) -> Hub:
        """A hub of them."""
        self.hub = Hub(
            sources or [ScriptedOptions(name="line")],
            clock=self.clock,
            log=self.journal,
            failed=self.failed.append,
            **({"recording": self.recording} if record else {}),
        )
        if start:
            self.hub.start()
        return self.hub

    def recording(self, source: str) -> SampleStore | None:
        """A ring of some MB."""
        return recording(StoreSection(), str(self.folder), source, self.clock)

    def say(self, session: ScriptedSession, tag: str, value: float) -> None:
        """A value comes now."""
        now = self.clock.now_ns()
        session.shelf.put(reading(tag, value, time_ns=now, arrived_ns=now))

    def tell(self, session: ScriptedSession, tags: Sequence[str], first: int, count: int) -> None:
        """Values first, first + 1, ... of every tag, a second apart; time passes."""
        for n in range(first, first + count):
            self.clock.advance(self.begin / SECOND + n - self.clock.now_ns() / SECOND)
            for tag in tags:
                session.shelf.put(
                    reading(
                        tag,
                        n,
                        time_ns=self.begin + n * SECOND,
                        arrived_ns=self.begin + n * SECOND,
                    )
                )

    def until_delivered(self, session: ScriptedSession, count: int) -> None:
        """Wait until so many readings have been counted, and all who want them have them."""
        assert self.hub is not None
        hub = self.hub
        eventually(lambda: hub.standings()["line"].readings == count)
        reads = session.reads
        eventually(lambda: session.reads > reads)  # what was read before is handed over first

    def recorded(self, source: str = "line") -> dict[str, int]:
        """Readings in the ring."""
        with SampleReader(samples_file(str(self.folder), source)) as reader:
            return reader.counts()

    def close(self) -> None:
        """Close the hub; nothing is left."""
        if self.hub is not None:
            self.hub.close(PATIENCE)
        names = {thread.name for thread in threading.enumerate()}
        assert not {name for name in names if name.startswith(("source-", "backfill", "samples"))}


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """It is closed in the end."""
    made = Plant(tmp_path, monkeypatch)
    yield made
    made.close()


def wants(*tags: str, rate: float = 1.0, factors: Sequence[int] = ()) -> Wanted:
    """A job's wish."""
    return Wanted(tags, rate, tuple(factors) or (1,) * len(tags), (False,) * len(tags))


class TestSharing:
    def test_two_jobs_share_one_connection(self, plant: Plant) -> None:
        """It reads the tags of both, and each gets its own."""
        hub, first, second = plant.open(start=False), Sink(), Sink()
        hub.subscribe(1, "line", wants("a", "b"), first)
        hub.subscribe(2, "line", wants("c", "b", rate=0.5), second)
        hub.start()
        session = plant.script("line").session
        assert session.tags == ("a", "b", "c")
        for n in range(5):
            plant.clock.advance(1)
            for tag, value in (("a", 1.0), ("b", 2.0), ("c", 3.0 + n)):
                plant.say(session, tag, value)
        first.until(lambda: len(first.rows) == 5)
        assert first.rows == [[1.0, 2.0]] * 5
        second.until(lambda: len(second.rows) == 3)
        assert second.rows == [[3.0, 2.0], [4.0, 2.0], [6.0, 2.0]]
        assert {each.source for each in first.events} == {"line"}
        assert plant.script("line").attempts == 1

    def test_a_new_tag_is_a_new_connection_an_old_one_is_not(self, plant: Plant) -> None:
        """A job that leaves does not disturb the others."""
        hub = plant.open()
        hub.subscribe(1, "line", wants("a"), Sink())
        first = plant.script("line").session
        hub.subscribe(2, "line", wants("b"), Sink())
        second = plant.script("line").session
        assert (first.tags, second.tags) == (("a",), ("a", "b"))
        hub.unsubscribe(1)
        hub.subscribe(3, "line", wants("a", "b"), Sink())
        hub.unsubscribe(2)
        hub.unsubscribe(99)
        assert plant.script("line").attempts == 2
        assert not second.closed.is_set()

    def test_tags_of_the_configuration_are_read_without_a_job(self, plant: Plant) -> None:
        """And that of the part with them; a source without tags waits for a job."""
        mapped = ScriptedOptions(name="line", tags={"x": "a"}, run_tag="part")
        plant.open(mapped, ScriptedOptions(name="other", run_tag="part"))
        assert plant.script("line").session.tags == ("a", "part")
        assert plant.script("other").attempts == 0

    def test_unsubscribing_while_the_sink_is_held_up(self, plant: Plant) -> None:
        """It waits for nobody, and nothing more comes; other jobs go on after."""
        hub, slow, other = plant.open(start=False), Sink(), Sink()
        slow.go_on.clear()
        hub.subscribe(1, "line", wants("a"), slow)
        hub.subscribe(2, "line", wants("a"), other)
        hub.start()
        session = plant.script("line").session
        plant.say(session, "a", 1.0)
        assert slow.held.wait(PATIENCE)
        hub.unsubscribe(1)
        hub.subscribe(3, "line", wants("a"), Sink())
        slow.go_on.set()
        plant.clock.advance(1)
        plant.say(session, "a", 2.0)
        other.until(lambda: other.rows == [[1.0], [2.0]])
        assert slow.rows == [[1.0]]

    def test_closing_while_the_sink_is_held_up(self, plant: Plant) -> None:
        """It takes no longer than it may."""
        hub, slow = plant.open(), Sink()
        slow.go_on.clear()
        hub.subscribe(1, "line", wants("a"), slow)
        plant.say(plant.script("line").session, "a", 1.0)
        assert slow.held.wait(PATIENCE)
        hub.close(0.0)
        slow.go_on.set()

    def test_labels_go_to_every_job(self, plant: Plant) -> None:
        """As they are."""
        hub, sinks = plant.open(), [Sink(), Sink()]
        for number, sink in enumerate(sinks):
            hub.subscribe(number, "line", wants("a"), sink)
        label = LabelInterval("line", 0, 1, text="good")
        plant.script("line").session.shelf.put(label)
        for sink in sinks:
            sink.until(lambda sink=sink: [each.event for each in sink.events] == [label])

    def test_a_lost_connection_ends_what_holds(self, plant: Plant) -> None:
        """Until new values come the samples are missing."""
        hub, sink = plant.open(ScriptedOptions(name="line", hold_seconds=1000.0)), Sink()
        hub.subscribe(1, "line", wants("a"), sink)
        session = plant.script("line").session
        plant.say(session, "a", 1.0)
        sink.until(lambda: sink.rows == [[1.0]])
        plant.clock.advance(3)
        session.shelf.fail(SourceError("gone"))
        session = plant.script("line").session
        plant.clock.advance(3)
        plant.say(session, "a", 2.0)
        sink.until(lambda: len(sink.rows) == 7)
        assert np.isnan([row[0] for row in sink.rows]).tolist() == [False] * 3 + [True] * 3 + [
            False
        ]

    def test_what_ends_the_agent(self, plant: Plant) -> None:
        """The error is told."""
        plant.script("line").refusals = deque([SourceError("refused")])
        plant.open(ScriptedOptions(name="line", tags={"x": "a"}, startup="error"))
        eventually(lambda: plant.failed)
        assert str(plant.failed[0]) == "refused"


class TestStandings:
    def test_each_source(self, plant: Plant) -> None:
        """With what came too late for a job."""
        options = ScriptedOptions(name="line", tags={"x": "a"}, wait_seconds=0.0)
        hub, sink = plant.open(options, ScriptedOptions(name="other")), Sink()
        hub.subscribe(1, "line", wants("a", "b"), sink)
        eventually(
            lambda: (
                len(plant.script("line").sessions[-1:])
                and plant.script("line").sessions[-1].tags == ("a", "b")
            )
        )
        session = plant.script("line").sessions[-1]
        for n in range(4):
            plant.clock.advance(1)
            plant.say(session, "a", n)
        sink.until(lambda: len(sink.rows) >= 2)
        now = plant.clock.now_ns()
        session.shelf.put(reading("b", 1.0, time_ns=now - 3 * SECOND, arrived_ns=now))
        eventually(lambda: hub.standings()["line"].dropped == {"late": 1})
        found = hub.standings()
        assert list(found) == ["line", "other"]
        assert (found["line"].phase, found["other"].phase) == ("running", "starting")


class TestReconfigure:
    def test_what_is_the_same_goes_on(self, plant: Plant) -> None:
        """One changed, one is gone, one is new, one is untouched."""
        same, changed, gone = (
            ScriptedOptions(name=name, tags={"x": "a"}) for name in ("same", "changed", "gone")
        )
        hub = plant.open(same, changed, gone)
        sessions = {name: plant.script(name).session for name in ("same", "changed", "gone")}
        new = ScriptedOptions(name="new", tags={"x": "a"})
        hub.reconfigure([structs.replace(same), structs.replace(changed, wait_seconds=2.0), new])
        assert plant.script("changed").session.tags == ("a",)
        assert plant.script("new").session.tags == ("a",)
        assert sessions["changed"].closed.is_set()
        eventually(sessions["gone"].closed.is_set)
        assert not sessions["same"].closed.is_set()
        assert plant.script("same").attempts == 1
        assert list(hub.standings()) == ["same", "changed", "new"]

    def test_jobs_read_on(self, plant: Plant) -> None:
        """One whose source changed gets it as it is now; one whose source is gone gets nothing."""
        first, second = ScriptedOptions(name="one"), ScriptedOptions(name="two")
        hub, sinks = plant.open(first, second), [Sink(), Sink()]
        for number, (name, sink) in enumerate(zip(("one", "two"), sinks, strict=True)):
            hub.subscribe(number, name, wants("a"), sink)
            plant.say(plant.script(name).session, "a", 1.0)
            sink.until(lambda sink=sink: sink.rows == [[1.0]])
        hub.reconfigure([structs.replace(first, unit="press")])
        session = plant.script("one").session
        plant.clock.advance(5)
        plant.say(session, "a", 2.0)
        sinks[0].until(lambda: sinks[0].rows == [[1.0], [2.0]])
        last = sinks[0].events[-1].event
        assert isinstance(last, Samples)
        assert last.unit == "press"
        hub.unsubscribe(0)
        hub.unsubscribe(1)
        assert sinks[1].rows == [[1.0]]

    def test_a_hundred_times(self, plant: Plant) -> None:
        """Nothing is opened again, nothing is lost."""
        options = ScriptedOptions(name="line", tags={"x": "a"})
        hub, sink = plant.open(options, record=True), Sink()
        hub.subscribe(1, "line", wants("a"), sink)
        session = plant.script("line").session
        for n in range(100):
            plant.clock.advance(1)
            plant.say(session, "a", n)
            hub.reconfigure([structs.replace(options)])
        sink.until(lambda: len(sink.rows) == 100)
        assert [row[0] for row in sink.rows] == list(range(100))
        assert plant.script("line").attempts == 1


class TestRecording:
    def test_what_comes_is_kept(self, plant: Plant) -> None:
        """And that the connection was lost: nothing held from then on."""
        hub = plant.open(ScriptedOptions(name="line", tags={"x": "a"}), record=True)
        session = plant.script("line").session
        plant.tell(session, ["a"], 0, 10)
        session.shelf.fail(SourceError("gone"))
        assert plant.script("line").session
        hub.close(PATIENCE)
        plant.hub = None
        with SampleReader(samples_file(str(plant.folder), "line")) as reader:
            found = list(reader.read(["a"]))
        values = np.concatenate([each.values for each in found])
        quality = np.concatenate([each.quality for each in found])
        assert values[:10].tolist() == list(range(10))
        assert quality.tolist() == [192] * 10 + [STALE]

    def test_it_can_be_switched_off(self, plant: Plant) -> None:
        """No file, and no thread."""
        section = StoreSection(samples_max_bytes=0)

        def off(source: str) -> SampleStore | None:
            return recording(section, str(plant.folder), source, plant.clock)

        plant.hub = Hub(
            [ScriptedOptions(name="line", tags={"x": "a"})],
            clock=plant.clock,
            log=plant.journal,
            failed=plant.failed.append,
            recording=off,
        )
        plant.hub.start()
        assert plant.script("line").session
        assert "samples" not in {thread.name for thread in threading.enumerate()}
        assert list(plant.folder.iterdir()) == []

    def test_a_disk_that_fails(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told once, and the jobs do not notice."""
        monkeypatch.setattr(recorder, "COMMIT_SECONDS", 3600.0)
        told = plant.journal.of

        class Full:
            set_aside = None
            failing = True

            def append(self, _: Sequence[Readings]) -> None:
                pass

            def commit(self) -> int:
                if Full.failing:
                    raise StoreError("disk full")
                return 0

            def close(self) -> None:
                self.commit()

        rings = Recorder(lambda _: Full(), plant.clock, plant.journal)  # type: ignore[arg-type, return-value]
        rings.begin("line")
        rings.begin("line")
        for _ in range(5):
            rings.tick()
        assert told("samples.unrecorded") == [{"source": "line", "error": "disk full"}]
        plant.clock.advance(700)
        rings.tick()
        assert len(told("samples.unrecorded")) == 2
        rings.close()
        assert len(told("samples.unrecorded")) == 3

    def test_texts_that_nobody_can_keep(self, plant: Plant) -> None:
        """Of megabytes, or with half characters: cut, made whole, and recorded as jobs see them."""
        options = ScriptedOptions(name="line", tags={"x": "a"}, run_tag="part")
        hub, sink = plant.open(options, record=True), Sink()
        hub.subscribe(1, "line", wants("a"), sink)
        session = plant.script("line").session
        nan, name, now = float("nan"), "P-\ud800" + "1" * (1 << 20), plant.begin
        session.shelf.put(reading("part", nan, time_ns=now, arrived_ns=now, text=name))
        plant.tell(session, ["a"], 0, 5)
        sink.until(lambda: len(sink.rows) == 5)
        told = "P-?" + "1" * 197
        runs = {each.event.run for each in sink.events if isinstance(each.event, Samples)}
        assert runs == {f"line/{told}"}
        hub.close(PATIENCE)
        with SampleReader(samples_file(str(plant.folder), "line")) as reader:
            assert {each.text for each in reader.read({"part"})} - {""} == {told}

    def test_whatever_goes_wrong_with_one_ring(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is told, and the thread goes on with the others."""
        monkeypatch.setattr(recorder, "COMMIT_SECONDS", 0.01)
        commit, bad = SampleStore.commit, samples_file(str(plant.folder), "bad")

        def broken(self: SampleStore) -> int:
            if self._path == bad:
                raise RuntimeError("nobody thought of that")
            return commit(self)

        one, other = (ScriptedOptions(name=name, tags={"x": "a"}) for name in ("bad", "good"))
        plant.open(one, other, record=True)
        with monkeypatch.context() as patched:
            patched.setattr(SampleStore, "commit", broken)
            eventually(lambda: plant.journal.of("samples.unrecorded"))
            plant.tell(plant.script("good").session, ["a"], 0, 5)
            eventually(lambda: plant.recorded("good") == {"a": 5})
        [told] = plant.journal.of("samples.unrecorded")
        assert told == {"source": "bad", "error": "nobody thought of that"}

    def test_a_ring_that_cannot_be_opened(self, plant: Plant) -> None:
        """The source is read all the same."""

        def broken(_: str) -> SampleStore:
            raise StoreError("another version wrote it")

        hub = plant.hub = Hub(
            [ScriptedOptions(name="line")],
            clock=plant.clock,
            log=plant.journal,
            failed=plant.failed.append,
            recording=broken,
        )
        hub.start()
        sink = Sink()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        plant.say(plant.script("line").session, "a", 1.0)
        sink.until(lambda: sink.rows == [[1.0]])
        assert plant.journal.of("samples.unrecorded")[0]["error"] == "another version wrote it"

    def test_much_at_once_is_one_transaction(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is written before it is due, however much comes."""
        commits: list[str] = []
        real = SampleStore.commit

        def commit(self: SampleStore) -> int:
            commits.append(threading.current_thread().name)
            return real(self)

        monkeypatch.setattr(SampleStore, "commit", commit)
        monkeypatch.setattr(recorder, "COMMIT_SECONDS", 3600.0)
        hub = plant.open(ScriptedOptions(name="line", tags={"x": "a"}), record=True)
        plant.tell(plant.script("line").session, ["a"], 0, 1000)
        eventually(lambda: hub.standings()["line"].readings == 1000)
        assert commits == []
        hub.close(PATIENCE)
        plant.hub = None
        assert plant.recorded() == {"a": 1001}  # and the mark that it was closed

    def test_what_is_due_is_written(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Again and again, while the source is read."""
        monkeypatch.setattr(recorder, "COMMIT_SECONDS", 0.01)
        plant.open(ScriptedOptions(name="line", tags={"x": "a"}), record=True)
        session = plant.script("line").session
        for told in (5, 10):
            plant.tell(session, ["a"], told - 5, 5)
            eventually(lambda told=told: plant.recorded().get("a") == told)

    def test_rings_are_opened_anew_for_another_section(self, plant: Plant) -> None:
        """The bounds are others, what was recorded stays."""
        options = ScriptedOptions(name="line", tags={"x": "a"})
        hub = plant.open(options, record=True)
        session = plant.script("line").session
        plant.tell(session, ["a"], 0, 5)
        eventually(lambda: hub.standings()["line"].readings == 5)
        hub.reconfigure([options], plant.recording)
        plant.tell(session, ["a"], 5, 5)
        eventually(lambda: hub.standings()["line"].readings == 10)
        hub.close(PATIENCE)
        plant.hub = None
        assert plant.recorded() == {"a": 11}  # and the mark that it was closed
        assert plant.script("line").attempts == 1

    def test_nothing_is_lost_while_rings_are_opened_anew(self, plant: Plant) -> None:
        """A hundred times, each while readings come and the disk is slow to open."""
        options = ScriptedOptions(name="line", tags={"x": "a"})
        hub = plant.open(options, record=True)
        session = plant.script("line").session
        told = 0

        def slow(source: str) -> SampleStore | None:
            nonlocal told
            plant.tell(session, ["a"], told, 5)
            told += 5
            eventually(lambda: hub.standings()["line"].readings == told)
            return plant.recording(source)

        for _ in range(100):
            hub.reconfigure([options], slow)
        hub.close(PATIENCE)
        plant.hub = None
        assert plant.recorded() == {"a": told + 1}  # and the mark that it was closed
        assert not plant.journal.of("samples.unrecorded")


def kept(session: ScriptedSession, tag: str, start_ns: int, values: Sequence[float]) -> None:
    """The source tells, one by one, what it kept a second apart while nobody listened."""
    for n, value in enumerate(values):
        one = block(tag, start_ns + n * SECOND, [value])
        session.shelf.put(replace(one, historical=True))


class TestHistory:
    """What a source kept while nobody listened."""

    @pytest.mark.parametrize("record", [True, False])
    def test_the_present_goes_on(self, plant: Plant, *, record: bool) -> None:
        """However much comes, and however old: kept where something is, counted where not."""
        options = ScriptedOptions(name="line", tags={"x": "a"}, silence_seconds=0.0)
        hub, sink = plant.open(options, record=record), Sink()
        hub.subscribe(1, "line", wants("a"), sink)
        session = plant.script("line").session
        for n in range(20):
            plant.tell(session, ["a"], n, 1)
            kept(session, "a", plant.begin - (600 - n) * SECOND, [500.0 + n])
        sink.until(lambda: len(sink.rows) == 20)
        assert [row[0] for row in sink.rows] == list(range(20))
        assert all(isinstance(each.event, Samples) for each in sink.events)
        eventually(lambda: hub.standings()["line"].readings == 40)
        found = hub.standings()["line"]
        assert found.dropped == ({} if record else {"historical": 20})
        assert found.skew_seconds == 0.0
        hub.close(PATIENCE)
        if record:
            assert self.recorded(plant) == [
                *((600 - n, 500.0 + n) for n in range(20)),
                *((-n, float(n)) for n in range(20)),
            ]

    def recorded(self, plant: Plant) -> list[tuple[int, float]]:
        """Seconds before the beginning and value of what is in the ring, stale marks apart."""
        with SampleReader(samples_file(str(plant.folder), "line")) as reader:
            return [
                ((plant.begin - time) // SECOND, value)
                for each in reader.read({"a"})
                for time, value, quality in zip(
                    each.times_ns.tolist(), each.values.tolist(), each.quality, strict=True
                )
                if quality != STALE
            ]

    def test_a_backfill_has_it_in_its_place(self, plant: Plant) -> None:
        """A job that begins later sees no hole where the connection was gone."""
        options = ScriptedOptions(
            name="line", tags={"x": "a"}, silence_seconds=0.0, hold_seconds=1000.0
        )
        hub = plant.open(options, record=True)
        session = plant.script("line").session
        plant.tell(session, ["a"], 0, 20)
        eventually(lambda: hub.standings()["line"].readings == 20)
        session.shelf.fail(SourceError("gone"))
        session = plant.script("line").session
        plant.tell(session, ["a"], 30, 5)
        kept(session, "a", plant.begin + 20 * SECOND, range(20, 30))
        eventually(lambda: hub.standings()["line"].readings == 35)
        sink = Sink()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        plant.tell(session, ["a"], 35, 5)
        sink.until(lambda: len(sink.rows) == 40)
        assert [row[0] for row in sink.rows] == list(range(40))
        assert hub.standings()["line"].dropped == {}

    def test_it_comes_while_a_backfill_is_read(self, plant: Plant) -> None:
        """What is behind it already is in the recording for others; nothing goes back."""
        options = ScriptedOptions(name="line", tags={"x": "a"}, silence_seconds=0.0)
        hub, sink = plant.open(options, record=True), Sink()
        session = plant.script("line").session
        plant.tell(session, ["a"], 0, 100)
        eventually(lambda: hub.standings()["line"].readings == 100)
        sink.go_on.clear()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        assert sink.held.wait(PATIENCE)
        kept(session, "a", plant.begin - 1000 * SECOND, range(200))
        plant.tell(session, ["a"], 100, 20)
        eventually(lambda: hub.standings()["line"].readings == 320)
        sink.go_on.set()
        sink.until(lambda: len(sink.rows) == 120)
        assert [row[0] for row in sink.rows] == list(range(120))
        assert hub.standings()["line"].dropped == {}

    def test_it_is_a_sign_of_life_and_not_of_the_present(self, plant: Plant) -> None:
        """A connection that brings it is not given up, and does not count as running."""
        options = ScriptedOptions(name="line", tags={"x": "a"}, silence_seconds=5.0)
        hub = plant.open(options)
        session = plant.script("line").session
        for n in range(10):
            plant.clock.advance(2)
            kept(session, "a", plant.begin - 1000 * SECOND, [float(n)])
            eventually(lambda n=n: hub.standings()["line"].readings == n + 1)
        found = hub.standings()["line"]
        assert (found.phase, found.connections, found.last_ns) == ("starting", 1, 0)
        plant.say(session, "a", 1.0)
        eventually(lambda: hub.standings()["line"].phase == "running")


class TestBackfill:
    def prepared(self, plant: Plant, count: int, **fields: Any) -> tuple[Hub, ScriptedSession]:
        """A source that has been recorded for a while."""
        options = ScriptedOptions(name="line", tags={"x": "a", "y": "b"}, **fields)
        hub = plant.open(options, record=True)
        session = plant.script("line").session
        plant.tell(session, ["a", "b"], 0, count)
        plant.until_delivered(session, 2 * count)
        return hub, session

    def test_first_what_was_recorded_then_the_rest(self, plant: Plant) -> None:
        """Without a gap, and nothing twice; another job gets live data only."""
        hub, session = self.prepared(plant, 50)
        late, other = Sink(), Sink()
        hub.subscribe(1, "line", wants("a", "b"), late, backfill=ALL)
        hub.subscribe(2, "line", wants("a"), other)
        plant.tell(session, ["a", "b"], 50, 50)
        late.until(lambda: len(late.rows) == 100)
        assert late.rows == [[n, n] for n in range(100)]
        assert late.times == [plant.begin + n * SECOND for n in range(100)]
        other.until(lambda: len(other.rows) == 50)
        assert other.rows[0] == [50.0]
        eventually(lambda: plant.journal.of("backfill.done"))
        [done] = plant.journal.of("backfill.done")
        assert done["values"] >= 100
        assert hub.standings()["line"].dropped == {}

    @pytest.mark.parametrize("filled", [False, True])
    def test_what_comes_at_that_moment(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch, *, filled: bool
    ) -> None:
        """Just before or just after what was recorded is given: each value comes once."""
        hub, session = self.prepared(plant, 20)
        fill = subscriber.Subscriber.fill

        def meanwhile(self: subscriber.Subscriber, *given: Any) -> None:
            if filled:
                fill(self, *given)
                assert self.join(PATIENCE)
            plant.tell(session, ["a", "b"], 20, 10)
            plant.until_delivered(session, 60)
            if not filled:
                fill(self, *given)

        monkeypatch.setattr(subscriber.Subscriber, "fill", meanwhile)
        sink = Sink()
        hub.subscribe(1, "line", wants("a", "b"), sink, backfill=ALL)
        sink.until(lambda: len(sink.rows) == 30)
        assert sink.rows == [[n, n] for n in range(30)]

    def test_while_much_comes(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """The job is slow and the memory small: it is read from the recording again and again."""
        monkeypatch.setattr(subscriber, "MOST_PENDING", 64)
        monkeypatch.setattr(subscriber, "NEARLY", 100)
        hub, session = self.prepared(plant, 300)
        sink = Sink()
        sink.go_on.clear()
        hub.subscribe(1, "line", wants("a", "b"), sink, backfill=ALL)
        assert sink.held.wait(PATIENCE)
        plant.tell(session, ["a", "b"], 300, 300)
        eventually(lambda: hub.standings()["line"].readings == 1200)
        sink.go_on.set()
        for n in range(600, 900, 20):
            plant.tell(session, ["a", "b"], n, 20)
            threading.Event().wait(0.005)
        sink.until(lambda: len(sink.rows) == 900)
        assert sink.rows == [[n, n] for n in range(900)]

    def test_the_connection_breaks_meanwhile(self, plant: Plant) -> None:
        """What held is stale where it broke, in the recording as live."""
        hub, session = self.prepared(plant, 20, hold_seconds=1000.0)
        session.shelf.fail(SourceError("gone"))
        session = plant.script("line").session
        plant.tell(session, ["a", "b"], 25, 5)
        eventually(lambda: hub.standings()["line"].readings == 50)
        sink = Sink()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        plant.tell(session, ["a", "b"], 30, 5)
        sink.until(lambda: len(sink.rows) == 35)
        column = [row[0] for row in sink.rows]
        assert np.isnan(column[20:25]).all()
        assert column[:20] + column[25:] == [*range(20), *range(25, 35)]

    def test_it_goes_on_after_a_restart_in_its_midst(self, plant: Plant) -> None:
        """From where the job's windows end, without a gap and nothing twice; then it is done."""
        hub, _ = self.prepared(plant, 100)
        plant.journal.entries.clear()
        first, done = Sink(), threading.Event()
        first.stop_at = 40
        hub.subscribe(1, "line", wants("a", "b"), first, backfill=Backfill(ALL.since_ns, done.set))
        first.until(lambda: len(first.rows) >= 40)
        hub.close(PATIENCE)
        assert not done.is_set()
        given = first.rows[:40]

        options = ScriptedOptions(name="line", tags={"x": "a", "y": "b"})
        hub, second = plant.open(options, record=True), Sink()
        session = plant.script("line").session
        since_ns = plant.begin + 40 * SECOND
        hub.subscribe(1, "line", wants("a", "b"), second, backfill=Backfill(since_ns, done.set))
        plant.tell(session, ["a", "b"], 100, 20)
        second.until(lambda: len(second.rows) == 80)
        assert done.wait(PATIENCE)
        assert given + second.rows == [[n, n] for n in range(120)]

    def test_nothing_was_recorded(self, plant: Plant) -> None:
        """It is live at once."""
        hub, sink = plant.open(record=True), Sink()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        session = plant.script("line").session
        plant.tell(session, ["a"], 0, 20)
        sink.until(lambda: len(sink.rows) == 20)
        assert [row[0] for row in sink.rows] == list(range(20))

    def test_parts_by_name(self, plant: Plant) -> None:
        """Runs of the past are named as they were."""
        options = ScriptedOptions(name="line", tags={"x": "a"}, run_tag="part")
        hub = plant.open(options, record=True)
        session = plant.script("line").session
        for first, name in ((0, "P-1"), (5, "P-2")):
            now = plant.begin + first * SECOND
            nan = float("nan")
            session.shelf.put(reading("part", nan, time_ns=now, arrived_ns=now, text=name))
            plant.tell(session, ["a"], first, 5)
        eventually(lambda: hub.standings()["line"].readings == 12)
        sink = Sink()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        sink.until(lambda: len(sink.rows) == 10)
        runs = [each.event.run for each in sink.events if isinstance(each.event, Samples)]
        assert list(dict.fromkeys(runs)) == ["line/P-1", "line/P-2"]

    def test_who_leaves_meanwhile(self, plant: Plant) -> None:
        """Reading ends; nothing is left."""
        hub, _ = self.prepared(plant, 100)
        sink = Sink()
        sink.go_on.clear()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        assert sink.held.wait(PATIENCE)
        hub.unsubscribe(1)
        sink.go_on.set()
        hub.close(PATIENCE)
        assert len(sink.events) == 1

    def test_a_damaged_recording(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """The job gets what comes."""
        hub, session = self.prepared(plant, 10)

        def broken(*_: Any, **__: Any) -> Iterator[Readings]:
            raise StoreError("damaged")

        monkeypatch.setattr(SampleStore, "read", broken)
        sink = Sink()
        hub.subscribe(1, "line", wants("a"), sink, backfill=ALL)
        eventually(lambda: plant.journal.of("backfill.done"))
        assert plant.journal.of("backfill.failed") == [{"error": "damaged"}]
        plant.tell(session, ["a"], 10, 5)
        sink.until(lambda: len(sink.rows) == 5)

    def test_a_fast_tag(self, plant: Plant) -> None:
        """The past is filtered as the present is."""
        options = ScriptedOptions(name="line", tags={"x": "a"})
        hub = plant.open(options, record=True)
        session = plant.script("line").session
        period = SECOND // 8
        for n in range(10):
            plant.clock.advance(10)
            wave = np.sin(np.arange(80 * n, 80 * n + 80) / 200)
            session.shelf.put(block("a", plant.begin + 80 * n * period, wave.tolist(), period))
        eventually(lambda: hub.standings()["line"].readings == 800)
        sink = Sink()
        hub.subscribe(1, "line", wants("a", factors=[8]), sink, backfill=ALL)
        sink.until(lambda: len(sink.rows) >= 70)
        made = np.array([row[0] for row in sink.rows])
        np.testing.assert_allclose(made[:70], np.sin(np.arange(70) * 8 / 200), atol=0.02)
