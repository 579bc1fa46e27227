# SPDX-License-Identifier: Apache-2.0
"""The bench of deaths in mid-round: what it makes of rows and logs, and a small real run."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.bench import recovery
from tests.benchtests.measured import measured

from fedmill_coordinator.store.records import RoundRecord, UpdateRecord
from fedmill_shared.errors import FedmillError, UsageError

AGENTS = ["a", "b", "c"]


def closed(number: int) -> RoundRecord:
    """A round that went as it should."""
    return RoundRecord(
        job="j",
        round=number,
        base="0" * 64,
        state="closed",
        opened_ns=10**18,
        deadline_ns=2 * 10**18,
        included=AGENTS,
        accepted=len(AGENTS),
    )


def update(agent: str, *, digest: str = "1") -> UpdateRecord:
    """An update that waits for the close of round 4."""
    return UpdateRecord(
        job="j",
        round=4,
        agent=agent,
        base="0" * 64,
        blob=digest * 64,
        sha256=digest * 64,
        examples=8,
        loss=0.5,
        wire_bytes=100,
        seconds=0.1,
        received_ns=10**18,
    )


class TestHeld:
    @given(st.integers(2, 100), st.integers(2, 20))
    def test_from_one_to_all_but_one(self, agents: int, kills: int) -> None:
        """There is always an update to lose, and an agent to wait for."""
        shares = recovery.held(agents, kills)
        assert (len(shares), shares[0], shares[-1]) == (kills, 1, agents - 1)
        assert shares == sorted(shares)

    def test_five_kills_of_ten_agents(self) -> None:
        """Those of the bench."""
        assert recovery.held(10, 5) == [1, 3, 5, 7, 9]
        assert recovery.held(2, 1) == [1]

    @pytest.mark.parametrize("changes", [{"agents": 1}, {"kills": 0}])
    def test_impossible_options(self, changes: dict[str, int], tmp_path: Path) -> None:
        """They are refused before anything is started."""
        options = {"agents": 10, "kills": 5, "folder": tmp_path / "run"} | changes
        with pytest.raises(UsageError):
            recovery.run(Namespace(**options))
        assert not (tmp_path / "run").exists()


class TestRows:
    def test_use_changes_no_row(self) -> None:
        """That the round took an update, and that others came, is what should happen."""
        waiting = update("a")
        used = structs.replace(waiting, state="included", included_in=4)
        before, after = recovery.rows_of([waiting]), recovery.rows_of([update("b"), used])
        assert recovery.changed(before, after) == 0

    def test_what_is_lost_or_replaced_is_counted(self) -> None:
        """One is gone, one has another content, one came again later."""
        before = recovery.rows_of([update(agent) for agent in AGENTS])
        again = structs.replace(update("c"), received_ns=10**18 + 1)
        after = recovery.rows_of([update("b", digest="2"), again])
        assert recovery.changed(before, after) == 3
        assert recovery.changed(before, before) == 0

    @given(st.lists(st.tuples(st.sampled_from(AGENTS), st.integers(1, 4))))
    def test_every_training_but_the_first_is_one_too_many(
        self, sent: list[tuple[str, int]]
    ) -> None:
        """However many agents and rounds there are."""
        assert recovery.retrained(sent) == len(sent) - len(set(sent))


class TestBooks:
    def test_a_clean_job(self) -> None:
        """Version 0 is of no round, and the open round is not judged."""
        rounds = [closed(1), closed(2), structs.replace(closed(3), state="open", included=[])]
        assert recovery.wrong(rounds, [None, 1, 2], AGENTS) == 0
        assert recovery.wrong([], [None], AGENTS) == 0

    def test_a_version_that_came_meanwhile_is_no_fault(self) -> None:
        """Rounds are read first, and go on."""
        assert recovery.wrong([closed(1)], [None, 1, 2], AGENTS) == 0

    @pytest.mark.parametrize(
        ("spoil", "made"),
        [
            (lambda rounds: [rounds[0], rounds[2]], [None, 1, 2, 3]),
            (lambda rounds: [*rounds, rounds[1]], [None, 1, 2, 3]),
            (lambda rounds: rounds, [None, 1, 3]),
            (lambda rounds: rounds, [None, 1, 2, 2, 3]),
        ],
        ids=["a round lost", "a round doubled", "a version lost", "a version doubled"],
    )
    def test_lost_and_doubled(
        self, spoil: Callable[[list[RoundRecord]], list[RoundRecord]], made: list[int | None]
    ) -> None:
        """Each is one wrong round."""
        assert recovery.wrong(spoil([closed(1), closed(2), closed(3)]), made, AGENTS) == 1

    @pytest.mark.parametrize(
        "changes",
        [{"state": "abandoned"}, {"included": ["a", "b"], "accepted": 2}, {"accepted": 4}],
    )
    def test_a_round_without_every_agent_once(self, changes: dict[str, object]) -> None:
        """Abandoned, one agent short, or one update counted twice."""
        rounds = [closed(1), structs.replace(closed(2), **changes)]
        assert recovery.wrong(rounds, [None, 1, 2], AGENTS) == 1


class TestFigures:
    books = recovery.Books(retrained=0, wrong=0, rounds=30)
    quick = (recovery.Recovery(1.0, 0), recovery.Recovery(2.0, 0), recovery.Recovery(5.0, 0))

    @pytest.mark.parametrize(("slowest", "ok"), [(5.0, True), (5.1, False)])
    def test_the_slowest_recovery_of_the_coordinator_has_a_target(
        self, slowest: float, *, ok: bool
    ) -> None:
        """An agent or a broker may take what it takes."""
        late = [recovery.Recovery(60.0, 0)]
        found = recovery.figures_of(
            [*self.quick, recovery.Recovery(slowest, 0)], late, late, self.books
        )
        figures = {each.name: each for each in found}
        assert figures["coordinator killed: round closes after, p50"].value == 3.5
        assert figures["coordinator killed: round closes after, max"].ok is ok
        assert figures["broker killed: round closes after, max"].value == 60.0
        assert figures["kills"].value == 6
        assert [each.ok for each in found].count(False) == (not ok)

    def test_nothing_may_be_lost(self) -> None:
        """Not an update, not a training, not a round."""
        spoilt = [recovery.Recovery(1.0, 1)]
        found = recovery.figures_of(
            self.quick, spoilt, self.quick, recovery.Books(retrained=1, wrong=1, rounds=9)
        )
        assert [each.name for each in found if not each.ok] == [
            "updates retrained",
            "updates that were there, lost or changed",
            "rounds lost or doubled",
        ]


def test_what_waits_in_vain_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bench then ends with its JSON line, as with any other."""

    def never(*_arguments: object) -> None:
        raise AssertionError("database: not within 60 s")

    monkeypatch.setattr(recovery, "federation", never)
    with (
        pytest.raises(FedmillError, match="not within"),
        recovery._started(tmp_path / "run", 2),
    ):
        pass


@pytest.mark.system
@pytest.mark.slow
def test_small_run(tmp_path: Path) -> None:
    """Nothing is lost at any kill, whatever the machine makes of the seconds."""
    size = ["--agents", "3", "--kills", "2", "--folder", str(tmp_path / "run")]
    figures = measured("recovery", *size)
    assert figures["kills"].value == 2 + 2 * recovery.OTHERS
    assert figures["rounds"].value >= figures["kills"].value * recovery.BETWEEN
    for name in ("updates retrained", "rounds lost or doubled"):
        assert figures[name].value == 0
    assert figures["updates that were there, lost or changed"].value == 0
