# SPDX-License-Identifier: Apache-2.0
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from fedmill_coordinator.aggregation.robust.base import Verdict
from fedmill_coordinator.rounds.quarantine import Judged, Quarantine, quarantines
from fedmill_shared.signals.shift import SignalShift

AGENTS = ("press-1", "press-2", "press-3", "press-4", "press-5")
AWAY = Verdict(0.0, statistic="points away from the others (cosine -0.83)")
BEYOND = Verdict(0.05, statistic="hardly resembles the others (cosine 0.01)", factor=0.25)
FITS = Verdict(1.0, statistic="fits the others (cosine 0.60)")


def _rounds(*found: dict[str, Verdict], first: int = 1) -> list[Judged]:
    """Rounds of all agents that fit but for what ``found`` says."""
    return [
        Judged(first + i, dict.fromkeys(AGENTS, FITS) | verdicts)
        for i, verdicts in enumerate(found)
    ]


def _names(found: list[Quarantine]) -> list[str]:
    return [each.agent for each in found]


class TestEntering:
    def test_literal(self) -> None:
        """Three rounds apart, and the agent counts for nothing."""
        history = _rounds({}, {"press-2": AWAY}, {"press-2": BEYOND}, {"press-2": AWAY})
        shifts = {"press-2": [SignalShift("vibration", 6.2, 1.1)]}
        assert quarantines(history, 3, shifts=shifts) == [
            Quarantine(
                "press-2",
                since_round=5,
                reason="vibration: mean 6.2 standard deviations above the fleet's; its last update "
                "points away from the others (cosine -0.83): check this sensor",
                rounds_left=3,
            )
        ]

    @pytest.mark.parametrize(
        ("sigmas", "told"),
        [
            (999.9, "999.9 standard deviations above"),
            (1e308, "over 1000 standard deviations above"),
            (-1e308, "over 1000 standard deviations below"),
        ],
    )
    def test_an_absurd_shift(self, sigmas: float, told: str) -> None:
        """Whatever an agent says of its signals, its reason stays a sentence."""
        history = _rounds(*[{"press-2": AWAY}] * 3)
        shifts = {"press-2": [SignalShift("vibration", sigmas, -1e308)]}
        [found] = quarantines(history, 3, shifts=shifts)
        assert f"vibration: mean {told}" in found.reason
        assert len(found.reason) < 200

    def test_one_good_round_is_enough_to_stay_out(self) -> None:
        """They must be in a row."""
        history = _rounds({"press-2": AWAY}, {"press-2": AWAY}, {}, {"press-2": AWAY})
        assert quarantines(history, 3, shifts={}) == []

    def test_rounds_it_missed_do_not_count(self) -> None:
        """Neither for it nor against it: its own last rounds do."""
        history = _rounds({"press-2": AWAY}, {}, {}, {"press-2": AWAY})
        missed = [Judged(each.round, dict(each.verdicts)) for each in history]
        for each in missed[1:3]:
            del each.verdicts["press-2"]  # type: ignore[attr-defined]
        assert _names(quarantines(missed, 2, shifts={})) == ["press-2"]

    def test_too_few_rounds(self) -> None:
        """An agent that has just come cannot have stood apart for long."""
        assert quarantines(_rounds({"press-2": AWAY}), 2, shifts={}) == []

    def test_never(self) -> None:
        """A job that says 0 has no quarantine, and lets out whoever was in one."""
        standing = [Quarantine("press-1", 1, "", 2)]
        history = _rounds({"press-2": AWAY}, {"press-2": AWAY})
        assert quarantines(history, 0, standing=standing, shifts={}) == []

    def test_before_the_first_round(self) -> None:
        """Nobody is."""
        assert quarantines([], 2, shifts={}) == []

    def test_never_half_of_them(self) -> None:
        """Of five agents at most two, those that stood apart most."""
        slight = Verdict(0.09)
        verdicts = {"press-1": slight, "press-3": AWAY, "press-5": Verdict(0.05), "press-4": slight}
        history = _rounds(verdicts, verdicts)
        assert _names(quarantines(history, 2, shifts={})) == ["press-3", "press-5"]

    def test_who_is_inside_comes_first(self) -> None:
        """The places are taken."""
        verdicts = {"press-3": AWAY, "press-4": AWAY, "press-5": AWAY}
        standing = [Quarantine("press-4", 1, "old", 2), Quarantine("press-5", 1, "old", 2)]
        found = quarantines(_rounds(verdicts, verdicts), 2, standing=standing, shifts={})
        assert _names(found) == ["press-4", "press-5"]

    def test_two_agents(self) -> None:
        """Nobody can tell which of them is wrong."""
        history = [Judged(i, {"a": AWAY, "b": FITS}) for i in (1, 2)]
        assert quarantines(history, 2, shifts={}) == []


class TestLeaving:
    STANDING = Quarantine("press-2", 3, "vibration: ...", 2)

    def test_literal(self) -> None:
        """After two rounds in a row in which its update fits, and not before."""
        apart = {"press-2": AWAY}
        history = _rounds(apart, apart, {}, {}, apart, {}, {})
        standing, seen = [self.STANDING], []
        for last in range(3, 8):
            standing = quarantines(history[:last], 2, standing=standing, shifts={})
            seen.append([each.rounds_left for each in standing])
        assert seen == [[1], [], [], [], []]

    def test_apart_again(self) -> None:
        """Counting starts anew; the reason stays what it was."""
        apart = {"press-2": AWAY}
        history = _rounds(apart, apart, {}, apart)
        found = quarantines(history, 2, standing=[self.STANDING], shifts={})
        assert found == [Quarantine("press-2", 3, "vibration: ...", 2)]

    def test_rounds_before_do_not_count(self) -> None:
        """What was good before the quarantine is no reason to end it."""
        history = _rounds({}, {}, {})
        found = quarantines(history, 2, standing=[self.STANDING], shifts={})
        assert [each.rounds_left for each in found] == [1]

    def test_rounds_in_which_nobody_looked_do_not_count(self) -> None:
        """Neither for it nor against it."""
        history = _rounds({}, {}, {"press-2": Verdict()}, {"press-2": Verdict()})
        found = quarantines(history, 2, standing=[self.STANDING], shifts={})
        assert [each.rounds_left for each in found] == [2]

    def test_an_agent_that_is_away_stays(self) -> None:
        """Being absent mends nothing."""
        history = [Judged(i, dict.fromkeys(("press-1", "press-3"), FITS)) for i in range(3, 9)]
        found = quarantines(history, 2, standing=[self.STANDING], shifts={})
        assert found == [self.STANDING]

    def test_it_may_come_again(self) -> None:
        """Whoever was let out and stands apart again is put aside again."""
        apart = {"press-2": AWAY}
        history = _rounds(apart, apart, {}, {}, apart, apart)
        standing: list[Quarantine] = []
        seen = []
        for last in range(1, 7):
            standing = quarantines(history[:last], 2, standing=standing, shifts={})
            seen.append([(each.since_round, each.rounds_left) for each in standing])
        assert seen == [[], [(3, 2)], [(3, 1)], [], [], [(7, 2)]]


def _fleet(agreements: dict[str, float | None], number: int) -> Judged:
    """A round of ten agents that agree, 0.1 each, but for what ``agreements`` says."""
    everybody = dict.fromkeys((f"mill-{i}" for i in range(10)), 0.1)
    told = {**everybody, **agreements}
    return Judged(number, {agent: Verdict(agreement=each) for agent, each in told.items()})


def _without(judged: Judged, agent: str) -> Judged:
    return Judged(judged.round, {a: v for a, v in judged.verdicts.items() if a != agent})


def _walk(history: list[Judged], rounds: int, look_back: int = 99) -> list[list[tuple[str, int]]]:
    """Who is inside after each round, and for how long at least."""
    standing: list[Quarantine] = []
    seen = []
    for last in range(1, len(history) + 1):
        past = history[max(0, last - look_back) : last]
        standing = quarantines(past, rounds, standing=standing, shifts={})
        assert quarantines(past, rounds, standing=standing, shifts={}) == standing
        seen.append([(each.agent, each.rounds_left) for each in standing])
    return seen


class TestByAgreement:
    """Fleets large enough for averages."""

    def test_literal(self) -> None:
        """In after two rounds a little against the others, out after six that fit on average."""
        bad, good = {"mill-3": -0.05}, {"mill-3": 0.1}
        history = [_fleet(bad if i < 2 else good, i) for i in range(9)]
        inside = [[("mill-3", left)] for left in (6, 5, 4, 3, 2, 1)]
        assert _walk(history, 2) == [[], *inside, [], []]

    def test_the_reason(self) -> None:
        """Says against whom, and how far."""
        history = [_fleet({"mill-3": -0.05}, i) for i in range(2)]
        [found] = quarantines(history, 2, shifts={})
        assert found.reason.startswith("its last updates pull against most others (cosine -0.05)")

    def test_blatant(self) -> None:
        """One round is enough."""
        assert _walk([_fleet({"mill-3": -0.9}, 0)], 5) == [[("mill-3", 15)]]

    @pytest.mark.parametrize("every", [1, 3, 4, 8])
    def test_who_is_rarely_there_comes_out_as_well(self, every: int) -> None:
        """Its own rounds count, however many there are between them."""
        first = [_fleet({"mill-3": -0.9}, 0)]
        rest = [_fleet({"mill-3": 0.1}, i) for i in range(1, 6 * 8 + 1)]
        history = first + [
            each if each.round % every == 0 else _without(each, "mill-3") for each in rest
        ]
        seen = _walk(history, 2, look_back=10)
        assert [len(each) for each in seen] == [1] * (6 * every) + [0] * (len(seen) - 6 * every)

    def test_six_agents(self) -> None:
        """While one of six is inside, the others are still a measure of it."""
        six = {f"mill-{i}": 0.1 for i in range(6)}
        history = [
            Judged(i, {a: Verdict(0.5, agreement=v) for a, v in {**six, "mill-3": -0.3}.items()})
            for i in range(40)
        ]
        assert [[agent for agent, _ in each] for each in _walk(history, 5)[5:]] == [["mill-3"]] * 35

    def test_rounds_in_which_nobody_looked(self) -> None:
        """Every other one: neither in nor out by those."""

        def told(i: int) -> dict[str, float | None]:
            each = -0.05 if i < 4 else 0.1
            return (
                dict.fromkeys((f"mill-{n}" for n in range(10)), None) if i % 2 else {"mill-3": each}
            )

        seen = [len(each) for each in _walk([_fleet(told(i), i) for i in range(16)], 2)]
        assert seen == [0, 0] + [1] * 12 + [0, 0]

    def test_never_half_of_them(self) -> None:
        """Of ten at most four, those first that pull most."""
        bad = {f"mill-{i}": -0.5 - i / 100 for i in range(4)}
        assert len(_walk([_fleet(bad, 0)], 2)[-1]) == 4


class TestRestart:
    @given(st.integers(0, 2**32 - 1), st.integers(1, 4))
    def test_the_last_rounds_are_enough(self, seed: int, rounds: int) -> None:
        """What the whole history says, the newest ``rounds`` of it and the last answer say too."""
        source = random.Random(seed)
        history = _rounds(
            *(
                {agent: source.choice([AWAY, FITS]) for agent in AGENTS if source.random() < 0.8}
                for _ in range(14)
            )
        )
        standing: list[Quarantine] = []
        for last in range(1, len(history) + 1):
            whole = quarantines(history[:last], rounds, standing=standing, shifts={})
            short = quarantines(
                history[max(0, last - rounds) : last], rounds, standing=standing, shifts={}
            )
            assert whole == short
            standing = whole
            assert len(standing) <= 2

    def test_asked_twice(self) -> None:
        """With its own answer for these rounds it says the same again."""
        apart = {"press-2": AWAY}
        history = _rounds(apart, apart, {})
        first = quarantines(history, 2, standing=quarantines(history[:2], 2, shifts={}), shifts={})
        assert quarantines(history, 2, standing=first, shifts={}) == first

    def test_reports_store_it(self) -> None:
        """As JSON."""
        one = Quarantine("press-2", 3, "vibration: ...", 2)
        assert json.decode(json.encode([one]), type=list[Quarantine]) == [one]


class TestReason:
    @pytest.mark.parametrize(
        ("shifts", "reason"),
        [
            (
                [SignalShift("vibration", -3.5, 1.0)],
                "vibration: mean 3.5 standard deviations below the fleet's; {}: check this sensor",
            ),
            (
                [SignalShift("vibration", 0.5, 4.25)],
                "vibration: spread 4.2 times the fleet's; {}: check this sensor",
            ),
            (
                [SignalShift("force", 0.1, 0.0), SignalShift("speed", 1.0, 1.0)],
                "force: spread 0 times the fleet's; {}: check this sensor",
            ),
            (
                [
                    SignalShift("force", 3.3, 1.0),
                    SignalShift("speed", 2.9, 0.4),
                    SignalShift("torque", 0.0, 9.0),
                    SignalShift("power", 4.0, 1.0),
                ],
                (
                    "torque: spread 9 times the fleet's; power: mean 4.0 standard deviations above "
                    "the fleet's; {}: check these sensors"
                ),
            ),
            (
                [SignalShift("vibration", 2.9, 2.9)],
                "{}; no signal is off: check the labels",
            ),
            ([], "{}; no signal is off: check the labels"),
            (None, "{}: check its sensors and labels"),
        ],
    )
    def test_names_what_is_off(self, shifts: list[SignalShift] | None, reason: str) -> None:
        """The worst first; an agent that told nothing is not said to have good sensors."""
        told = {} if shifts is None else {"press-2": shifts}
        found = quarantines(_rounds({"press-2": AWAY}), 1, shifts=told)
        update = "its last update points away from the others (cosine -0.83)"
        assert [each.reason for each in found] == [reason.format(update)]

    def test_without_words(self) -> None:
        """A report of an older version has none."""
        found = quarantines(_rounds({"press-2": Verdict(0.0)}), 1, shifts={"press-2": []})
        assert found[0].reason == (
            "its last update stood apart; no signal is off: check the labels"
        )
