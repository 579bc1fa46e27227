# SPDX-License-Identifier: Apache-2.0
import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.aggregation.clipping import POOL, Clip, clip

norms = st.floats(1e-30, 1e30)
fleets = st.lists(st.one_of(st.just(0.0), norms), min_size=1, max_size=12)
histories = st.lists(norms, max_size=POOL)


def of(lengths: Sequence[float], before: Sequence[float] = (), multiple: float = 1.5) -> Clip:
    """A round of these lengths, which all count."""
    return clip(np.array(lengths), np.full(len(lengths), fill_value=True), before, multiple)


def clipped(*lengths: float, before: Sequence[float] = (), multiple: float = 1.5) -> Clip:
    """The same."""
    return of(lengths, before, multiple)


def left(lengths: np.ndarray, found: Clip) -> np.ndarray:
    """The lengths that are left."""
    return np.asarray(lengths * found.factors)


class TestClip:
    def test_by_hand(self) -> None:
        """Lengths 1, 2, 30: the median is 2, so 30 becomes 3 and the others stay."""
        found = clipped(1, 2, 30)
        assert found.bound == 3.0
        assert found.factors.tolist() == [1.0, 1.0, 0.1]
        assert found.remembered == (2.0,)

    def test_even_numbers(self) -> None:
        """The median of 1, 2, 8, 100 is 4, the geometric mean of 2 and 8."""
        assert clipped(1, 2, 8, 100).bound == pytest.approx(6.0)

    @given(fleets, histories, st.floats(1, 100))
    def test_nothing_is_longer_than_the_bound(
        self, fleet: list[float], before: list[float], multiple: float
    ) -> None:
        """What is longer gets just there, what is shorter is left alone, bit for bit."""
        lengths = np.array(fleet)
        found = of(fleet, before, multiple)
        long = lengths > found.bound
        assert left(lengths, found)[long] == pytest.approx(np.full(long.sum(), found.bound))
        assert (found.factors[~long] == 1).all()
        assert ((found.factors > 0) & (found.factors <= 1)).all()

    @given(fleets, histories, st.randoms())
    def test_permutation(self, fleet: list[float], before: list[float], rng: Random) -> None:
        """Who comes first makes no difference."""
        order = rng.sample(range(len(fleet)), len(fleet))
        found, shuffled = of(fleet, before), of([fleet[i] for i in order], before)
        assert shuffled.factors.tolist() == found.factors[order].tolist()
        assert (shuffled.bound, shuffled.remembered) == (found.bound, found.remembered)

    def test_who_does_not_count_is_no_measure(self) -> None:
        """Agents in quarantine are shortened like others, and say nothing about what is usual."""
        lengths, counts = np.array([1.0, 9, 9, 9, 1]), np.array([1, 0, 0, 0, 1], np.bool_)
        found = clip(lengths, counts, (), 1.5)
        assert (found.bound, found.remembered) == (1.5, (1.0,))
        assert found.factors.tolist() == pytest.approx([1, 1 / 6, 1 / 6, 1 / 6, 1])

    @given(fleets, histories, st.integers(-20, 20))
    def test_unit_of_length(self, fleet: list[float], before: list[float], power: int) -> None:
        """A fleet of other magnitude is clipped in the same way."""
        scale = 4.0**power
        one = of(fleet, before)
        other = of([each * scale for each in fleet], [each * scale for each in before])
        assert other.bound == pytest.approx(one.bound * scale, rel=1e-12)
        assert other.factors == pytest.approx(one.factors, rel=1e-12)

    @given(st.integers(3, 20), st.floats(1, 1e300), st.integers(0, 99))
    def test_breakdown(self, agents: int, lie: float, seed: int) -> None:
        """Fewer than half, however long, leave the bound within the honest lengths' reach."""
        honest = np.random.default_rng(seed).uniform(1, 2, agents - (agents - 1) // 2)
        found = of([*honest, *[lie] * ((agents - 1) // 2)])
        assert 1.5 * honest.min() <= found.bound * (1 + 1e-12)
        assert found.bound <= 1.5 * honest.max() * (1 + 1e-12)


class TestZeros:
    def test_they_do_not_count(self) -> None:
        """Agents that learned nothing shorten nobody, and stay zero."""
        found = clipped(0, 0, 0, 0, 2, 2.5)
        assert found.bound == pytest.approx(1.5 * math.sqrt(5))
        assert found.factors.tolist() == [1.0] * 6

    def test_nothing_but_zeros(self) -> None:
        """There is nothing to shorten and nothing to remember."""
        found = clipped(0, 0, before=(3.0,))
        assert (found.bound, found.remembered) == (0.0, (3.0,))
        assert found.factors.tolist() == [1.0, 1.0]

    def test_the_smallest_and_the_largest(self) -> None:
        """Nothing overflows or vanishes at the ends of what float32 vectors can be."""
        assert clipped(1e-45, 1e-45, 5e42).factors.tolist() == pytest.approx([1, 1, 3e-88])
        assert clipped(5e42, 5e42, multiple=1e6).bound == pytest.approx(5e48)


class TestFewUpdates:
    def test_the_first_alone_has_no_measure(self) -> None:
        """A job's first round with one update takes it as it is."""
        found = clipped(1000)
        assert found.factors.tolist() == [1.0]
        assert found.remembered == (1000.0,)

    def test_a_later_one_alone_is_measured_by_those_before(self) -> None:
        """A thousand after four rounds of one becomes one and a half, and is remembered so."""
        found = clipped(1000, before=(1.0,) * 4)
        assert found.bound == 1.5
        assert found.remembered == (1.0, 1.0, 1.0, 1.0, 1.5)

    def test_of_two_a_gigantic_one_counts_by_its_root(self) -> None:
        """Before there is a history a million becomes fifteen hundred."""
        found = clipped(1, 1e6)
        assert found.bound == pytest.approx(1500.0)

    def test_a_tiny_one_of_two_does_not_shorten_the_other_to_nothing(self) -> None:
        """With a history it does not shorten it at all."""
        assert clipped(1e-9, 1, before=(1.0,) * 6).factors.tolist() == [1.0, 1.0]

    def test_of_three_the_middle_one_is_the_measure(self) -> None:
        """Whatever the third one does."""
        assert clipped(1, 1, 1e9).bound == clipped(1, 1, 0).bound == 1.5

    def test_a_large_round_goes_by_itself(self) -> None:
        """Eight updates need no history; seven take one round of it, the newest."""
        assert clipped(*[1.0] * 8, before=(100.0,) * 8).bound == 1.5
        three = clipped(1, 1, 1, 4, 4, 4, 4, before=(9.0, 0.1))
        assert three.bound == pytest.approx(1.5 * 2.0)

    def test_memory_is_short(self) -> None:
        """Only as many medians are kept as a round can use."""
        remembered: tuple[float, ...] = ()
        for length in range(1, 20):
            remembered = clipped(length, before=remembered).remembered
        assert len(remembered) == POOL


class TestOverRounds:
    """Fleets and attackers over many rounds."""

    def run(self, rounds: list[list[float]], multiple: float = 1.5) -> list[np.ndarray]:
        """The factors of each round."""
        remembered: tuple[float, ...] = ()
        factors = []
        for lengths in rounds:
            found = of(lengths, remembered, multiple)
            remembered = found.remembered
            factors.append(found.factors)
        return factors

    @pytest.mark.parametrize("agents", [8, 20])
    @pytest.mark.parametrize("pace", [0.5, 0.9, 1.0, 1.2, 3.0])
    def test_a_large_fleet_may_grow_and_shrink(self, agents: int, pace: float) -> None:
        """Updates of like length are never shortened, however fast their length changes."""
        spread = np.linspace(0.9, 1.2, agents)
        found = self.run([list(spread * pace**k) for k in range(30)])
        assert all((factors == 1).all() for factors in found)

    @pytest.mark.parametrize("agents", [1, 2, 3])
    @pytest.mark.parametrize("pace", [0.5, 0.9, 1.0, 1.05])
    def test_a_small_fleet_may_shrink_and_grow_a_little(self, agents: int, pace: float) -> None:
        """As training converges, or warms up."""
        found = self.run([[pace**k] * agents for k in range(30)])
        assert all((factors == 1).all() for factors in found)

    @pytest.mark.parametrize("agents", [1, 2, 3, 5])
    def test_a_small_fleet_that_jumps_is_caught_up_with(self, agents: int) -> None:
        """Another codec makes all updates ten times as long: after a while they are whole again."""
        found = self.run([[1.0] * agents] * 8 + [[10.0] * agents] * 40)
        assert found[8].tolist() == [0.15] * agents or agents > 4
        assert found[-1].tolist() == [1.0] * agents
        whole = next(k for k, factors in enumerate(found[8:]) if (factors == 1).all())
        assert whole <= 25

    @pytest.mark.parametrize("multiple", [1.5, 3.0, 10.0])
    def test_one_of_two_that_inflates_slowly(self, multiple: float) -> None:
        """It is held where it is ``multiple`` squared times the other, however long it tries."""
        remembered: tuple[float, ...] = ()
        length = 1.0
        for _ in range(300):
            found = of([1.0, length], remembered, multiple)
            remembered = found.remembered
            assert min(length, found.bound) <= multiple**2 * (1 + 1e-9)
            length = multiple * found.bound

    def test_one_of_two_from_the_first_round_on(self) -> None:
        """What it gains in the first round it loses again."""
        found = self.run([[1.0, 1e8]] * 60)
        kept = [1e8 * factors[1] for factors in found]
        assert kept[0] == pytest.approx(1.5e4)
        assert kept[-1] == pytest.approx(1.5**2, rel=0.01)

    def test_an_attacker_with_every_other_round(self) -> None:
        """Rounds of one update: the honest ones between hold it."""
        rounds = [[1.0] if k % 2 else [1.5 ** min(k, 500)] for k in range(200)]
        kept = [r[0] * f[0] for r, f in zip(rounds, self.run(rounds), strict=True)]
        assert max(kept[2:]) < 4.0


class TestPeak:
    @pytest.mark.parametrize(("size", "wrong", "agents"), [(1, 1, 5), (3, 20, 100), (2, 2, 10)])
    def test_rounds_of_few_do_not_drive_it(self, size: int, wrong: int, agents: int) -> None:
        """Whoever is in a round, with updates a million times as long, over three hundred."""
        generator = np.random.default_rng(0)
        remembered, peak = (), 0.0
        for _ in range(300):
            chosen = generator.permutation(agents)[:size]
            lengths = np.where(chosen < wrong, 1e6, 1.0)
            if not remembered:
                lengths[:] = 1.0
            found = clip(lengths, np.ones(size, np.bool_), remembered, 1.5, peak=peak)
            remembered, peak = found.remembered, found.peak
            assert found.bound <= 1.5**3

    def test_who_still_learns_is_not_silenced_by_those_who_have(self) -> None:
        """Ten rounds after all were 1 long, most are 0.01: one of 1 keeps nearly all of itself."""
        remembered, peak = (), 0.0
        everybody = np.ones(9, np.bool_)
        for usual in [1.0] + [0.01] * 10:
            lengths = np.array([usual] * 8 + [1.0])
            found = clip(lengths, everybody, remembered, 1.5, peak=peak)
            remembered, peak = found.remembered, found.peak
        assert found.bound == pytest.approx(1.5 * 0.99**10)
        assert found.factors[-1] == 1.0

    def test_fades(self) -> None:
        """What was usual five hundred rounds ago no longer is."""
        found = clip(np.full(9, 0.1), np.ones(9, np.bool_), (0.1,) * 8, 1.5, peak=0.99**500)
        assert found.bound == pytest.approx(0.15)

    def test_one_long_update_does_not_raise_it(self) -> None:
        """Only the middle of the round does."""
        lengths = np.array([1.0] * 8 + [1e6])
        assert clip(lengths, np.ones(9, np.bool_), (), 1.5).peak == 1.0
