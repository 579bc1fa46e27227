# SPDX-License-Identifier: Apache-2.0
"""Updates that come after their round has closed: used by weight, or refused with a reason."""

from collections.abc import Callable
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import json

from fedmill_coordinator.rounds.harvest import harvest
from fedmill_shared.messages import Reason, UpdateOffer

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"
SECONDS = {A: 10.0, B: 14.0, C: 37.0}
EXACT = {"uplink": "fp32", "downlink": "fp32"}


def the(receipts: list[Any]) -> tuple[str, str]:
    """Fate and code of the only receipt."""
    [receipt] = receipts
    return receipt.fate, receipt.code


class TestUsed:
    """An update that is late waits for the next close, and weighs less there."""

    def test_one_round_late(self, make_world: Make, kit: SimpleNamespace) -> None:
        """It is part of the next mean by examples, its delta shortened by (1 + 1) ** -0.5."""
        world = make_world(goal=2, **EXACT).running(A, B, C)
        late = world.update(C, examples=16)
        world.deliver(A, B)
        assert the(world.send(C, *late)) == ("received", "")
        assert world.number == 2
        world.deliver(A)
        assert world.number == 0
        weight = 16 / np.sqrt(2)
        mean = (
            8 * kit.delta(A, 2, world.elements).astype(np.float64)
            + weight * kit.delta(C, 1, world.elements).astype(np.float64)
        ) / (8 + 16)
        assert np.allclose(world.learned(2), world.learned(1) + mean, rtol=1e-6, atol=1e-7)
        second = world.rows.rounds("tiny")[1]
        assert (second.included, second.accepted, second.discarded) == ([A, C], 2, 0)
        assert json.decode(second.report)["report"]["stale"] == 1
        assert [(u.agent, u.included_in) for u in world.rows.updates("tiny", 1)] == [
            (A, 1),
            (B, 1),
            (C, 2),
        ]

    def test_its_agent_is_still_asked(self, make_world: Make) -> None:
        """What it owes to this round is another update; both of them count then."""
        world = make_world(rounds=2, goal=0).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        world.wait(60)
        assert world.number == 2
        world.send(C, *late)
        world.deliver(A, B)
        world.wait(5)
        assert world.number == 2
        world.deliver(C)
        second = world.rows.rounds("tiny")[1]
        assert (second.included, second.accepted) == ([A, B, C], 4)
        assert json.decode(second.report)["report"]["examples"] == 32

    def test_the_notice_names_the_newest_of_an_agent(self, make_world: Make) -> None:
        """An agent with two updates in a round hears of the newer one and asks for the other."""
        world = make_world(rounds=3, goal=3, minimum=2).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        world.wait(60)
        world.send(C, *late)
        new = world.update(C)
        world.send(C, *new)
        world.deliver(A, B)
        notice = world.voice.take("round")[-1]
        assert notice.closed == 2
        assert notice.included[C] == new[0].sha256
        assert the(world.send(C, *late)) == ("included", "")

    def test_it_waits_through_a_restart(self, make_world: Make, kit: SimpleNamespace) -> None:
        """It is among those that count, and its receipt is not taken back."""
        world = make_world(goal=2, **EXACT).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        world.send(C, *late)
        world.restart()
        assert world.number == 2
        assert the(world.send(C, *late)) == ("received", "")
        world.deliver(B)
        assert world.rows.rounds("tiny")[1].included == [B, C]
        for number, expected in enumerate(kit.recomputed(world, kit.delta)):
            assert np.allclose(world.learned(number), expected, rtol=1e-5, atol=1e-6)

    def test_it_waits_where_no_round_is_open(self, make_world: Make) -> None:
        """Between rounds, because too few agents are there: the next one that opens uses it."""
        world = make_world(rounds=3, goal=2, minimum=2).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        for agent in (A, B, C):
            world.seen(agent, online=False)
        world.conductor._rounds.abandon("to be without a round")
        world.step()
        assert world.number == 0
        assert the(world.send(C, *late)) == ("received", "")
        world.join(A, B)
        world.deliver(A)
        assert world.rows.rounds("tiny")[2].included == [A, C]

    def test_arrival_order_leaves_no_trace(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Whoever of a late and two fresh ones comes first: the same version, bit by bit."""
        made = set()
        for order in permutations((A, B, C)):
            folder = "-".join(order)
            world = make_world(rounds=2, goal=3, minimum=2, folder=folder, **EXACT).running(A, B, C)
            late = world.update(C)
            world.deliver(A, B)
            world.wait(60)
            assert world.number == 2
            for agent in order:
                world.send(agent, *(late if agent == C else world.update(agent)))
            assert world.rows.rounds("tiny")[1].included == [A, B, C]
            made.add(world.learned(2).tobytes())
            expected = kit.recomputed(world, kit.delta)[2]
            assert np.allclose(world.learned(2), expected, rtol=1e-5, atol=1e-6)
        assert len(made) == 1


class TestTooLate:
    """What is not used any more: said with a code, stored, counted once."""

    def late(self, world: SimpleNamespace, rounds: int, **fields: Any) -> tuple[UpdateOffer, bytes]:
        """An update of C for a round after which ``rounds`` more have closed."""
        made: tuple[UpdateOffer, bytes] = world.update(C, **fields)
        for _ in range(rounds):
            world.deliver(A, B)
        return made

    @pytest.mark.parametrize(
        ("most", "rounds", "used"), [(2, 2, True), (2, 3, False), (0, 1, False)]
    )
    def test_up_to_the_jobs_limit(
        self, make_world: Make, *, most: int, rounds: int, used: bool
    ) -> None:
        """`max_staleness` rounds may pass, not one more."""
        world = make_world(rounds=9, goal=2, max_staleness=most).running(A, B, C)
        late = self.late(world, rounds)
        fate = the(world.send(C, *late))
        assert fate == (("received", "") if used else ("late", Reason.TOO_STALE))

    def test_is_stored_and_counted_once(self, make_world: Make) -> None:
        """However often it is offered; its blob is not kept, and its blocks not asked for."""
        world = make_world(rounds=9, goal=2, max_staleness=0).running(A, B, C)
        late = self.late(world, 1)
        for _ in range(3):
            assert the(world.send(C, *late)) == ("late", Reason.TOO_STALE)
        states = {u.agent: (u.state, u.code) for u in world.rows.updates("tiny", 1)}
        assert states[C] == ("late", "too_stale")
        assert not world.files.has(late[0].sha256)
        world.deliver(A, B)
        second = world.rows.rounds("tiny")[1]
        assert (second.accepted, second.rejected, second.discarded) == (2, 0, 1)
        assert json.decode(second.report)["discarded"] == {"too_stale": 1}
        assert world.rows.rounds("tiny")[2].discarded == 0

    def test_of_protocol_1(self, make_world: Make) -> None:
        """Such an agent has put the delta into its next update already: it would count twice."""
        world = make_world(rounds=9, goal=2).running(A, B, C)
        late = self.late(world, 1, protocol=1)
        assert the(world.send(C, *late)) == ("late", Reason.OLD_PROTOCOL)

    def test_offered_in_time_but_whole_too_late(self, make_world: Make) -> None:
        """The close between offer and last block decides."""
        for most, fate in ((0, "late"), (1, "received")):
            world = make_world(goal=2, max_staleness=most, folder=f"most-{most}").running(A, B, C)
            offer, frame = world.update(C)
            world.offer(C, offer)
            world.deliver(A, B)
            world.blocks(C, frame, [0])
            assert [receipt.fate for receipt in world.voice.take("receipt")] == [fate]

    def test_of_an_abandoned_round(self, make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its work belongs to a result that was no model."""
        monkeypatch.setattr("fedmill_coordinator.rounds.admission.LARGEST_CHANGE", np.inf)
        world = make_world(rounds=9, goal=2).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B, delta=np.full(world.elements, 3e38, np.float32))
        assert the(world.send(C, *late)) == ("late", Reason.ABANDONED)
        assert world.number == 2

    @pytest.mark.parametrize("finished", [False, True])
    def test_after_the_last_round(self, make_world: Make, *, finished: bool) -> None:
        """With no round to come there is no close that could use it."""
        world = make_world(rounds=1).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        if finished:
            world.evaluate(A, B, C)
            assert world.state == "finished"
        for _ in range(2):
            assert the(world.send(C, *late)) == ("late", Reason.ENDED)

    def test_with_a_base_that_the_round_never_had(self, make_world: Make) -> None:
        """A late update against something else is refused."""
        world = make_world().running(A, B, C)
        offer, frame = world.update(C, base="ab" * 32)
        world.deliver(A, B)
        assert the(world.send(C, offer, frame)) == ("refused", Reason.WRONG_BASE)

    def test_a_restart_counts_the_same(self, make_world: Make) -> None:
        """Refused and late ones since the opening, but none of an earlier round's."""
        worlds = [
            make_world(rounds=9, goal=2, max_staleness=0, folder=name).running(A, B, C)
            for name in ("whole", "killed")
        ]
        for world in worlds:
            for _ in range(2):
                late = world.update(C)
                world.wait(1)
                world.deliver(A, B)
                world.wait(1)
                world.send(C, *late)
                world.send(C, *world.update(C, examples=0))
                world.send(C, *world.update(C, base="00" * 32))
                if world is worlds[1]:
                    world.restart()
                world.send(C, *late)
                world.send(C, *world.update(C, examples=0))
            world.deliver(A, B)
        [whole, killed] = [
            [
                (r.accepted, r.rejected, r.discarded, json.decode(r.report))
                for r in w.rows.rounds("tiny")
            ]
            for w in worlds
        ]
        assert killed == whole
        third = killed[2]
        assert third[:3] == (2, 3, 1)
        assert third[3]["rejected"] == {"empty": 2, "wrong_base": 1}

    def test_the_next_round_takes_what_waits_and_no_more(self, make_world: Make) -> None:
        """What the close of a round would use, and what would be too late for it by then."""
        world = make_world(rounds=9, goal=2, max_staleness=2).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        world.send(C, *late)
        for number, used in ((2, True), (3, True), (4, False)):
            found = harvest(world.rows, world.job, number)
            assert [update.agent for update in found.used] == ([C] if used else [])
            assert [(u.agent, u.state, u.code) for u in found.overdue] == (
                [] if used else [(C, "late", "too_stale")]
            )


class TestModes:
    """Synchronous, K of N and asynchronous federation: the same calls, other settings."""

    def run(self, make_world: Make, kit: SimpleNamespace, **settings: Any) -> SimpleNamespace:
        """Three agents of different speed work on a job until it is over."""
        world = make_world(deadline_seconds=600.0, **EXACT, **settings).running(A, B, C)
        kit.play(world, SECONDS, until=2000)
        for number, expected in enumerate(kit.recomputed(world, kit.delta)):
            assert np.allclose(world.learned(number), expected, rtol=1e-5, atol=1e-6), number
        return world

    def closed(self, world: SimpleNamespace) -> list[tuple[float, list[str], int]]:
        """Of each round how long it took, who was included, and how many of it were late."""
        return [
            (r.seconds, r.included, json.decode(r.report)["report"]["stale"])
            for r in world.rows.rounds("tiny")
            if r.state == "closed"
        ]

    def test_synchronous(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Each round waits for the slowest; nothing is ever late."""
        world = self.run(make_world, kit, rounds=3, goal=0, minimum=1)
        assert [each[1:] for each in self.closed(world)] == [([A, B, C], 0)] * 3
        assert [each[0] for each in self.closed(world)[1:]] == [37.0, 37.0]

    def test_k_of_n(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Two of three are enough; the slow one's work counts in a later round."""
        world = self.run(make_world, kit, rounds=6, goal=2, minimum=2)
        assert sum(each[2] for each in self.closed(world)) >= 1
        assert all(len(each[1]) >= 2 for each in self.closed(world))
        assert any(C in each[1] for each in self.closed(world))

    @pytest.mark.parametrize("goal", [1, 2])
    def test_asynchronous(self, make_world: Make, kit: SimpleNamespace, goal: int) -> None:
        """FedBuff: a buffer of ``goal``, as a naive simulation of the paper fills it.

        Nguyen et al. 2022, algorithm 1, with agents that begin anew when there is a new model.
        """
        settings = {"rounds": 12, "goal": goal, "minimum": 1, "max_staleness": 50}
        world = self.run(make_world, kit, **settings)
        assert self.closed(world)[1:] == naive(SECONDS, goal, 12)[1:]
        assert max(each[2] for each in self.closed(world)) >= 1
        used = [each for each in kit.fates(world) if each[2] == "included"]
        assert len(used) == len({each[:2] for each in used})

    def test_too_stale_in_the_middle(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Where the slow one is too late for the buffer, its work is counted as discarded."""
        world = self.run(make_world, kit, rounds=12, goal=1, minimum=1, max_staleness=2)
        fates = kit.fates(world)
        late = [each for each in fates if each[2] == "late"]
        assert {each[1] for each in late} == {C}
        assert sum(r.discarded for r in world.rows.rounds("tiny")) == len(late)
        assert sum(r.accepted for r in world.rows.rounds("tiny")) == len(fates) - len(late)


def naive(seconds: dict[str, float], goal: int, rounds: int) -> list[tuple[float, list[str], int]]:
    """Second by second: of each buffer its time, its agents, and how many of it were late."""
    number, opened, now = 1, 0, 0
    buffer: list[tuple[str, int]] = []
    last = dict.fromkeys(seconds, 0)
    begun = dict.fromkeys(seconds, (0, 1))
    closed: list[tuple[float, list[str], int]] = []
    while len(closed) < rounds:
        now += 1
        for agent in sorted(seconds):
            if agent in begun and now - begun[agent][0] == seconds[agent]:
                made_for = begun.pop(agent)[1]
                buffer.append((agent, number - made_for))
                last[agent] = made_for
                if len({each[0] for each in buffer}) >= goal:
                    names = sorted({each[0] for each in buffer})
                    closed.append((float(now - opened), names, sum(s > 0 for _, s in buffer)))
                    number, opened, buffer = number + 1, now, []
                for free in sorted(seconds):
                    if free not in begun and last[free] < number:
                        begun[free] = (now, number)
    return closed[:rounds]
