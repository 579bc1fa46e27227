# SPDX-License-Identifier: Apache-2.0
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.aggregation.base import Update
from fedmill_coordinator.aggregation.shares import MOST, shares_of, staleness_weight
from fedmill_shared.codec.base import Dense
from fedmill_shared.errors import ModelError

claims = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12).filter(any)


def claiming(*examples: int) -> list[Update]:
    """Updates of as many agents."""
    nothing = Dense(np.zeros(0, np.float32))
    return [Update(f"a{i:02}", each, lambda: nothing, 0.0) for i, each in enumerate(examples)]


class TestShares:
    def test_by_examples(self) -> None:
        """One window and three: a quarter and three quarters."""
        assert shares_of(claiming(1, 3)).tolist() == [0.25, 0.75]

    @given(st.lists(st.integers(10, 50), min_size=1, max_size=12))
    def test_usual_claims_are_taken_as_they_are(self, examples: list[int]) -> None:
        """Where nobody has more than five times the median, it is the mean by examples."""
        expected = np.array(examples) / sum(examples)
        assert shares_of(claiming(*examples)) == pytest.approx(expected, rel=1e-15)

    def test_a_lie_does_not_own_the_round(self) -> None:
        """A thousand million windows among agents of a hundred count as five hundred."""
        shares = shares_of(claiming(100, 100, 10**9, 100, 100))
        assert shares.tolist() == pytest.approx([1 / 9, 1 / 9, 5 / 9, 1 / 9, 1 / 9])

    def test_a_job_says_how_much_a_claim_may_count(self) -> None:
        """``robustness.claim``: as much as the median, or whatever is claimed."""
        claims = claiming(100, 100, 800)
        assert shares_of(claims, most=1.0).tolist() == pytest.approx([1 / 3] * 3)
        assert shares_of(claims, most=1e6).tolist() == [0.1, 0.1, 0.8]

    @pytest.mark.parametrize(
        ("examples", "shares"),
        [
            ((7,), [1.0]),
            ((10, 10**9), [1 / 6, 5 / 6]),
            ((10, 20, 10**9), [0.1 / 1.3, 0.2 / 1.3, 1 / 1.3]),
        ],
    )
    def test_one_two_and_three(self, examples: tuple[int, ...], shares: list[float]) -> None:
        """Of two, the smaller one is the measure; of three, the middle one."""
        assert shares_of(claiming(*examples)).tolist() == pytest.approx(shares)

    def test_nothing_is_no_measure(self) -> None:
        """Agents without windows have no share and do not bring the median to zero."""
        assert shares_of(claiming(0, 0, 0, 4, 12)).tolist() == [0, 0, 0, 0.25, 0.75]

    @given(claims)
    def test_properties(self, examples: list[int]) -> None:
        """Shares sum to 1, keep the order of the claims, and none owns more than its part."""
        shares = shares_of(claiming(*examples))
        assert shares.sum() == pytest.approx(1.0)
        order = np.argsort(examples, kind="stable")
        assert (np.diff(shares[order]) >= -1e-15).all()  # but for the last bit of each
        told = [each for each in examples if each]
        # Half of the agents, the lower half too, are at least as high as it: MOST and the rest.
        least = len(told) - (len(told) - 1) // 2 - 1
        assert shares.max() <= MOST / (MOST + least) + 1e-12

    @given(claims, st.randoms())
    def test_permutation(self, examples: list[int], rng: Random) -> None:
        """Who comes first makes no difference."""
        order = rng.sample(range(len(examples)), len(examples))
        shuffled = shares_of(claiming(*(examples[i] for i in order)))
        assert shuffled == pytest.approx(shares_of(claiming(*examples))[order])

    def test_two_updates_of_one_agent_are_one_claim(self) -> None:
        """A late and a fresh update of the liar count five medians together, not ten."""
        nothing = Dense(np.zeros(0, np.float32))
        liar = [Update("z", 10**6, lambda: nothing, 0.0, round_) for round_ in (4, 5)]
        shares = shares_of([*claiming(10, 10, 10), *liar])
        assert shares.tolist() == pytest.approx([1 / 8, 1 / 8, 1 / 8, 2.5 / 8, 2.5 / 8])

    def test_excluded(self) -> None:
        """Who is excluded has no share, and does not move the median."""
        shares = shares_of(claiming(2, 10**6, 6, 10**6), excluded={"a01", "a03"})
        assert shares.tolist() == [0.25, 0.0, 0.75, 0.0]

    @pytest.mark.parametrize(
        ("examples", "excluded", "message"),
        [
            ((), (), "0 updates with no training windows behind them \\(wait until"),
            ((0, 0), (), "2 updates with no training windows behind them \\(wait until"),
            ((0, 5), ("a01",), "2 updates with no training windows behind them or from 1 excl"),
        ],
    )
    def test_nobody_is_left(
        self, examples: tuple[int, ...], excluded: tuple[str, ...], message: str
    ) -> None:
        """A round of nothing is refused, and the message says why."""
        with pytest.raises(ModelError, match=message):
            shares_of(claiming(*examples), excluded=excluded)


class TestStaleness:
    """FedBuff: what comes late weighs less."""

    def test_literal_weights(self) -> None:
        """(1 + s) ** -1/2: 1, 1/sqrt(2), 1/2 after three rounds, 1/10 after ninety-nine."""
        weights = [staleness_weight(late, 0.5) for late in (0, 1, 3, 99)]
        assert weights == pytest.approx([1, 1 / math.sqrt(2), 1 / 2, 1 / 10], rel=1e-15)

    @given(st.integers(0, 10**6), st.floats(0, 16))
    def test_weight_is_a_share(self, staleness: int, exponent: float) -> None:
        """Above 0, at most 1, and never more for what is later."""
        weight = staleness_weight(staleness, exponent)
        assert 0 < weight <= 1
        assert staleness_weight(staleness + 1, exponent) <= weight
        assert staleness_weight(0, exponent) == staleness_weight(staleness, 0.0) == 1.0
