# SPDX-License-Identifier: Apache-2.0
"""One source is kept alive, whatever its library does."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.agent.kit import Journal
from tests.agent.sources.live.scripted import (
    Script,
    ScriptedOptions,
    ScriptedSession,
    block,
)

from fedmill_agent.sources import supervisor
from fedmill_agent.sources.live import BAD, STALE, Delivered, Live, Readings, reading
from fedmill_agent.sources.supervisor import (
    HUNG_SECONDS,
    PROBE_SECONDS,
    REPEAT_SECONDS,
    STUCK_SECONDS,
    Listener,
    Supervisor,
)
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError, FedmillError, SourceError
from fedmill_shared.link.backoff import Backoff

SECOND = 10**9
PATIENCE = 20.0


@dataclass
class Heard:
    """What a supervisor told."""

    delivered: list[Delivered] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    failed: list[FedmillError] = field(default_factory=list)
    advanced: int = 0
    threads: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)
    breaks: Exception | None = None

    @property
    def listener(self) -> Listener:
        """It, as a listener."""
        return Listener(self._deliver, self._advance, self._lose, self._fail)

    def until(self, done: Callable[[], object]) -> None:
        """Wait until ``done``."""
        with self.changed:
            assert self.changed.wait_for(done, PATIENCE)

    def _deliver(self, delivered: Sequence[Delivered], _now_ns: int) -> None:
        self._tell(lambda: self.delivered.extend(delivered))
        if self.breaks is not None:
            raise self.breaks

    def _advance(self, _now_ns: int) -> None:
        def count() -> None:
            self.advanced += 1

        self._tell(count)

    def _lose(self, now_ns: int) -> None:
        self._tell(lambda: self.lost.append(now_ns))

    def _fail(self, error: FedmillError) -> None:
        self._tell(lambda: self.failed.append(error))

    def _tell(self, what: Callable[[], object]) -> None:
        with self.changed:
            self.threads.add(threading.current_thread().name)
            what()
            self.changed.notify_all()


class Stand:
    """A supervisor of a scripted source, with a clock and waits that the test owns."""

    def __init__(self, **fields: Any) -> None:
        self.clock, self.journal, self.heard = ManualClock(), Journal(), Heard()
        self.script = fields.pop("script", None) or Script()
        self.waits: list[float] = []
        self.options = ScriptedOptions(name="line", **fields)
        self.it = Supervisor(
            self.script.live,
            self.options,
            self.heard.listener,
            clock=self.clock,
            log=self.journal,
            backoff=Backoff(self._jitter),
        )

    def watch(self, *tags: str) -> ScriptedSession:
        """Read these tags; the session for them."""
        self.it.watch(tags)
        return self.script.session

    def say(self, session: ScriptedSession, tag: str = "a", value: float = 1.0) -> None:
        """A value comes, and is heard."""
        now, count = self.clock.now_ns(), len(self.heard.delivered)
        session.shelf.put(reading(tag, value, time_ns=now, arrived_ns=now))
        self.heard.until(lambda: len(self.heard.delivered) > count)

    def reads(self, times: int = 2) -> None:
        """Some more reads are done."""
        count = self.heard.advanced
        self.heard.until(lambda: self.heard.advanced >= count + times)

    def until_phase(self, phase: str) -> None:
        """Wait until it stands there."""
        deadline = time.monotonic() + PATIENCE
        while self.it.standing.phase != phase:
            assert time.monotonic() < deadline, self.it.standing
            threading.Event().wait(0.002)

    def close(self) -> None:
        """Stop; nothing is left."""
        self.it.stop()
        assert self.it.join(PATIENCE)

    def _jitter(self, longest: float) -> float:
        self.waits.append(longest)
        return 0.0


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READ_SECONDS", 0.02)


@pytest.fixture
def stands() -> Iterator[Callable[..., Stand]]:
    """Makes stands, and closes them."""
    made: list[Stand] = []

    def make(**fields: Any) -> Stand:
        made.append(Stand(**fields))
        return made[-1]

    yield make
    for stand in made:
        stand.close()


Make = Callable[..., Stand]


class TestReading:
    def test_what_comes_is_handed_on(self, stands: Make) -> None:
        """On the thread of the source, with its count and its state."""
        stand = stands()
        session = stand.watch("a", "b")
        assert session.tags == ("a", "b")
        assert stand.it.standing.phase == "starting"
        stand.say(session, "a", 5.0)
        stand.until_phase("running")
        stand.say(session, "b", float("nan"))
        bad = block("a", stand.clock.now_ns(), [1.0, 2.0], quality=STALE)
        session.shelf.put(bad)
        stand.heard.until(lambda: len(stand.heard.delivered) == 3)
        standing = stand.it.standing
        assert (standing.readings, standing.bad, standing.stale) == (4, 1, 2)
        assert (standing.connections, standing.error) == (1, "")
        assert standing.last_ns == stand.clock.now_ns()
        assert stand.heard.threads == {"source-line"}
        assert stand.journal.of("source.running") == [{"connections": 1}]

    def test_problems_and_counts_of_the_session(self, stands: Make) -> None:
        """They are told, and outlive the session."""
        stand = stands(script=Script(problems={"b": "no such node"}))
        session = stand.watch("a", "b")
        session.counts["garbage"] += 3
        stand.reads()
        assert stand.it.standing.problems == {"b": "no such node"}
        assert stand.it.standing.dropped == {"garbage": 3}
        session.shelf.fail(SourceError("gone"))
        second = stand.script.session
        second.counts["garbage"] += 2
        stand.reads()
        assert stand.it.standing.dropped == {"garbage": 5}

    def test_counts_that_are_made_when_asked(self, stands: Make) -> None:
        """A session may add them up from its parts each time."""

        class Adding(ScriptedSession):
            made = 0

            @property
            def counts(self) -> Counter[str]:
                Adding.made += 1
                return Counter({"type": Adding.made})

        stand = stands(script=_Opening(lambda tags: Adding(tuple(tags))))
        stand.watch("a")
        stand.reads(3)
        assert stand.it.standing.dropped["type"] >= 3

    def test_one_that_is_back_and_says_nothing_yet(self, stands: Make) -> None:
        """Is starting again: what kept it away before is over."""
        stand = stands()
        session = stand.watch("a")
        stand.say(session)
        assert stand.it.standing.phase == "running"
        session.shelf.fail(SourceError("gone"))
        stand.heard.until(lambda: bool(stand.heard.lost))
        stand.until_phase("starting")
        assert stand.it.standing.connections == 2

    def test_it_waits_for_the_first_tags(self, stands: Make) -> None:
        """Nothing is opened before; stopped, it never began."""
        stand = stands()
        assert stand.it.standing.phase == "starting"
        assert stand.script.attempts == 0


class _Opening(Script):
    """A script whose sessions a function makes."""

    def __init__(self, make: Callable[[Sequence[str]], ScriptedSession]) -> None:
        super().__init__()
        self._make = make

    def _open(self, _options: Any, tags: Sequence[str], _clock: Any) -> ScriptedSession:
        self.attempts += 1
        session = self._make(tags)
        self.sessions.append(session)
        self.opened.release()
        return session


class TestLoss:
    @pytest.mark.parametrize(
        "fault",
        [
            SourceError("gone"),
            OSError("reset"),
            TimeoutError(),
            ValueError("bad"),
            KeyError("k"),
            AttributeError("a"),
            ZeroDivisionError(),
            AssertionError(),
            RuntimeError(),
            EOFError(),
            RecursionError(),
            type("ForeignLibraryError", (Exception,), {})("what nobody knew"),
        ],
        ids=lambda fault: type(fault).__name__,
    )
    def test_whatever_is_raised_ends_the_session_only(self, stands: Make, fault: Exception) -> None:
        """It is closed, what it held is stale, and another one is opened."""
        stand = stands()
        first = stand.watch("a")
        stand.say(first)
        first.shelf.fail(fault)
        second = stand.script.session
        assert first.closed.is_set()
        assert len(stand.heard.lost) == 1
        assert type(fault).__name__ in stand.it.standing.error or "gone" in stand.it.standing.error
        stand.say(second)
        stand.until_phase("running")
        assert stand.it.standing.connections == 2
        assert stand.heard.failed == []

    @pytest.mark.parametrize("where", ["close", "counts"])
    def test_a_session_that_cannot_even_end(self, stands: Make, where: str) -> None:
        """What it holds is stale all the same, and the next one is opened."""

        class Broken(ScriptedSession):
            broken = True

            def close(self) -> None:
                super().close()
                if where == "close" and Broken.broken:
                    raise RuntimeError("cannot close")

            @property
            def counts(self) -> Counter[str]:
                if where == "counts" and Broken.broken:
                    raise RuntimeError("cannot count")
                return Counter()

        stand = stands(script=_Opening(lambda tags: Broken(tuple(tags))))
        first = stand.watch("a")
        first.shelf.fail(SourceError("gone"))
        second = stand.script.session
        Broken.broken = False
        stand.heard.until(lambda: stand.heard.lost)
        assert first.closed.is_set()
        second.shelf.fail(SourceError("gone"))
        stand.say(stand.script.session)

    def test_a_fault_of_who_listens(self, stands: Make) -> None:
        """It is told like any other, and the source is connected anew."""
        stand = stands()
        stand.heard.breaks = ValueError("our own")
        first = stand.watch("a")
        stand.say(first)
        second = stand.script.session
        stand.heard.breaks = None
        stand.say(second)
        assert "our own" in stand.it.standing.error

    def test_waits_grow_and_shrink(self, stands: Make) -> None:
        """Twice as long each time up to half a minute; a connection that lasted starts afresh."""
        script = Script()
        script.refusals.extend(SourceError("refused") for _ in range(7))
        stand = stands(script=script)
        session = stand.watch("a")
        assert stand.waits == [1, 2, 4, 8, 16, 30, 30]
        stand.say(session)
        stand.clock.advance(31)
        stand.say(session)
        session.shelf.fail(SourceError("gone"))
        assert stand.script.session
        assert stand.waits[7:] == [1]

    def test_a_short_connection_does_not_reset_the_wait(self, stands: Make) -> None:
        """One that breaks at once, again and again, is not asked for more each second."""
        stand = stands()
        session = stand.watch("a")
        for _ in range(4):
            stand.say(session)
            session.shelf.fail(SourceError("gone"))
            session = stand.script.session
        assert stand.waits == [1, 2, 4, 8]

    def test_errors_and_problems_are_short(self, stands: Make) -> None:
        """What others wrote may be in them: status and log take a part of it."""
        stand = stands(script=Script(problems={"a": "x" * 100_000}))
        session = stand.watch("a")
        stand.reads()
        assert stand.it.standing.problems == {"a": "x" * 500}
        session.shelf.fail(RuntimeError("y" * 100_000))
        assert stand.script.session
        [told] = stand.journal.of("source.failed")
        assert len(told["error"]) == len(stand.it.standing.error) == 1000

    def test_the_same_error_is_told_once(self, stands: Make) -> None:
        """And again after ten minutes, and after it had worked; another error at once."""
        stand = stands()
        stand.script.refusals.extend(SourceError("refused") for _ in range(5))
        session = stand.watch("a")
        assert len(stand.journal.of("source.failed")) == 1
        session.shelf.fail(SourceError("other"))
        session = stand.script.session
        assert len(stand.journal.of("source.failed")) == 2
        session.shelf.fail(SourceError("other"))
        session = stand.script.session
        assert len(stand.journal.of("source.failed")) == 2
        stand.clock.advance(REPEAT_SECONDS)
        session.shelf.fail(SourceError("other"))
        session = stand.script.session
        assert len(stand.journal.of("source.failed")) == 3
        stand.say(session)
        session.shelf.fail(SourceError("other"))
        assert stand.script.session
        assert len(stand.journal.of("source.failed")) == 4


class TestSilence:
    def test_a_new_session(self, stands: Make) -> None:
        """No good value for so long: what is bad and stale is none."""
        stand = stands(silence_seconds=60.0)
        first = stand.watch("a")
        stand.say(first)
        for quality in (BAD, STALE):
            stand.clock.advance(29)
            now = stand.clock.now_ns()
            first.shelf.put(reading("a", 1.0, time_ns=now, arrived_ns=now, quality=quality))
            stand.reads()
        assert stand.script.attempts == 1
        stand.clock.advance(3)
        second = stand.script.session
        assert first.closed.is_set()
        stand.until_phase("silent")
        assert "no good value for 60 s" in stand.it.standing.error
        assert stand.it.standing.dropped == {"silence": 1}
        stand.say(second)
        stand.until_phase("running")

    def test_never(self, stands: Make) -> None:
        """0: a source that speaks twice a day."""
        stand = stands(silence_seconds=0.0)
        stand.watch("a")
        stand.clock.advance(86_400)
        stand.reads()
        assert stand.script.attempts == 1

    def test_a_name_is_a_sign_of_life(self, stands: Make) -> None:
        """A tag that names parts has texts and no numbers."""
        stand = stands(silence_seconds=60.0)
        session = stand.watch("a")
        for _ in range(3):
            stand.clock.advance(50)
            now, count = stand.clock.now_ns(), len(stand.heard.delivered)
            name = reading("a", float("nan"), time_ns=now, arrived_ns=now, text="P-1")
            session.shelf.put(name)
            stand.heard.until(lambda count=count: len(stand.heard.delivered) > count)
        stand.reads()
        assert stand.script.attempts == 1

    def test_a_read_that_does_not_return(self, stands: Make) -> None:
        """Nothing can end it; at least it does not look as if all were well."""
        hanging, inside, go_on = threading.Event(), threading.Event(), threading.Event()

        class Hanging(ScriptedSession):
            def read(self, timeout: float) -> Sequence[Delivered]:
                found = super().read(timeout)
                if hanging.is_set():
                    inside.set()
                    assert go_on.wait(PATIENCE)
                return found

        stand = stands(script=_Opening(lambda tags: Hanging(tuple(tags))), silence_seconds=0.0)
        session = stand.watch("a")
        stand.say(session)
        stand.until_phase("running")
        hanging.set()
        assert inside.wait(PATIENCE)
        stand.clock.advance(HUNG_SECONDS + 5)
        stand.until_phase("silent")
        assert "no read has returned for" in stand.it.standing.error
        assert stand.it.late == 0.0
        stand.clock.advance(STUCK_SECONDS)
        assert stand.it.late > 0.0  # only another process helps
        go_on.set()
        stand.until_phase("running")
        assert stand.it.late == 0.0


class TestStartup:
    def test_error(self, stands: Make) -> None:
        """The agent is to end, with the source's own error."""
        script = Script()
        script.refusals.append(SourceError("refused"))
        stand = stands(script=script, startup="error")
        stand.it.watch(["a"])
        stand.heard.until(lambda: stand.heard.failed)
        assert [str(error) for error in stand.heard.failed] == ["refused"]
        assert stand.it.join(PATIENCE)
        assert stand.it.standing.phase == "left out"
        assert stand.script.attempts == 1

    @pytest.mark.parametrize("startup", ["ignore", "probe"])
    def test_left_out(self, stands: Make, startup: str) -> None:
        """Until the next start; the agent goes on."""
        script = Script()
        script.refusals.append(SourceError("refused"))
        stand = stands(script=script, startup=startup)
        stand.it.watch(["a"])
        assert stand.it.join(PATIENCE)
        assert stand.it.standing.phase == "left out"
        assert stand.heard.failed == []
        [told] = stand.journal.of("source.left_out")
        assert (told["error"], told["startup"]) == ("refused", startup)

    @pytest.mark.parametrize("startup", ["error", "ignore"])
    def test_it_is_about_the_start_only(self, stands: Make, startup: str) -> None:
        """What worked once is tried for ever."""
        stand = stands(startup=startup)
        session = stand.watch("a")
        session.shelf.fail(SourceError("gone"))
        stand.say(stand.script.session)
        assert stand.heard.failed == []

    def test_probe(self, stands: Make) -> None:
        """It answers, and no good value comes."""
        stand = stands(startup="probe")
        session = stand.watch("a")
        stand.clock.advance(PROBE_SECONDS + 1)
        assert stand.it.join(PATIENCE)
        assert session.closed.is_set()
        assert stand.it.standing.phase == "left out"
        assert "no good value came" in stand.it.standing.error

    def test_probe_with_a_value(self, stands: Make) -> None:
        """From then on it is like any other."""
        stand = stands(startup="probe", silence_seconds=0.0)
        session = stand.watch("a")
        stand.say(session)
        stand.clock.advance(10 * PROBE_SECONDS)
        stand.reads()
        session.shelf.fail(SourceError("gone"))
        stand.say(stand.script.session)

    def test_what_can_never_work(self, stands: Make) -> None:
        """A missing library is not tried again and again; other tags are."""
        script = Script()
        script.refusals.append(ConfigError("pip install something"))
        stand = stands(script=script)
        stand.it.watch(["a"])
        stand.until_phase("left out")
        assert stand.script.attempts == 1
        assert stand.waits == []
        stand.clock.advance(100 * STUCK_SECONDS)
        assert stand.it.late == 0.0  # it waits for somebody to mend it, and hangs in nothing
        stand.say(stand.watch("b"), "b")
        stand.until_phase("running")


class TestTags:
    def test_other_tags_are_another_session(self, stands: Make) -> None:
        """At once, and without a wait."""
        stand = stands()
        first = stand.watch("a")
        second = stand.watch("a", "b")
        assert first.closed.is_set()
        assert second.tags == ("a", "b")
        assert stand.waits == []
        assert stand.journal.of("source.failed") == []

    def test_fewer_tags_disturb_nobody(self, stands: Make) -> None:
        """The connection stays; the next one is for fewer."""
        stand = stands()
        first = stand.watch("a", "b")
        stand.it.watch(["b"])
        stand.reads()
        assert stand.script.attempts == 1
        first.shelf.fail(SourceError("gone"))
        assert stand.script.session.tags == ("b",)

    def test_tags_that_can_never_work_take_no_others_along(self, stands: Make) -> None:
        """Another job names nonsense: what has been read is read on, and it is told why."""
        stand = stands(script=_Picky({"a", "c"}))
        stand.watch("a")
        second = stand.watch("a", "nonsense")
        assert second.tags == ("a",)
        stand.reads()
        assert stand.it.standing.problems == {"nonsense": "no tag 'nonsense'"}
        [told] = stand.journal.of("source.tags_refused")
        assert told["tags"] == ["nonsense"]
        assert stand.watch("a", "c").tags == ("a", "c")
        stand.reads()
        assert stand.it.standing.problems == {}

    def test_at_the_start_those_of_the_configuration_count(self, stands: Make) -> None:
        """Whatever a job wants besides."""
        stand = stands(script=_Picky({"a"}), tags={"temperature": "a"})
        assert stand.watch("a", "nonsense").tags == ("a",)


class _Picky(_Opening):
    """Refuses tags that it does not know."""

    def __init__(self, known: set[str]) -> None:
        super().__init__(self._session)
        self._known = known

    def _session(self, tags: Sequence[str]) -> ScriptedSession:
        for tag in tags:
            if tag not in self._known:
                raise ConfigError(f"no tag {tag!r}")
        return ScriptedSession(tuple(tags))


class TestTimes:
    def test_the_listener_has_a_clock_that_never_jumps(self, stands: Make) -> None:
        """The wall clock is set; what samples are made by goes on evenly."""

        class Jumping(ManualClock):
            def now_ns(self) -> int:
                return super().now_ns() + self.off

            off = 0

        clock, heard = Jumping(), []
        script = Script()
        listener = Listener(
            lambda _, now: heard.append(now), heard.append, heard.append, heard.append
        )
        it = Supervisor(
            script.live, ScriptedOptions(name="x"), listener, clock=clock, log=Journal()
        )
        before = clock.now_ns()
        it.watch(["a"])
        session = script.session
        clock.off = -3600 * SECOND
        clock.advance(1)
        seen = len(heard)
        while len(heard) < seen + 3:
            threading.Event().wait(0.001)
        it.stop()
        assert it.join(PATIENCE)
        assert session.closed.is_set()
        assert all(before <= each <= before + 2 * SECOND for each in heard)

    def test_values_far_ahead_are_left_out(self, stands: Make) -> None:
        """And counted."""
        stand = stands()
        session = stand.watch("a")
        now = stand.clock.now_ns()
        session.shelf.put(reading("a", 1.0, time_ns=now + 3600 * SECOND, arrived_ns=now))
        stand.reads()
        assert stand.it.standing.dropped == {"clock": 1}
        assert stand.heard.delivered == []

    def test_snapshot(self, stands: Make) -> None:
        """What stands counts from the beginning of the session."""
        stand = stands(script=Script(snapshot=True))
        session = stand.watch("a")
        now = stand.clock.now_ns()
        session.shelf.put(reading("a", 1.0, time_ns=now - 7200 * SECOND, arrived_ns=now))
        stand.heard.until(lambda: stand.heard.delivered)
        [found] = stand.heard.delivered
        assert isinstance(found, Readings)
        assert found.times_ns[0] == now


class TestStop:
    def test_while_nothing_comes(self, stands: Make) -> None:
        """The session is closed, and no thread is left."""
        stand = stands()
        session = stand.watch("a")
        stand.close()
        assert session.closed.is_set()
        assert stand.it.standing.phase == "stopped"
        assert "source-line" not in {thread.name for thread in threading.enumerate()}

    def test_while_it_waits(self) -> None:
        """A wait of half a minute is not waited for."""
        script = Script()
        script.refusals.extend(SourceError("refused") for _ in range(100))
        waiting = threading.Event()

        def long(_: float) -> float:
            waiting.set()
            return 3600.0

        heard = Heard()
        it = Supervisor(
            script.live,
            ScriptedOptions(name="line"),
            heard.listener,
            clock=ManualClock(),
            log=Journal(),
            backoff=Backoff(long),
        )
        it.watch(["a"])
        assert waiting.wait(PATIENCE)
        it.stop()
        assert it.join(PATIENCE)

    def test_while_open_hangs(self) -> None:
        """Nobody waits longer than he wants; what is opened after all is closed at once."""
        opening, go_on, session = threading.Event(), threading.Event(), ScriptedSession(("a",))

        def hang(*_: Any) -> ScriptedSession:
            opening.set()
            assert go_on.wait(PATIENCE)
            return session

        heard = Heard()
        options, clock = ScriptedOptions(name="line"), ManualClock()
        it = Supervisor(Live(hang), options, heard.listener, clock=clock, log=Journal())
        it.watch(["a"])
        assert opening.wait(PATIENCE)
        clock.advance(STUCK_SECONDS + 1)
        assert it.late > 0.0
        it.stop()
        assert not it.join(0.05)
        go_on.set()
        assert it.join(PATIENCE)
        assert session.closed.is_set()
        assert it.late == 0.0  # it has ended

    def test_while_read_raises(self, stands: Make) -> None:
        """Whichever comes first."""
        stand = stands()
        session = stand.watch("a")
        session.shelf.fail(SourceError("gone"))
        stand.close()
        assert session.closed.is_set()

    def test_before_it_began(self, stands: Make) -> None:
        """There is nothing to wait for."""
        stand = stands()
        stand.it.stop()
        assert stand.it.join(0.0)

    def test_one_after_the_other(self, stands: Make) -> None:
        """A device that takes one connection only: the next one waits until the last has ended."""
        closing, go_on = threading.Event(), threading.Event()

        class Slow(ScriptedSession):
            def close(self) -> None:
                closing.set()
                assert go_on.wait(PATIENCE)
                super().close()

        first = stands(script=_Opening(lambda tags: Slow(tuple(tags))))
        last = first.watch("a")
        second = Script()
        heard = Heard()
        it = Supervisor(
            second.live,
            ScriptedOptions(name="line"),
            heard.listener,
            clock=ManualClock(),
            log=Journal(),
            after=first.it,
        )
        it.watch(["a"])
        first.it.stop()
        assert closing.wait(PATIENCE)
        assert second.attempts == 0
        go_on.set()
        assert second.session
        assert last.closed.is_set()
        it.stop()
        assert it.join(PATIENCE)

    def test_standings_from_another_thread(self, stands: Make) -> None:
        """Counting goes on meanwhile."""
        stand = stands()
        session = stand.watch("a")
        stop = threading.Event()

        def count() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                session.counts[f"reason {n % 500}"] += 1
                if n % 500 == 0:
                    session.counts.clear()

        thread = threading.Thread(target=count)
        thread.start()
        try:
            for _ in range(50):
                found: Mapping[str, int] = stand.it.standing.dropped
                assert len(found) <= 500
        finally:
            stop.set()
            thread.join()
        assert stand.script.attempts == 1
