# SPDX-License-Identifier: Apache-2.0
"""What the operator may order: pause, resume, abort, close now; each says what came of it."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from fedmill_coordinator.store.records import REFUSED_ORDER
from fedmill_shared.errors import StoreError
from fedmill_shared.messages import Reason

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestPause:
    """Nobody is asked for anything."""

    def test_agents_hear_of_no_round(self, make_world: Make) -> None:
        """They stop to train for it; what they had before is settled as it was."""
        world = make_world(rounds=3).running(A, B)
        sent = world.update(A)
        world.send(A, *sent)
        world.deliver(B)
        world.voice.take("round")
        assert world.order("pause") == "the job is paused"
        [notice] = world.voice.take("round")
        assert (notice.round, notice.closed) == (0, 1)
        assert notice.included[A] == sent[0].sha256
        assert world.rows.job("tiny").paused
        assert world.number == 2

    def test_nothing_is_due(self, make_world: Make) -> None:
        """Neither goal nor deadline end a round of a paused job, and nothing is told again."""
        world = make_world(rounds=3, goal=2).running(A, B)
        world.order("pause")
        world.voice.said.clear()
        assert [r.fate for r in world.deliver(A, B)] == ["received", "received"]
        world.wait(200)
        assert [record.state for record in world.rows.rounds("tiny")] == ["open"]
        assert world.voice.take("round") == []

    def test_resumed_it_goes_on_with_what_came_meanwhile(self, make_world: Make) -> None:
        """Updates that were on their way count; the round gets its whole time again."""
        world = make_world(rounds=3, goal=3).running(A, B, C)
        world.order("pause")
        world.deliver(A, B)
        world.wait(500)
        world.voice.take("round")
        assert world.order("resume") == "the job goes on"
        notice = world.voice.take("round")[-1]
        assert (notice.round, notice.seconds_left, notice.attempt) == (1, 60.0, 1)
        assert notice.deadline_ns == world.clock.now_ns() + 60 * 10**9
        world.wait(59)
        assert world.number == 1
        world.wait(1)
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_no_statistics_are_agreed(self, make_world: Make) -> None:
        """Before the first round it holds as well; afterwards they are."""
        world = make_world()
        world.join(A, B)
        world.order("pause")
        world.tell_moments(A, B)
        world.wait(100)
        assert world.state == "statistics"
        world.order("resume")
        assert world.state == "running"

    def test_no_round_opens(self, make_world: Make) -> None:
        """Also where one would have opened because enough agents came."""
        world = make_world()
        world.join(A, B)
        world.seen(B, online=False)
        world.tell_moments(A, B)
        assert (world.state, world.number) == ("running", 0)
        world.order("pause")
        world.join(B)
        world.wait(10)
        assert world.number == 0
        world.order("resume")
        assert world.number == 1

    def test_the_last_evaluations_wait(self, make_world: Make) -> None:
        """They are taken, and end the job once it goes on."""
        world = make_world(rounds=1).running(A, B)
        world.deliver(A, B)
        world.order("pause")
        world.evaluate(A, B)
        world.wait(100)
        assert world.state == "running"
        world.order("resume")
        assert world.state == "finished"

    def test_a_restart_stays_paused(self, make_world: Make) -> None:
        """What agents hear then is no round either; the updates are still there."""
        world = make_world(rounds=3, goal=2).running(A, B)
        world.order("pause")
        world.deliver(A)
        world.clock.advance(3600)
        world.restart()
        assert {notice.round for notice in world.voice.take("round")} == {0}
        world.deliver(B)
        world.wait(100)
        assert world.number == 1
        world.order("resume")
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_twice(self, make_world: Make) -> None:
        """Pausing again changes nothing; what is not paused cannot be resumed."""
        world = make_world().running(A, B)
        assert world.order("resume") == "the job is not paused"
        assert world.order("pause") == world.order("pause") == "the job is paused"
        assert world.order("resume") == "the job goes on"
        assert world.order("resume") == "the job is not paused"


class TestAbort:
    """The job ends for good."""

    def test_in_an_open_round(self, make_world: Make) -> None:
        """The round is abandoned, its updates are late, and agents hear that it is over."""
        world = make_world(rounds=9, goal=3).running(A, B, C)
        world.deliver(A, B)
        assert world.order("abort") == "the job is stopped; round 1 was abandoned"
        assert world.state == "stopped"
        assert [record.state for record in world.rows.rounds("tiny")] == ["abandoned"]
        assert {u.state for u in world.rows.updates("tiny", 1)} == {"late"}
        assert world.rows.pending("tiny") == []
        assert world.voice.take("job")[-1].state == "stopped"
        assert world.voice.take("round")[-1].round == 0
        world.wait(200)
        assert world.number == 0

    def test_what_comes_then_is_late(self, make_world: Make) -> None:
        """There is no close that could use it."""
        world = make_world(rounds=9, goal=2).running(A, B, C)
        first = world.update(C)
        world.deliver(A, B)
        offer, frame = world.update(C)
        world.offer(C, offer)
        world.order("abort")
        world.blocks(C, frame, [0])
        [receipt] = world.voice.take("receipt")
        assert (receipt.fate, receipt.code) == ("late", Reason.ABANDONED)
        [receipt] = world.send(C, *first)
        assert (receipt.fate, receipt.code) == ("late", Reason.ENDED)

    def test_the_newest_version_stays_in_use(self, make_world: Make) -> None:
        """Agents may still pull it, also after a restart."""
        world = make_world(rounds=9).running(A, B)
        world.deliver(A, B)
        world.order("abort")
        world.restart()
        assert world.state == "stopped"
        assert [notice.number for notice in world.voice.take("version")] == [1]

    def test_before_there_is_a_version(self, make_world: Make) -> None:
        """While statistics are collected; a restart does not need a version either."""
        world = make_world()
        world.join(A)
        world.tell_moments(A)
        assert world.order("abort") == "job stopped"
        world.restart()
        assert world.state == "stopped"
        world.tell_moments(B)
        world.wait(100)
        assert world.state == "stopped"

    def test_of_a_paused_job(self, make_world: Make) -> None:
        """It ends; there is nothing to resume any more."""
        world = make_world(rounds=9).running(A, B)
        world.order("pause")
        assert world.order("abort").startswith("the job is stopped")
        for verb in ("resume", "pause", "abort"):
            assert world.order(verb) == "refused: the job is stopped"
        assert world.number == 0

    def test_of_a_finished_job(self, make_world: Make) -> None:
        """It is over, and stays finished."""
        world = make_world(rounds=1).running(A, B)
        world.deliver(A, B)
        world.clock.advance(2)
        world.evaluate(A, B)
        for verb in ("pause", "abort"):
            assert world.order(verb) == "refused: the job is finished"
        assert world.state == "finished"


class TestCloseNow:
    """The open round ends with what there is."""

    def test_below_the_minimum(self, make_world: Make) -> None:
        """One update makes a version if the operator says so; the next round opens."""
        world = make_world(rounds=3, goal=3, minimum=3, earliest_seconds=50.0).running(A, B, C)
        world.deliver(B)
        assert world.order("close") == "round 1 was closed with the updates of 1 agents"
        assert world.rows.rounds("tiny")[0].included == [B]
        assert world.number == 2
        world.wait(10)
        assert world.number == 2

    def test_with_late_ones(self, make_world: Make) -> None:
        """What waits from an earlier round is an update, too."""
        world = make_world(rounds=3, goal=2).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        world.send(C, *late)
        assert world.order("close") == "round 2 was closed with the updates of 1 agents"
        assert world.rows.rounds("tiny")[1].included == [C]

    def test_without_any(self, make_world: Make) -> None:
        """Nothing is changed, and nothing later is closed because of it."""
        world = make_world(rounds=3).running(A, B)
        assert world.order("close") == "refused: round 1 has no update that counts yet"
        world.deliver(A)
        world.wait(10)
        assert world.number == 1

    def test_where_none_is_open(self, make_world: Make) -> None:
        """Before, between and after rounds, and while the job is paused."""
        world = make_world(rounds=1)
        assert world.order("close") == "refused: no round is open"
        world.running(A, B)
        world.deliver(A)
        world.order("pause")
        assert world.order("close") == "refused: the job is paused"
        world.order("resume")
        world.deliver(B)
        assert world.order("close") == "refused: no round is open"

    def test_the_last_round(self, make_world: Make) -> None:
        """Then the last version is scored as ever."""
        world = make_world(rounds=1, goal=3).running(A, B, C)
        world.deliver(A)
        assert world.order("close").startswith("round 1 was closed")
        assert (world.state, world.number) == ("running", 0)

    def test_with_updates_that_make_no_model(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says that the round was abandoned, not that it was closed."""
        monkeypatch.setattr("fedmill_coordinator.rounds.admission.LARGEST_CHANGE", np.inf)
        world = make_world(rounds=9, goal=2).running(A, B)
        world.deliver(A, delta=np.full(world.elements, 3e38, np.float32))
        outcome = world.order("close")
        assert outcome == "round 1 was abandoned: its updates make no model"
        assert [record.state for record in world.rows.rounds("tiny")] == ["abandoned", "open"]

    def test_with_an_update_that_cannot_be_read(self, make_world: Make) -> None:
        """It was the only one: the round stays open, and says so."""
        world = make_world(rounds=9, goal=2).running(A, B)
        offer, frame = world.update(A)
        world.send(A, offer, frame)
        world.files.delete(offer.sha256)
        outcome = world.order("close")
        assert outcome == "refused: no update of round 1 can be read"
        assert outcome.startswith(REFUSED_ORDER)
        world.deliver(B)
        world.wait(5)
        assert world.number == 1

    def test_on_a_disk_that_is_full(self, make_world: Make) -> None:
        """The order stays open: given again it is carried out."""
        world = make_world(rounds=9, goal=2).running(A, B)
        world.deliver(A)
        world.fuse.failing = 1
        with pytest.raises(StoreError, match="no space left"):
            world.order("close")
        world.wait(3)
        assert world.number == 1
        assert world.order("close") == "round 1 was closed with the updates of 1 agents"


class TestFullDisk:
    """An order that could not be stored changes nothing, and can be given again."""

    @pytest.mark.parametrize("verb", ["pause", "abort", "resume"])
    def test_wherever_it_fails(self, make_world: Make, verb: str) -> None:
        """At each of its writes in turn."""
        for at in range(9):
            world = make_world(rounds=9, goal=3, folder=f"{verb}-{at}").running(A, B, C)
            world.deliver(A)
            if verb == "resume":
                world.order("pause")
            for write in ("update_job", "abandon_round", "discard_waiting", "extend_round"):
                fail_once(world, write, at)
            if not ordered(world, verb):
                assert ordered(world, verb)
            wanted = {"pause": (1, True), "abort": (0, False), "resume": (1, False)}[verb]
            assert (world.number, world.rows.job("tiny").paused) == wanted
            assert (world.state == "stopped") == (verb == "abort")


def fail_once(world: SimpleNamespace, write: str, at: int) -> None:
    """The ``at``-th of these writes from now on fails, counted over all of them."""
    real = getattr(world.rows, write)
    counter = world.__dict__.setdefault("writes", [0])

    def call(*arguments: object, **options: object) -> object:
        counter[0] += 1
        if counter[0] == at:
            raise StoreError("no space left on device")
        return real(*arguments, **options)

    setattr(world.rows, write, call)


def ordered(world: SimpleNamespace, verb: str) -> bool:
    """Whether an order was carried out to its end."""
    try:
        outcome = world.obey(verb)
    except StoreError:
        return False
    assert not outcome.startswith(REFUSED_ORDER)
    return True
