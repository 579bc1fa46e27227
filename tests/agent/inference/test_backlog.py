# SPDX-License-Identifier: Apache-2.0
"""Windows that wait for their turn, on a machine that is too slow for them."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.kit import Journal

from fedmill_agent.inference.backlog import TOLD_SECONDS, Backlog
from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.inference.scorer import Scorer
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ModelError
from fedmill_shared.signals.windows import Window


class Slow:
    """Stands in for a model that takes ``seconds`` for each call."""

    outputs = 1
    features = None

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.calls: list[int] = []
        self.fails = False

    def bound(
        self, windows: np.ndarray, outputs: np.ndarray, features: None = None
    ) -> Callable[[], None]:
        """A call that gives the first value of each window."""

        def call() -> None:
            if self.fails:
                raise ModelError("it cannot")
            self.clock.advance(self.seconds)
            self.calls.append(len(windows))
            outputs[:, 0] = windows[:, 0, 0]

        return call


def windows(first: int, last: int) -> list[Window]:
    """Windows that are known by their first value."""
    return [
        Window("run", "unit", n, n, np.full((1, 2), n, np.float32), 1.0, n)
        for n in range(first, last)
    ]


class Gateway:
    """A backlog with its clock, model and log."""

    def __init__(self, seconds: float = 0.0, **options: float) -> None:
        self.clock, self.journal = ManualClock(), Journal()
        self.model = Slow(self.clock, seconds)
        settings = InferenceSection(**options)
        scorer = Scorer(self.clock, self.journal, batch=settings.batch)
        scorer.swap("v", self.model)
        self.backlog = Backlog(scorer, settings, self.clock, self.journal)

    def scored(self) -> list[int]:
        """Numbers of the windows that are scored now."""
        return [int(each.outputs[0]) for each in self.backlog.score()]


class TestBatches:
    @given(counts=st.lists(st.integers(1, 9), max_size=6), batch=st.integers(1, 7))
    def test_all_in_their_order_a_few_at_a_time(self, counts: list[int], batch: int) -> None:
        """As many calls as there must be, whatever the events that they came with."""
        gateway, made = Gateway(batch=batch), 0
        for count in counts:
            gateway.backlog.add(windows(made, made + count), gateway.clock.monotonic())
            made += count
        assert len(gateway.backlog) == made
        assert gateway.scored() == list(range(made))
        assert gateway.model.calls == [batch] * (made // batch) + [made % batch] * bool(
            made % batch
        )
        assert len(gateway.backlog) == 0
        assert gateway.journal.entries == []

    def test_nobody_watches_history(self) -> None:
        """Recordings to learn from are scored like all others, and no alarm comes of them."""
        gateway, seen = Gateway(batch=4), []
        gateway.backlog._scorer.observe(lambda scored: seen.extend(scored.outputs[:, 0]))
        gateway.backlog.add(windows(0, 3), None, history=True)
        gateway.backlog.add(windows(3, 9), None)
        gateway.backlog.add(windows(9, 10), None, history=True)
        assert gateway.scored() == list(range(10))
        assert gateway.model.calls == [3, 4, 2, 1]
        assert seen == [3, 4, 5, 6, 7, 8]

    def test_nothing_waits_after_a_fault(self) -> None:
        """The windows are lost, those that come next are scored."""
        gateway = Gateway()
        gateway.model.fails = True
        gateway.backlog.add(windows(0, 40), None)
        with pytest.raises(ModelError):
            gateway.backlog.score()
        gateway.model.fails = False
        gateway.backlog.add(windows(40, 41), None)
        assert gateway.scored() == [40]


class TestDeadline:
    def test_the_oldest_give_way(self) -> None:
        """Those that waited too long when their turn came; the others are scored."""
        gateway = Gateway(deadline_seconds=5.0)
        gateway.backlog.add(windows(0, 3), gateway.clock.monotonic())
        gateway.clock.advance(4.0)
        gateway.backlog.add(windows(3, 5), gateway.clock.monotonic())
        gateway.clock.advance(1.5)
        assert gateway.scored() == [3, 4]
        assert gateway.backlog.skipped == 3

    def test_time_goes_on_while_others_are_scored(self) -> None:
        """A model that takes 2 s for a call of two: within 5 s it comes to six windows."""
        gateway = Gateway(seconds=2.0, deadline_seconds=5.0, batch=2)
        gateway.backlog.add(windows(0, 10), gateway.clock.monotonic())
        assert gateway.scored() == [0, 1, 2, 3, 4, 5]
        assert gateway.backlog.skipped == 4
        assert gateway.model.calls == [2, 2, 2]

    def test_an_overloaded_machine_stays_at_the_present(self) -> None:
        """Windows come twice as fast as they are scored: none is scored late, half are skipped."""
        gateway = Gateway(seconds=1.0, deadline_seconds=3.0, batch=1)
        clock, begin, begin_ns = gateway.clock, gateway.clock.monotonic(), gateway.clock.now_ns()
        came, ages = 0, []
        while came < 200:
            while came <= 2 * (clock.monotonic() - begin):
                gateway.backlog.add(windows(came, came + 1), begin + came / 2)
                came += 1
            said = gateway.backlog.score()
            ages += [(p.scored_ns - begin_ns) / 1e9 - p.outputs[0] / 2 for p in said]
        assert max(ages) <= 3.0 + 1.0
        assert len(ages) + gateway.backlog.skipped == came
        assert 80 <= gateway.backlog.skipped <= 100

    @pytest.mark.parametrize(("deadline", "known"), [(0.0, True), (5.0, False)])
    def test_some_have_none(self, *, deadline: float, known: bool) -> None:
        """Without the option, and of recordings that are replayed at once."""
        gateway = Gateway(deadline_seconds=deadline)
        gateway.backlog.add(windows(0, 3), gateway.clock.monotonic() if known else None)
        gateway.clock.advance(1e6)
        assert gateway.scored() == [0, 1, 2]
        assert gateway.backlog.skipped == 0

    def test_it_is_told_once_a_minute(self) -> None:
        """How many since the last time, how long they waited, and what to do."""
        gateway = Gateway(deadline_seconds=5.0)
        for _ in range(3):
            gateway.backlog.add(windows(0, 2), gateway.clock.monotonic() - 7.0)
            gateway.scored()
        gateway.clock.advance(TOLD_SECONDS)
        gateway.backlog.add(windows(0, 1), gateway.clock.monotonic() - 6.0)
        gateway.scored()
        told = gateway.journal.of("windows.skipped")
        assert [(each["windows"], each["waited"], each["deadline"]) for each in told] == [
            (2, 7.0, 5.0),
            (5, 6.0, 5.0),
        ]
        assert "window.stride" in told[0]["remedy"]
