# SPDX-License-Identifier: Apache-2.0
"""The loss of a round, whatever single agents say of theirs."""

import math

import pytest
from msgspec import structs

from fedmill_coordinator.rounds.loss import loss_of_round
from fedmill_coordinator.store.records import UpdateRecord

ONE = UpdateRecord(
    job="tiny", round=1, agent="a", base="", blob="", sha256="", examples=100, loss=0.7,
    wire_bytes=1, seconds=1.0, received_ns=0,
)  # fmt: skip


def updates(*told: tuple[float, int]) -> list[UpdateRecord]:
    """Updates with these losses and windows, of agents a, b, c and so on."""
    return [
        structs.replace(ONE, agent=chr(ord("a") + i), loss=loss, examples=examples)
        for i, (loss, examples) in enumerate(told)
    ]


class TestLossOfRound:
    def test_literal(self) -> None:
        """A mean weighted by windows."""
        assert loss_of_round(updates((0.5, 100), (1.0, 300))) == pytest.approx(0.875)

    def test_claims_of_windows(self) -> None:
        """Count at most five times the median."""
        found = loss_of_round(updates((0.5, 100), (0.5, 100), (1.0, 2**32)))
        assert found == pytest.approx((0.5 * 2 + 1.0 * 5) / 7)

    def test_claims_count_as_the_job_says(self) -> None:
        """An update counts as it does in the sum."""
        told = updates((0.5, 100), (0.5, 100), (1.0, 800))
        assert loss_of_round(told, claim=1e6) == pytest.approx(0.9)
        assert loss_of_round(told, claim=1.0) == pytest.approx(2 / 3)

    @pytest.mark.parametrize(("lie", "counts"), [(1e308, 7.0), (-5.0, 0.0), (float("inf"), 7.0)])
    def test_absurd_losses(self, lie: float, counts: float) -> None:
        """Count as ten times the median, or as nothing."""
        found = loss_of_round(updates(*[(0.7, 100)] * 9, (lie, 100)))
        assert found == pytest.approx((9 * 0.7 + counts) / 10)

    def test_not_a_number(self) -> None:
        """Is left out, unless all are."""
        nan = float("nan")
        assert loss_of_round(updates((0.5, 100), (nan, 100))) == 0.5
        assert math.isnan(loss_of_round(updates((nan, 100), (nan, 100))))

    def test_agents_in_quarantine(self) -> None:
        """Count for nothing, unless there are no others."""
        told = updates((0.5, 100), (5.0, 100))
        assert loss_of_round(told, {"b"}) == 0.5
        assert loss_of_round(told[1:], {"b"}) == 5.0
