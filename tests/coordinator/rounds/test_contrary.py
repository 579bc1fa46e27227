# SPDX-License-Identifier: Apache-2.0
"""Who pulls against most others."""

import math
from collections.abc import Mapping

import pytest

from fedmill_coordinator.aggregation.robust.base import Verdict
from fedmill_coordinator.rounds.contrary import (
    BLATANT,
    LEAST_AGENTS,
    agreeing,
    contrary,
)

GOOD = {f"press-{number}": (0.08 + number / 1000,) for number in range(6)}


def told(agreements: Mapping[str, tuple[float | None, ...]]) -> dict[str, list[Verdict]]:
    """Verdicts that say this of agreement, the oldest first."""
    return {a: [Verdict(agreement=each) for each in found] for a, found in agreements.items()}


class TestContrary:
    def test_literal(self) -> None:
        """Middle 0.082, spread at its least, 0.02: -0.01 lies 4.6 spreads below."""
        assert contrary(told({**GOOD, "odd": (-0.01,)}), 1, ()) == {"odd": -0.01}

    def test_an_agreement_that_is_not_negative(self) -> None:
        """Little in common is not against."""
        assert contrary(told({**GOOD, "odd": (0.0,)}), 1, ()) == {}

    def test_rounds_are_averaged(self) -> None:
        """One contrary round among fitting ones is nothing; the last ones count."""
        good = {agent: each * 3 for agent, each in GOOD.items()}
        assert contrary(told({**good, "odd": (0.1, -0.2, 0.2)}), 3, ()) == {}
        found = contrary(told({**good, "odd": (0.9, -0.2, 0.1)}), 2, ())
        assert found == {"odd": pytest.approx(-0.05)}

    def test_too_few_rounds(self) -> None:
        """Nobody is judged by less than the job says who is not blatant."""
        good = {agent: each * 2 for agent, each in GOOD.items()}
        assert contrary(told({**good, "odd": (-0.2,)}), 2, ()) == {}
        assert contrary(told({**good, "odd": (-0.2, None)}), 2, ()) == {}

    def test_rounds_in_which_nobody_looked_do_not_count(self) -> None:
        """Neither for it nor against it: those before are looked at."""
        good = {agent: each * 3 for agent, each in GOOD.items()}
        found = contrary(told({**good, "odd": (-0.1, None, -0.1)}), 2, ())
        assert found == {"odd": pytest.approx(-0.1)}

    @pytest.mark.parametrize(("agreed", "seen"), [(-0.29, False), (-0.31, True)])
    def test_the_blatant(self, agreed: float, *, seen: bool) -> None:
        """They are seen in the first round, and where the others have nothing in common."""
        nothing = dict.fromkeys(GOOD, (0.0,))
        assert bool(contrary(told({**GOOD, "odd": (agreed,)}), 5, ())) is seen
        assert bool(contrary(told({**nothing, "odd": (agreed,)}), 5, ())) is seen

    def test_the_fewer_rounds_the_further(self) -> None:
        """Three and a half spreads over four rounds, seven in one: here 0.35 below 0."""
        wide = {f"press-{n}": (0.05 * (-1) ** n,) * 4 for n in range(6)}
        spread = 1.4826 * 0.05
        for count in (1, 2, 4):
            far = 3.5 * spread * math.sqrt(4 / count)
            for factor, seen in ((0.97, False), (1.03, True)):
                zeros = dict.fromkeys(("press-6", "press-7"), (0.0,) * 4)
                odd = {**wide, **zeros, "odd": (-factor * far,) * count}
                below = -factor * far < BLATANT
                assert bool(contrary(told(odd), 4, ())) is (seen and below)

    def test_small_fleets(self) -> None:
        """With fewer than six agents, in quarantine or not, there is no middle."""
        few = dict(list(GOOD.items())[: LEAST_AGENTS - 2])
        assert contrary(told({**few, "odd": (-0.9,)}), 1, ()) == {}
        assert contrary(told({**few, "x": (0.08,), "odd": (-0.9,)}), 1, ()) == {"odd": -0.9}
        assert contrary(told({**few, "x": (0.08,), "odd": (-0.9,)}), 1, {"x"}) == {"odd": -0.9}
        assert contrary(told({"odd": (-0.9,)}), 1, {"odd"}) == {}

    def test_nothing_in_common(self) -> None:
        """Where most agree with nobody, as at the end of a training, nobody is judged."""
        nothing = dict.fromkeys(GOOD, (0.001,))
        assert contrary(told({**nothing, "odd": (-0.25,)}), 1, ()) == {}

    def test_plants_that_differ_widen_the_spread(self) -> None:
        """What would be far among equals is near among plants that differ."""
        wide = {f"press-{n}": (0.02 + 0.04 * n,) for n in range(6)}
        assert contrary(told({**wide, "odd": (-0.05,)}), 1, ()) == {}


class TestAgreeing:
    def test_on_average(self) -> None:
        """Up to one spread below the middle; agents inside are looked at, and measure nobody."""
        agents = {**GOOD, "in": (0.07,), "out": (0.03,)}
        assert agreeing(told(agents), 1, {"in", "out"}) == {*GOOD, "in"}

    def test_nothing_in_common(self) -> None:
        """Where nobody can be judged, nobody is let out either."""
        assert agreeing(told(dict.fromkeys(GOOD, (0.0,))), 1, ()) == set()
