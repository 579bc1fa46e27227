# SPDX-License-Identifier: Apache-2.0
"""When an alarm comes and goes, and what people hear of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.alarms.condition import Verdict
from fedmill_agent.alarms.machine import HOUR_NS, IDLE, Rules, Standing, Turn, step, wait
from fedmill_shared.job import Alarm

MINUTE = 60 * 10**9
RULES = Rules(windows=2, repeat_ns=0, per_hour=0)
ON, OFF, BETWEEN = Verdict.ON, Verdict.OFF, Verdict.BETWEEN
LETTERS = {"!": ON, ".": OFF, "-": BETWEEN}


@dataclass
class Line:
    """An alarm of one machine, with a window a minute."""

    rules: Rules = RULES
    state: Standing = IDLE
    now_ns: int = 1000 * HOUR_NS
    told: list[tuple[int, Turn]] = field(default_factory=list)

    def window(self, verdict: Verdict, minutes: float = 1.0) -> Turn | None:
        """One more window."""
        self.now_ns += round(minutes * MINUTE)
        self.state, turn = step(self.state, verdict, self.now_ns, self.now_ns, self.rules)
        return self._remember(turn)

    def pause(self, minutes: float) -> Turn | None:
        """Time goes by without a window."""
        self.now_ns += round(minutes * MINUTE)
        self.state, turn = wait(self.state, self.now_ns, self.rules)
        return self._remember(turn)

    def windows(self, text: str) -> str:
        """What is told at each of some windows: r, R for repeated, c, or a space."""
        return "".join(_letter(self.window(LETTERS[each])) for each in text)

    def _remember(self, turn: Turn | None) -> Turn | None:
        if turn is not None:
            self.told.append((self.now_ns, turn))
        return turn


def _letter(turn: Turn | None) -> str:
    return " " if turn is None else {"raised": "r", "repeated": "R", "cleared": "c"}[turn.telling]


class TestRaising:
    @pytest.mark.parametrize(
        ("windows", "told"),
        [
            ("!!", " r"),
            ("!.!.!.!!", "       r"),
            ("!-!-!!", "     r"),
            ("!!!!", " r  "),
            ("!!.!!..", " r    c"),
            ("!!.-..", " r   c"),
            ("!!.!.!..", " r     c"),
            ("!!..!!..", " r c r c"),
            ("........", " " * 8),
        ],
    )
    def test_it_takes_windows_in_a_row(self, windows: str, told: str) -> None:
        """Both to come and to go; a window in the dead band begins neither row."""
        assert Line().windows(windows) == told

    def test_one_window_may_be_enough(self) -> None:
        """It comes and goes with each."""
        assert Line(Rules(1, 0, 0)).windows("!.!.") == "rcrc"

    def test_since_when(self) -> None:
        """From the first window of the row that raised it."""
        line = Line(Rules(3, 0, 0))
        line.windows("!!.")
        first = line.now_ns + MINUTE
        line.windows("!!!.!")
        assert (line.state.raised, line.state.since_ns) == (True, first)

    def test_time_without_windows_changes_nothing(self) -> None:
        """A machine that stands still is not well again."""
        line = Line()
        line.windows("!!")
        line.pause(60 * 24)
        assert line.state.raised
        assert len(line.told) == 1

    def test_a_machine_at_rest_is_as_one_never_heard_of(self) -> None:
        """Nothing of it is to be remembered, once the hour is over."""
        line = Line(Rules(2, 0, 5))
        line.windows("!!..!.")
        line.pause(61)
        assert line.state == IDLE

    def test_the_rules_of_a_job(self) -> None:
        """In the units of the job file."""
        alarm = Alarm(name="a", windows=4, repeat_seconds=1.5, per_hour=7)
        assert Rules.of(alarm) == Rules(4, 1_500_000_000, 7)


class TestRepeating:
    def test_one_that_goes_on_is_told_again(self) -> None:
        """As often as the job says, as long as windows say so."""
        line = Line(Rules(1, 3 * MINUTE, 0))
        assert line.windows("!!!!!!!!..") == "r  R  R c "

    def test_zero_is_never(self) -> None:
        """It is told once."""
        assert Line(Rules(1, 0, 0)).windows("!" * 100).count("R") == 0

    def test_not_while_windows_say_otherwise(self) -> None:
        """It may be about to end."""
        line = Line(Rules(2, MINUTE, 0))
        assert line.windows("!!.!.!") == " r R R"


class TestLimit:
    def test_what_comes_more_often_is_counted(self) -> None:
        """Twice raised and cleared in the hour, then no more; the count is told with the next."""
        line = Line(Rules(1, 0, 4))
        assert line.windows("!.!.!.!.!.") == "rcrc      "
        line.pause(60)
        assert line.window(ON) == Turn("raised", suppressed=3)
        assert line.state.suppressed == 0

    def test_the_last_word_is_true(self) -> None:
        """What ended while nothing might be told is told when it may."""
        line = Line(Rules(1, 0, 1))
        assert line.windows("!.") == "r "
        assert line.pause(57) is None
        assert line.pause(3) == Turn("cleared", suppressed=0)

    def test_one_that_came_meanwhile_is_told_late(self) -> None:
        """Also where no window has come since; it is not counted as kept from them."""
        line = Line(Rules(1, 0, 2))
        assert line.windows("!.!") == "rc "
        assert line.pause(60) == Turn("raised", suppressed=0)
        assert line.pause(120) is None

    def test_one_that_came_back_unheard_is_the_same_to_them(self) -> None:
        """They know that it is raised, and are told later how often it came."""
        line = Line(Rules(1, 0, 1))
        assert line.windows("!.!.!") == "r    "
        assert line.pause(120) is None
        assert line.window(OFF) == Turn("cleared", suppressed=2)

    def test_repeats_count(self) -> None:
        """They are told, too."""
        line = Line(Rules(1, 10 * MINUTE, 2))
        told = line.windows("!" * 50)
        assert told.replace(" ", "") == "rR"
        assert line.state.suppressed == 3

    def test_a_clock_that_was_ahead_silences_nobody_for_long(self) -> None:
        """Set back by a year, it takes an hour at most."""
        line = Line(Rules(1, 10 * MINUTE, 1))
        line.windows("!.")
        line.now_ns -= 365 * 24 * HOUR_NS
        line.window(ON)
        assert line.window(OFF, minutes=61) is not None


VERDICTS = st.sampled_from([ON, OFF, BETWEEN])
STEPS = st.lists(
    st.tuples(st.one_of(st.none(), VERDICTS), st.sampled_from([0.0, 0.5, 7.0, 31.0, 65.0])),
    max_size=60,
)
ANY_RULES = st.builds(
    Rules,
    windows=st.integers(1, 4),
    repeat_ns=st.sampled_from([0, MINUTE, 20 * MINUTE]),
    per_hour=st.integers(0, 3),
)
Steps = list[tuple[Verdict | None, float]]


def played(rules: Rules, steps: Iterable[tuple[Verdict | None, float]]) -> Line:
    """What comes of windows, and of time without them (None)."""
    line = Line(rules)
    for verdict, minutes in steps:
        if verdict is None:
            line.pause(minutes)
        else:
            line.window(verdict, minutes)
    return line


class TestAlways:
    @given(ANY_RULES, STEPS)
    def test_never_more_than_allowed_in_an_hour(self, rules: Rules, steps: Steps) -> None:
        """Whatever hour one looks at."""
        times = [time_ns for time_ns, _ in played(rules, steps).told]
        for first in times if rules.per_hour else ():
            assert sum(first <= each < first + HOUR_NS for each in times) <= rules.per_hour

    @given(ANY_RULES, STEPS)
    def test_never_raised_without_a_row(self, rules: Rules, steps: Steps) -> None:
        """By brute force: each raise lies behind n windows in a row that say so, unended."""
        line, verdicts, raised = Line(rules), [], False
        for verdict, minutes in steps:
            if verdict is None:
                line.pause(minutes)
                continue
            line.window(verdict, minutes)
            verdicts.append(verdict)
            row = verdicts[-rules.windows :]
            if len(row) == rules.windows and set(row) == {ON}:
                raised = True
            if len(row) == rules.windows and set(row) == {OFF}:
                raised = False
            assert line.state.raised == raised

    @given(ANY_RULES, STEPS)
    def test_people_hear_one_thing_after_the_other(self, rules: Rules, steps: Steps) -> None:
        """It is raised, perhaps repeated, then cleared; and in the end they know what is."""
        line = played(rules, steps)
        known = False
        for _, turn in line.told:
            assert known == (turn.telling != "raised")
            known = turn.telling != "cleared"
        line.pause(61)
        assert line.state.heard == line.state.raised

    @given(ANY_RULES, STEPS)
    def test_nothing_is_forgotten(self, rules: Rules, steps: Steps) -> None:
        """Every time that it was raised or due again is told or counted."""
        line, times = Line(rules), 0
        for verdict, minutes in [*steps, (None, 61.0)]:
            before = line.state.raised
            if verdict is None:
                line.pause(minutes)
            else:
                line.window(verdict, minutes)
            times += line.state.raised and not before
        raised = sum(turn.telling == "raised" for _, turn in line.told)
        unsaid = sum(turn.suppressed for _, turn in line.told) + line.state.suppressed
        if not rules.repeat_ns:
            assert raised + unsaid == times
        assert raised + unsaid >= times

    @given(ANY_RULES, STEPS)
    def test_a_restart_is_no_restart(self, rules: Rules, steps: Steps) -> None:
        """Between any two windows: the state on disk is all there is."""
        line, again = Line(rules), Line(rules)
        for verdict, minutes in steps:
            again.state = msgspec.msgpack.decode(msgspec.msgpack.encode(again.state), type=Standing)
            for each in (line, again):
                if verdict is None:
                    each.pause(minutes)
                else:
                    each.window(verdict, minutes)
        assert (line.told, line.state) == (again.told, again.state)
