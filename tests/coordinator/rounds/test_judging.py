# SPDX-License-Identifier: Apache-2.0
"""Agents in quarantine: found, told, left out of the sum, and let in again."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import json, structs

from fedmill_coordinator.rounds.judging import in_quarantine, shifts_of
from fedmill_shared.job import Robustness

Make = Callable[..., SimpleNamespace]
NAMES = [f"agent-{letter}" for letter in "abcdefg"]
BAD = NAMES[2]
RULE = Robustness(rule="multi_krum", quarantine_rounds=3)


@pytest.fixture
def world(make_world: Make) -> SimpleNamespace:
    """Seven agents, and a job that wants all of them."""
    made = make_world(rounds=20, goal=7, minimum=3, uplink="fp32", downlink="fp32", robustness=RULE)
    return made.running(*NAMES)


def common(world: SimpleNamespace, agent: str) -> np.ndarray:
    """Much the same from every agent, and never quite."""
    generator = np.random.default_rng(world.number)
    shared = generator.normal(0, 0.01, world.elements)
    own = np.random.default_rng([world.number, NAMES.index(agent)])
    return (shared + own.normal(0, 0.002, world.elements)).astype(np.float32)


def a_round(world: SimpleNamespace, *, bad: bool, **told: Any) -> None:
    """Everybody delivers; the bad one the opposite, if it is bad."""
    for agent in NAMES:
        delta = common(world, agent)
        wrong = bad and agent == BAD
        world.deliver(agent, delta=-delta if wrong else delta, **(told if agent == BAD else {}))


def names(world: SimpleNamespace) -> list[str]:
    """Agents in quarantine."""
    return [each.agent for each in in_quarantine(world.rows, world.job)]


class TestQuarantine:
    def test_the_blatant_come_in_at_once(self, world: SimpleNamespace) -> None:
        """One bad round is enough where everything is backwards; three times as many end it."""
        seen = []
        for bad in (*[True] * 4, *[False] * 10):
            a_round(world, bad=bad)
            seen.append(names(world))
        # Nine rounds at least, and over the last nine it has to fit on average.
        assert seen == [[BAD]] * 12 + [[]] * 2

    def test_takes_as_many_rounds_as_the_job_says(self, world: SimpleNamespace) -> None:
        """Where it is a little against most others, over three rounds."""
        seen = []
        for _ in range(4):
            for agent in NAMES:
                delta = common(world, agent)
                if agent == BAD:
                    other = np.random.default_rng(9).normal(0, 1, world.elements)
                    other -= other @ delta / (delta @ delta) * delta
                    other *= np.linalg.norm(delta) / np.linalg.norm(other)
                    delta = (other - 0.15 * delta).astype(np.float32)
                world.deliver(agent, delta=delta)
            seen.append(names(world))
        assert seen[:2] == [[], []]
        assert seen[2:] == [[BAD]] * 2

    def test_the_reason_is_told_once(self, world: SimpleNamespace) -> None:
        """Where refusals are listed, in words for whoever goes and looks."""
        for _ in range(5):
            a_round(world, bad=True, steps=1.0, shift={"force": (6.2, 1.0)})
        [told] = [each for each in world.rows.refusals("tiny") if each.reason == "quarantine"]
        assert told.agent == BAD
        assert told.text.startswith("force: mean 6.2 standard deviations above the fleet's")
        assert told.text.endswith("check this sensor")

    def test_a_restart_changes_nothing(self, world: SimpleNamespace) -> None:
        """It is in the reports of the rounds, and nowhere else."""
        for _ in range(3):
            a_round(world, bad=True)
        world = world.restart()
        world.wait(3)  # the others alone do not make the goal: the fleet has to be complete
        assert names(world) == [BAD]
        for _ in range(10):
            a_round(world, bad=False)
        assert names(world) == []

    def test_its_updates_count_for_nothing(self, make_world: Make) -> None:
        """Whatever they say, the same version comes of the round."""
        versions = set()
        for factor in (-1.0, -0.5):
            settings = structs.replace(RULE, rule="geometric_median")
            world = make_world(
                rounds=20, goal=7, minimum=3, uplink="fp32", downlink="fp32",
                robustness=settings, folder=f"f{factor}",
            ).running(*NAMES)  # fmt: skip
            for _ in range(3):
                a_round(world, bad=True)
            assert names(world) == [BAD]
            for agent in NAMES:
                delta = common(world, agent)
                world.deliver(agent, delta=(factor if agent == BAD else 1.0) * delta)
            versions.add(world.learned().tobytes())
            last = world.rows.rounds("tiny")[3]
            assert BAD in last.included
        assert len(versions) == 1

    def test_can_be_switched_off(self, make_world: Make) -> None:
        """A job may say that nobody is put away."""
        rule = structs.replace(RULE, quarantine_rounds=0)
        world = make_world(rounds=9, goal=7, minimum=3, robustness=rule).running(*NAMES)
        for _ in range(4):
            a_round(world, bad=True)
        assert names(world) == []
        assert json.decode(world.rows.rounds("tiny")[0].report)["quarantine"] == []


class TestShiftsOf:
    @pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": [1]}', "nonsense"])
    def test_what_cannot_be_read(self, world: SimpleNamespace, text: str) -> None:
        """An agent that tells nonsense has told nothing."""
        a_round(world, bad=False)
        update = structs.replace(world.rows.updates("tiny", 1)[0], shift=text)
        assert shifts_of(update) == []
