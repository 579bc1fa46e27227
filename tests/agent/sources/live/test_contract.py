# SPDX-License-Identifier: Apache-2.0
"""What a plant may expect of every live source, whatever its protocol.

Each module below ``stands`` with a class ``Stand`` is a real server that the test owns; the agent's
side is the one that the daemon has: hub, supervisor and aligner, with the machine's own clock.
"""

import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.agent.kit import Journal

from fedmill_agent.sources import supervisor
from fedmill_agent.sources.base import Samples
from fedmill_agent.sources.hub import Hub
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.sources.state import Standing
from fedmill_agent.sources.wanted import Wanted
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import FedmillError

PATIENCE = 30.0
POKE_SECONDS = 0.05
RATE_HZ = 20.0
AWAY_SAMPLES = 10
FOLDER = Path(__file__).parent / "stands"
AWAY = ("waiting", "silent")


def _stands() -> dict[str, type[Any]]:
    """The stands that there are, by the kind of their source."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        module = import_module(f"tests.agent.sources.live.stands.{path.stem}")
        if hasattr(module, "Stand"):
            found[path.stem] = module.Stand
    return found


STANDS = _stands()


class Line:
    """A stand, and the agent's side of it.

    Attributes:
        stand: the server.
        rows: all samples so far, with their times.
    """

    def __init__(self, kind: str, folder: Path, journal: Journal) -> None:
        self.stand = stand = STANDS[kind](folder)
        self.rows: list[tuple[int, list[float]]] = []
        at_first: dict[str, float] = getattr(stand, "at_first", {})
        self.said = {tag: {at_first[tag]} if tag in at_first else set() for tag in stand.tags}
        self.failed: list[FedmillError] = []
        self._changed = threading.Condition()
        self.hub = Hub(
            [stand.options()], clock=SystemClock(), log=journal, failed=self.failed.append
        )

    @property
    def standing(self) -> Standing:
        """How the source is."""
        return self.hub.standings()["line"]

    def open(self) -> None:
        """Begin to read."""
        tags = tuple(self.stand.tags)
        wanted = Wanted(tags, RATE_HZ, (1,) * len(tags), (False,) * len(tags))
        self.hub.subscribe(1, "line", wanted, self._take)
        self.hub.start()

    def say(self, tag: str, value: float) -> None:
        """A good value."""
        self.said[tag].add(value)
        self.stand.say(tag, value)

    def until(self, done: Callable[[], object], poke: Callable[[], object] = bool) -> None:
        """Do ``poke`` again and again until ``done``."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, (self.standing, self.rows[-3:])
            poke()
            with self._changed:
                self._changed.wait(POKE_SECONDS)

    def until_heard(self, values: dict[str, float]) -> None:
        """Say ``values`` until each has become a sample of its tag, and of no other."""
        first = len(self.rows)
        columns = [self.stand.tags.index(tag) for tag in values]
        wanted = list(values.values())

        def heard() -> bool:
            rows = [row for _, row in self.rows[first:]]
            return all(
                any(row[at] == value for row in rows)
                for at, value in zip(columns, wanted, strict=True)
            )

        self.until(heard, lambda: [self.say(tag, value) for tag, value in values.items()])

    def column(self, tag: str, since: int = 0) -> list[float]:
        """What came of a tag, from a row on."""
        at = self.stand.tags.index(tag)
        return [row[at] for _, row in self.rows[since:]]

    def check(self) -> None:
        """Nothing has become a sample that was not said of its tag as a good value."""
        for tag, said in self.said.items():
            numbers = {value for value in self.column(tag) if np.isfinite(value)}
            assert numbers <= said, tag
        times = [at for at, _ in self.rows]
        assert times == sorted(times)

    def _take(self, event: SourceEvent) -> bool:
        if isinstance(event.event, Samples):
            found = event.event
            with self._changed:
                self.rows += [
                    (found.start_ns + n * found.period_ns, row)
                    for n, row in enumerate(found.values.T.tolist())
                ]
                self._changed.notify_all()
        return True


@pytest.fixture(params=sorted(STANDS))
def line(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Line]:
    """Of every kind; it is closed in the end, and no thread or process is left."""
    monkeypatch.setattr(supervisor.Backoff, "wait", lambda *_, **__: 0.1)
    threads, children = set(threading.enumerate()), set(psutil.Process().children())
    made = Line(request.param, tmp_path, Journal())
    try:
        yield made
    finally:
        made.hub.close(PATIENCE)
        made.stand.stop()
    assert made.standing.phase == "stopped"
    deadline = time.monotonic() + PATIENCE
    while left := [each.name for each in threading.enumerate() if each not in threads]:
        assert time.monotonic() < deadline, left
        threading.Event().wait(0.02)
    assert set(psutil.Process().children()) <= children
    made.check()


@pytest.fixture
def running(line: Line) -> Line:
    """One whose server runs, and that has brought values."""
    line.stand.start()
    line.open()
    first, second = line.stand.tags[:2]
    line.until_heard({first: 21.5, second: 1480.0})
    line.until(lambda: line.standing.phase == "running")
    return line


class TestContract:
    def test_values_arrive(self, running: Line) -> None:
        """Each number as it was said, under the tag that it was said of, soon after."""
        first, second = running.stand.tags[:2]
        running.until_heard({second: -0.25, first: 3.0})
        newest_ns = running.rows[-1][0]
        assert abs(newest_ns - time.time_ns()) < 60e9
        standing = running.standing
        assert standing.connections == 1
        assert standing.readings >= 4
        assert abs(standing.skew_seconds) < 60
        assert standing.problems == {}

    def test_the_server_goes_and_comes_back(self, running: Line) -> None:
        """What it held is missing from then on; the agent says so, and recovers alone."""
        first, second = running.stand.tags[:2]
        before = len(running.rows)
        running.stand.stop()
        running.until(lambda: running.standing.phase in AWAY)
        assert running.standing.error
        threading.Event().wait(AWAY_SAMPLES / RATE_HZ)  # so that samples fall into its absence
        running.stand.start()
        running.until_heard({first: 42.0, second: 7.0})
        running.until(lambda: running.standing.phase == "running")
        assert running.standing.connections >= 2
        known = [at for at, row in running.rows[before - 1 :] if np.isfinite(row[0])]
        assert max(np.diff(known)) > (AWAY_SAMPLES - 2) / RATE_HZ * 1e9
        assert running.failed == []

    def test_a_server_that_comes_later(self, line: Line) -> None:
        """The agent was started first."""
        line.open()
        line.until(lambda: line.standing.phase in AWAY)
        assert line.standing.error
        line.stand.start()
        first, second = line.stand.tags[:2]
        line.until_heard({first: 1.5, second: 2.5})

    @pytest.mark.parametrize("how", ["say_bad", "say_stale", "nan"])
    def test_what_is_not_good_is_no_sample(self, running: Line, how: str) -> None:
        """Bad, stale, NaN: the value before it ends, the other tag goes on, a good one is back."""
        first, second = running.stand.tags[:2]
        since = len(running.rows)

        def spoil() -> None:
            if how == "nan":
                running.stand.say(first, float("nan"))
            else:
                getattr(running.stand, how)(first)
            running.say(second, 1481.0)

        def missing() -> bool:
            spoilt, other = running.column(first, since), running.column(second, since)
            return bool((np.isnan(spoilt) & (np.array(other) == 1481.0)).any())

        try:
            running.until(missing, spoil)
        except NotImplementedError:
            assert how == "say_stale"  # the protocol has none
        running.until_heard({first: 22.25})

    def test_the_type_changes(self, running: Line) -> None:
        """A text is no number; it is counted, the other tag goes on, and so do numbers later."""
        first, second = running.stand.tags[:2]
        before = running.standing

        def counted() -> bool:
            now = running.standing
            return bool(
                now.bad > before.bad or now.dropped != before.dropped or now.problems or now.error
            )

        running.until(counted, lambda: running.stand.say_text(first, "out of order"))
        running.until_heard({second: 1482.0})
        running.until_heard({first: 23.5})

    def test_nonsense(self, running: Line) -> None:
        """It is counted or ends the connection; values go on."""
        first, second = running.stand.tags[:2]
        before = running.standing

        def noticed() -> bool:
            now = running.standing
            return now.dropped != before.dropped or bool(now.error)

        def speak() -> None:
            running.stand.garbage()
            running.say(second, 1483.0)

        running.until(noticed, speak)
        running.until_heard({first: 24.5, second: 1484.0})

    def test_stopping_while_the_server_is_away(self, running: Line) -> None:
        """It takes no longer than it may."""
        running.stand.stop()
        running.until(lambda: running.standing.phase in AWAY)
        running.hub.close(PATIENCE)
        assert running.standing.phase == "stopped"
