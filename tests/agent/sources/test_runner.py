# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fedmill_agent.sources.base import (
    Event,
    LabelInterval,
    ReplayOptions,
    RunEnded,
    Samples,
    SourceKind,
    SourceOptions,
)
from fedmill_agent.sources.csv import KIND, CsvOptions
from fedmill_agent.sources.runner import SourceEnded, SourceEvent, SourceRunner
from fedmill_agent.sources.timeline import parse_iso
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import DataError

SECOND = 10**9
START = parse_iso("2024-01-01")


class Options(ReplayOptions, frozen=True, kw_only=True, tag="test"):
    """A source that a test writes itself."""


class Pause(threading.Event):
    """A stop flag whose waiting moves a clock instead of taking time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Pass ``timeout`` seconds."""
        self._clock.advance(timeout or 0.0)
        return self.is_set()


class Listener:
    """A sink that remembers what it was given and when; after ``limit`` it listens no more."""

    def __init__(self, clock: ManualClock | None = None, limit: int = 10**6) -> None:
        self._clock = clock or ManualClock()
        self._limit = limit
        self.begin = self._clock.monotonic()
        self.given: list[SourceEvent | SourceEnded] = []
        self.times: list[float] = []

    def __call__(self, event: SourceEvent | SourceEnded) -> bool:
        """Take an event."""
        self.given.append(event)
        self.times.append(round(self._clock.monotonic() - self.begin, 6))
        return len(self.given) < self._limit

    @property
    def events(self) -> list[Event]:
        """What the source said."""
        return [given.event for given in self.given if isinstance(given, SourceEvent)]

    @property
    def ends(self) -> list[SourceEnded]:
        """How the source ended."""
        return [given for given in self.given if isinstance(given, SourceEnded)]


def one_run(options: SourceOptions, _tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """Ten samples in two chunks from the option's start, a label, and the end."""
    start, period = parse_iso(options.start), round(SECOND / rate_hz)
    values = np.arange(10.0)[None]
    yield Samples("run", "unit", start, period, values[:, :4])
    yield Samples("run", "unit", start + 4 * period, period, values[:, 4:])
    yield LabelInterval("run", start, start + 9 * period, "good")
    yield RunEnded("run")


def runner(
    listener: Listener,
    options: ReplayOptions | None = None,
    *,
    read: Callable[[SourceOptions, Sequence[str], float], Iterator[Event]] = one_run,
    clock: ManualClock | None = None,
) -> SourceRunner:
    """A runner at 1 Hz whose waiting takes no time."""
    options = options or Options(name="s")
    made = SourceRunner(
        SourceKind(Options, read),
        options,
        ["tag"],
        1.0,
        sink=listener,
        clock=clock or ManualClock(),
    )
    made._stopped = Pause(clock) if clock else made._stopped
    return made


class TestDelivery:
    def test_events_come_unchanged_then_the_end(self) -> None:
        """As fast as possible, nothing is divided or renamed."""
        listener = Listener()
        runner(listener)._run()
        first, second, *rest = listener.events
        assert isinstance(first, Samples)
        assert isinstance(second, Samples)
        assert first.values.tolist() == [[0, 1, 2, 3]]
        assert (second.start_ns, second.values.shape) == (START + 4 * SECOND, (1, 6))
        assert rest == [LabelInterval("run", START, START + 9 * SECOND, "good"), RunEnded("run")]
        assert listener.ends == [SourceEnded("s")]

    def test_a_thread_of_its_own(self) -> None:
        """``start`` returns at once, ``join`` waits for the end."""
        listener = Listener()
        started = runner(listener)
        started.join(0)  # nothing to wait for yet
        started.start()
        started.join(20)
        assert listener.ends == [SourceEnded("s")]

    def test_a_sink_that_listens_no_more_ends_it(self) -> None:
        """Nothing is said after that, not even the end."""
        listener = Listener(limit=1)
        runner(listener)._run()
        assert len(listener.given) == 1


class TestPace:
    @pytest.mark.parametrize("speed", [1.0, 4.0, 60.0])
    def test_samples_come_when_they_would_have(self, speed: float) -> None:
        """Each piece comes when its last sample would have, `speed` times faster."""
        clock = ManualClock()
        listener = Listener(clock)
        runner(listener, Options(name="s", speed=speed), clock=clock)._run()
        for event, came in zip(listener.events, listener.times, strict=False):
            if isinstance(event, Samples):
                end = event.start_ns + event.values.shape[1] * event.period_ns
                assert came == pytest.approx((end - START) / SECOND / speed, abs=1e-5)
        assert listener.times[-1] == pytest.approx(10 / speed, abs=1e-5)

    def test_chunks_are_divided_and_lose_nothing(self) -> None:
        """At 1 Hz and four times real time, one sample is a quarter of a second."""
        clock = ManualClock()
        listener = Listener(clock)
        runner(listener, Options(name="s", speed=4.0), clock=clock)._run()
        pieces = [event for event in listener.events if isinstance(event, Samples)]
        assert [piece.values.tolist() for piece in pieces] == [[[float(n)]] for n in range(10)]
        assert [piece.start_ns for piece in pieces] == [START + n * SECOND for n in range(10)]

    def test_a_slow_listener_is_not_waited_for_twice(self) -> None:
        """Who has fallen behind gets the rest without a pause."""
        clock = ManualClock()
        listener = Listener(clock)

        def slow(event: SourceEvent | SourceEnded) -> bool:
            if not listener.given:
                clock.advance(100.0)
            return listener(event)

        started = runner(listener, Options(name="s", speed=1.0), clock=clock)
        started._sink = slow
        started._run()
        assert set(listener.times) == {101.0}

    def test_stop_ends_a_long_wait(self) -> None:
        """Nobody waits for a sample that is due in a quarter of an hour."""
        listener = Listener()
        slow = SourceRunner(
            SourceKind(Options, one_run),
            Options(name="s", speed=0.001),
            ["tag"],
            1.0,
            sink=listener,
            clock=SystemClock(),
        )
        slow.start()
        slow.stop()
        slow.join(20)
        assert not slow._thread.is_alive()
        assert listener.given == []


class TestRepeat:
    def test_later_passes_are_later_and_other_runs(self) -> None:
        """Timestamps only rise, and run names differ, so that windows never mix."""
        listener = Listener(limit=12)
        runner(listener, Options(name="s", repeat=True))._run()
        runs = [event.run for event in listener.events]
        assert runs == ["run"] * 4 + ["run#2"] * 4 + ["run#3"] * 4
        starts = [event.start_ns for event in listener.events if isinstance(event, Samples)]
        assert all(before < after for before, after in pairwise(starts))
        labels = [event for event in listener.events if isinstance(event, LabelInterval)]
        assert [label.start_ns for label in labels] == starts[::2]
        assert starts[2] == START + 11 * SECOND
        assert listener.ends == []

    def test_a_real_source_starts_where_it_is_told(self, tmp_path: Path) -> None:
        """The options of the next pass are those of the source but for the start."""
        path = tmp_path / "a.csv"
        path.write_text("x\n1\n2\n")
        listener = Listener(limit=4)
        options = CsvOptions(name="s", path=str(path), repeat=True)
        SourceRunner(KIND, options, ["x"], 1.0, sink=listener, clock=ManualClock())._run()
        found = [(event.run, getattr(event, "start_ns", None)) for event in listener.events]
        assert found == [("a", START), ("a", None), ("a#2", START + 3 * SECOND), ("a#2", None)]

    def test_nothing_is_not_repeated_for_ever(self) -> None:
        """A source without samples ends with an error that names it."""
        listener = Listener()
        runner(listener, Options(name="s", repeat=True), read=lambda *_: iter([]))._run()
        [end] = listener.ends
        assert "'s' is empty" in str(end.error)


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            (DataError("file x: line 3 is damaged"), "file x: line 3 is damaged"),
            (PermissionError(13, "Permission denied", "x"), "source 's': .*Permission denied.*x"),
        ],
    )
    def test_is_told_with_the_end(self, fault: Exception, told: str) -> None:
        """What came before it counts."""

        def broken(*_: object) -> Iterator[Event]:
            yield RunEnded("run")
            raise fault

        listener = Listener()
        runner(listener, read=broken)._run()
        assert listener.events == [RunEnded("run")]
        [end] = listener.ends
        assert isinstance(end.error, DataError)
        with pytest.raises(DataError, match=told):
            raise end.error

    def test_a_faulty_program_is_told_too(self) -> None:
        """A third party's source that raises anything else still has an end."""

        def faulty(*_: object) -> Iterator[Event]:
            yield RunEnded("run")
            raise ZeroDivisionError

        listener = Listener()
        with pytest.raises(ZeroDivisionError):
            runner(listener, read=faulty)._run()
        [end] = listener.ends
        assert "'s' broke down" in str(end.error)
