# SPDX-License-Identifier: Apache-2.0
"""Which rounds are dense."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.rounds.ladder import Told, is_dense
from fedmill_shared.job import Compression

Make = Callable[..., SimpleNamespace]
A, B = "agent-a", "agent-b"


def followed(compression: Compression, losses: list[float]) -> str:
    """The rounds as they would be opened: D dense, s sparse."""
    past: list[Told] = []
    for number, loss in enumerate(losses, 1):
        past.append(Told(number, is_dense(compression, number, past), loss))
    return "".join("D" if told.dense else "s" for told in past)


class TestFirstRounds:
    def test_are_dense(self) -> None:
        """As many as the job says, then sparse ones."""
        assert followed(Compression(dense_rounds=3), [1.0] * 6) == "DDDsss"

    def test_none_by_default(self) -> None:
        """The codec is the job's uplink and downlink from the first round on."""
        assert followed(Compression(), [1.0] * 6) == "ssssss"


class TestPlateau:
    def test_backs_off_while_the_loss_stands_still(self) -> None:
        """Two sparse rounds no better than two before: two dense ones, then sparse again."""
        settings = Compression(dense_rounds=1, plateau_rounds=2)
        assert followed(settings, [5.0] * 12) == "DssssDDssssD"

    def test_a_falling_loss_stays_sparse(self) -> None:
        """What still learns needs no more bytes."""
        losses = [1 / n for n in range(1, 20)]
        assert followed(Compression(plateau_rounds=3), losses) == "s" * 19

    def test_a_loss_that_is_no_number_is_no_plateau(self) -> None:
        """Nothing can be told from it before, and after a finite one it is certainly no better."""
        assert followed(Compression(plateau_rounds=1), [math.nan, 1.0, 1.0, 1.0]) == "sssD"
        assert followed(Compression(plateau_rounds=1), [1.0, math.nan, 1.0]) == "ssD"

    @given(
        losses=st.lists(st.floats(0, 1), max_size=40),
        dense=st.integers(0, 5),
        span=st.integers(1, 5),
    )
    def test_what_is_older_changes_nothing(
        self, losses: list[float], dense: int, span: int
    ) -> None:
        """A restart that remembers twice the span of rounds decides the same."""
        settings = Compression(dense_rounds=dense, plateau_rounds=span)
        past: list[Told] = []
        for number, loss in enumerate(losses, 1):
            decided = is_dense(settings, number, past)
            assert decided == is_dense(settings, number, past[-2 * span :])
            past.append(Told(number, decided, loss))

    @pytest.mark.parametrize("missing", [2, 4])
    def test_an_abandoned_round_is_passed_over(self, missing: int) -> None:
        """It has no loss; the rounds around it count."""
        settings = Compression(plateau_rounds=2)
        past = [Told(n, dense=False, loss=1.0) for n in range(1, 6) if n != missing]
        assert is_dense(settings, 6, past)


class TestSchedule:
    def test_agents_are_told_the_codec_of_the_round(self, make_world: Make) -> None:
        """Dense ones first; both directions, and the record of the round say so."""
        world = make_world(rounds=3, uplink="stc-25", downlink="stc-25", dense_rounds=2)
        world.running(A, B)
        codecs = []
        for _ in range(3):
            codecs.append(world.voice.take("round")[-1].uplink)
            world.deliver(A, B)
        assert codecs == ["eden-1", "eden-1", "stc-25"]
        assert [each.uplink for each in world.rows.rounds("tiny")] == codecs
        down = [world.downlink_codec(each.number) for each in world.rows.versions("tiny")[1:]]
        assert down == codecs
