# SPDX-License-Identifier: Apache-2.0
"""Releases and wishes over the wire, ordered by an operator, and with a coordinator that dies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs
from tests.coordinator.plant import Plant

from fedmill_coordinator.store.records import Verb
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Job, Rollout
from fedmill_shared.messages import (
    AgentState,
    BlobRequest,
    EvaluationReport,
    InstallReport,
    JobNotice,
    JobPhase,
    Join,
    ReleaseNotice,
    VersionNotice,
    Wish,
    encode,
)
from fedmill_shared.metrics import ClassificationStatistic
from fedmill_shared.schema import schema_hash

pytestmark = pytest.mark.usefixtures("exported_once")
SETTLED = 3.0
RINGS = ["canary", "fleet"]


class Releasing:
    """A plant whose two agents have trained one job to its end."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.orders = 0

    def finish(self) -> None:
        """Train all rounds, and evaluate the last version."""
        plant = self.plant
        if self.state == "waiting":
            plant.running()
        while plant.state()[1]:
            for agent in ("a", "b"):
                plant.update(agent)
        for agent in ("a", "b"):
            self.evaluate(agent)
        plant.wait(SETTLED)
        assert self.state == "finished"

    def evaluate(self, agent: str) -> None:
        """An agent finds that the newest version is always right."""
        newest = self.plant.store.versions("tiny")[-1].version
        right = ClassificationStatistic(3, (9, 0, 0, 0, 0, 0, 0, 0, 0), 0.1)
        report = EvaluationReport(job="tiny", version=newest, statistic=right, last=right)
        self.plant.say(agent, "evaluation", report)

    @property
    def state(self) -> str:
        """Of the job."""
        return self.plant.state()[0]

    def order(self, verb: Verb, argument: str = "") -> str:
        """What the coordinator says to an order."""
        self.orders += 1
        now = self.plant.clock.now_ns()
        number = self.plant.store.give_order("tiny", verb, "anna", now, argument=argument)
        self.plant.wait(0.6)
        order = self.plant.store.order(number)
        assert order is not None
        return order.outcome

    def install(self, number: int) -> None:
        """Version ``number`` is promoted past the rings, and both agents take it."""
        self.order("promote", f'{{"version":"{number}","ring":"fleet"}}')
        self.plant.wait(SETTLED)
        for agent in ("a", "b"):
            self.serve(agent, self.notices(agent)[-1])

    def restart(self) -> None:
        """The coordinator was killed: another process goes on with what it left."""
        self.plant.link.stop()
        self.plant.daemon = self.plant.make()
        self.plant.link.start()
        self.plant.work()

    def notices(self, agent: str = "a") -> list[ReleaseNotice]:
        """Releases that an agent heard of since the last look."""
        found: list[Any] = self.plant.take(agent, "release")
        return found

    def serve(self, agent: str, notice: ReleaseNotice, state: str = "committed") -> None:
        """An agent tells how far it is."""
        report = InstallReport(
            version=notice.notice.version,
            state=state,
            release=notice.release,
            serving=notice.notice.version if state == "committed" else "",
        )
        phase = JobPhase(phase="joined", install=report)
        self.plant.say(agent, "state", AgentState(online=True, jobs={"tiny": phase}))
        self.plant.wait(0.3)


@pytest.fixture
def make(tmp_path: Path, tiny_job: Callable[..., Job]) -> Callable[..., Releasing]:
    """A plant with a job whose releases are as told."""

    def made(rollout: Rollout | None = None, **federation: Any) -> Releasing:
        settings = {"rounds": 1, **federation}
        job = structs.replace(tiny_job(**settings), rollout=rollout or Rollout())
        return Releasing(Plant(tmp_path, [job]))

    return made


class TestRelease:
    def test_from_the_end_of_the_job_to_the_whole_fleet(
        self, make: Callable[..., Releasing]
    ) -> None:
        """Versions are trained from and not served; the last one is released ring by ring."""
        one = make(Rollout(release="last", rings=RINGS))
        one.finish()
        versions: list[Any] = one.plant.take("a", "version")
        assert [each.serve for each in versions] == [False] * len(versions)
        one.plant.wait(SETTLED)
        [notice] = one.notices()
        newest = one.plant.store.versions("tiny")[-1]
        assert (notice.release, notice.notice.version) == (1, newest.version)
        assert notice.notice.serve
        [canary] = notice.agents or []
        one.serve(canary, notice)
        whole = one.notices("a")[-1]
        assert whole.agents is None
        for agent in ("a", "b"):
            one.serve(agent, whole)
        assert one.plant.store.releases("tiny")[0].state == "done"
        stable = one.plant.store.alias("tiny", "stable")
        assert stable is not None
        assert stable.version == newest.version

    def test_killed_on_the_way(self, make: Callable[..., Releasing]) -> None:
        """The next process tells the same release again, and hears what agents retained."""
        one = make(Rollout(release="last", rings=RINGS))
        one.finish()
        one.plant.wait(SETTLED)
        [notice] = one.notices()
        [canary] = notice.agents or []
        one.plant.link.stop()
        one.plant.daemon = one.plant.make()
        report = InstallReport(version=notice.notice.version, state="committed", release=1)
        phase = JobPhase(phase="joined", install=report)
        state = AgentState(online=True, jobs={"tiny": phase})
        one.plant.links[canary].publish(f"fedmill/v1/{canary}/up/state", encode(state), retain=True)
        one.plant.link.start()
        one.plant.work()
        assert one.notices()[0] == notice
        one.plant.wait(SETTLED)
        assert one.notices()[-1].agents is None

    def test_what_it_is_made_of_is_on_offer(self, make: Callable[..., Releasing]) -> None:
        """An older version too, while a newer one is what rounds train from."""
        one = make(Rollout(release="manual"))
        one.finish()
        assert one.order("promote", '{"version":"0"}').startswith("release 1 of version 0 goes")
        one.plant.wait(SETTLED)
        notice = one.notices()[-1].notice
        assert notice.number == 0
        newest: list[Any] = one.plant.take("a", "version")
        one.plant.take("a", "block")
        for blob in (notice.snapshot, newest[-1].snapshot, newest[-1].delta):
            one.plant.say("a", "request", BlobRequest(job="tiny", blob=blob.sha256, missing=[0]))
            assert len(one.plant.take("a", "block")) == 1

    def test_who_comes_later_hears_it(self, make: Callable[..., Releasing]) -> None:
        """It is retained; and it says whether it is for everybody by now."""
        one = make(Rollout(release="last"))
        one.finish()
        one.plant.wait(SETTLED)
        one.plant.agent("late")
        kinds = [kind for kind, _ in one.plant.heard["late"]]
        assert sorted(kinds) == ["job", "release", "round", "version"]


class TestOrders:
    def test_of_a_job_that_is_over(self, make: Callable[..., Releasing]) -> None:
        """Its rounds are; its releases are not."""
        one = make(Rollout(release="manual", rings=RINGS))
        assert one.order("promote") == "refused: the job has no version yet"
        one.finish()
        assert one.order("pause").startswith("refused: the job is finished")
        assert one.order("rollback") == "refused: nothing was served before"
        assert one.order("pause_rollout") == "refused: no release is under way"
        assert one.order("promote", '{"version":"0"}').endswith("goes to canary, fleet")
        assert "release 1 of version 0 is open" in one.order("promote", '{"version":"0"}')
        assert one.order("pause_rollout") == "release 1 is held"
        assert one.order("pause_rollout") == "release 1 is held already"
        assert one.order("resume_rollout") == "release 1 goes on"
        assert one.order("resume_rollout") == "refused: no release is held"
        assert one.order("promote", '{"version":"7"}').startswith("refused: version '7'")
        assert one.order("promote", '{"moon":"7"}') == "refused: the order cannot be read"
        outcome = one.order("promote", '{"version":"1","ring":"fleet"}')
        assert outcome == "release 2 of version 1 goes to fleet"

    def test_back_and_forth(self, make: Callable[..., Releasing]) -> None:
        """What was served before, as a higher release, to all at once."""
        one = make(Rollout(release="manual", rings=RINGS))
        one.finish()
        for number in (0, 1):
            one.install(number)
        assert one.order("rollback") == "release 3 of version 0 goes to all agents at once"
        one.plant.wait(SETTLED)
        back = one.notices()[-1]
        assert (back.release, back.notice.number, back.agents) == (3, 0, None)
        assert back.back
        again = "refused: release 3 has gone back already; name a version"
        assert one.order("rollback") == again
        for agent in ("a", "b"):
            one.serve(agent, back)
        assert one.order("rollback") == again
        forth = one.order("rollback", '{"version":"1"}')
        assert forth == "release 4 of version 1 goes to all agents at once"

    def test_back_to_what_never_served(self, make: Callable[..., Releasing]) -> None:
        """It would skip the rings and most gates: that is for what has served."""
        one = make(Rollout(release="manual", rings=RINGS))
        one.finish()
        assert one.order("rollback", '{"version":"1"}') == (
            "refused: version 1 never served: promote it instead"
        )

    @pytest.mark.parametrize("verb", ["promote", "rollback"])
    def test_killed_before_it_is_noted(
        self, make: Callable[..., Releasing], monkeypatch: pytest.MonkeyPatch, verb: Verb
    ) -> None:
        """The next process carries it out again, finds its release, and turns nothing round."""
        one = make(Rollout(release="manual", rings=RINGS))
        one.finish()
        for number in (0, 1):
            one.install(number)

        def dies(*_: object, **__: object) -> None:
            raise StoreError("killed")

        argument = '{"version":"0"}' if verb == "promote" else ""
        with monkeypatch.context() as killing:
            killing.setattr(one.plant.store, "finish_order", dies)
            one.order(verb, argument)
        one.restart()
        one.plant.wait(SETTLED)
        told = one.plant.store.releases("tiny")
        zero = one.plant.store.versions("tiny")[0].version
        assert [each.version for each in told[2:]] == [zero]
        order = one.plant.store.order(one.orders)
        assert order is not None
        assert order.outcome.startswith("release 3 of version 0 goes to ")

    def test_noted_when_it_has_been_given_up(
        self, make: Callable[..., Releasing], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An order that a full disk leaves open is not carried out again by what came of it."""
        one = make(Rollout(release="manual", rings=RINGS))
        one.finish()
        one.install(0)

        def full(*_: object, **__: object) -> None:
            raise StoreError("no space left on device")

        with monkeypatch.context() as failing:
            failing.setattr(one.plant.store, "finish_order", full)
            one.order("promote", '{"version":"1"}')
            one.plant.wait(SETTLED)
            told = one.notices()[-1]
            [canary] = told.agents or []
            one.serve(canary, told)
            one.plant.wait(SETTLED)
            other = "b" if canary == "a" else "a"
            one.serve(other, one.notices()[-1], "rejected")
            one.plant.wait(0.6)
        one.plant.wait(0.6)
        states = [(each.why, each.state) for each in one.plant.store.releases("tiny")]
        assert states[1:] == [("promoted", "aborted"), ("aborted", "open")]
        order = one.plant.store.order(one.orders)
        assert order is not None
        assert order.outcome == "release 2 of version 1 goes to canary, fleet"
        assert one.order("rollback") == ("refused: release 3 has gone back already; name a version")

    @pytest.mark.parametrize("verb", ["promote", "rollback"])
    def test_of_a_version_that_was_forgotten(
        self, make: Callable[..., Releasing], verb: Verb
    ) -> None:
        """There is nothing to send to agents any more."""
        one = make(Rollout(release="manual"))
        one.finish()
        newest = one.plant.store.versions("tiny")[-1].version
        one.plant.store.forget_weights("tiny", [newest])
        told = "refused: the weights of version 0 are no longer kept"
        assert one.order(verb, '{"version":"0"}') == told

    def test_of_an_unknown_ring(self, make: Callable[..., Releasing]) -> None:
        """It is not taken for one that was left out."""
        one = make(Rollout(release="manual", rings=RINGS))
        one.finish()
        argument = '{"version":"1","ring":"canary"}'
        assert one.order("promote", argument) == "refused: the order cannot be read"

    def test_of_what_was_evaluated_worse(self, make: Callable[..., Releasing]) -> None:
        """Is refused with the figures, and done all the same where that is meant."""
        one = make(Rollout(release="manual"))
        one.finish()
        one.order("promote", '{"version":"1"}')
        one.plant.wait(SETTLED)
        for agent in ("a", "b"):
            one.serve(agent, one.notices(agent)[-1])
        zero = one.plant.store.versions("tiny")[0].version
        wrong = ClassificationStatistic(3, (1, 4, 4, 0, 0, 0, 0, 0, 0), 9.0)
        for agent in ("a", "b"):
            report = EvaluationReport(job="tiny", version=zero, statistic=wrong, last=wrong)
            one.plant.say(agent, "evaluation", report)
        one.plant.wait(1)
        told = one.order("promote", '{"version":"0"}')
        assert told == (
            "refused: version 0 does worse than version 1, which is served: accuracy 0.1111 "
            "against 1 on 18 windows of 2 agents; --force releases it all the same"
        )
        told = one.order("promote", '{"version":"0","force":true}')
        assert told == "release 2 of version 0 goes to fleet"
        assert "does worse than" in one.plant.store.releases("tiny")[-1].reason

    def test_of_a_release_under_way(self, make: Callable[..., Releasing]) -> None:
        """What it replaces is what is gone back to."""
        one = make(Rollout(release="manual", rings=RINGS))
        one.finish()
        one.install(0)
        one.order("promote", '{"version":"1"}')
        assert one.order("rollback") == "release 3 of version 0 goes to all agents at once"
        second, third = one.plant.store.releases("tiny")[1:]
        assert (second.state, third.why, third.by) == ("superseded", "rollback", "anna")

    def test_where_each_version_is_served(self, make: Callable[..., Releasing]) -> None:
        """While rounds go on a promotion would not last; afterwards it does."""
        one = make(rounds=2)
        one.plant.running()
        assert one.order("promote", '{"version":"0"}').startswith("refused: version 0 is what")
        for agent in ("a", "b"):
            one.plant.update(agent)
        assert one.order("promote", '{"version":"0"}').startswith("refused: the job runs")
        one.finish()
        stable = one.plant.store.alias("tiny", "stable")
        assert stable is not None
        assert stable.version == one.plant.store.versions("tiny")[-1].version
        one.plant.take("a", "version")
        assert one.order("promote", '{"version":"1"}') == "release 1 of version 1 goes to fleet"
        told: list[VersionNotice] = one.plant.take("a", "version")  # type: ignore[assignment]
        assert [each.serve for each in told] == [False]
        one.plant.wait(SETTLED)
        assert one.notices()[-1].notice.number == 1


class TestBetter:
    def test_what_agents_evaluated(self, make: Callable[..., Releasing]) -> None:
        """The first version that enough of them have scored is released by itself."""
        one = make(Rollout(release="better"))
        one.finish()
        one.plant.wait(SETTLED)
        assert one.notices()[-1].notice.number == 1

    def test_what_an_agent_evaluates_after_the_end(self, make: Callable[..., Releasing]) -> None:
        """It was away when the job finished; with it there are enough of them."""
        one = make(Rollout(release="better"))
        one.plant.running()
        for agent in ("a", "b"):
            one.plant.update(agent)
        one.evaluate("a")
        one.plant.wait(70)
        one.plant.wait(SETTLED)
        assert (one.state, one.plant.store.releases("tiny")) == ("finished", [])
        one.evaluate("b")
        one.plant.wait(SETTLED)
        assert one.notices()[-1].notice.number == 1


class TestWishes:
    def test_of_a_finished_job(self, make: Callable[..., Releasing]) -> None:
        """It goes on for some rounds, not again too soon, and ends as it did before."""
        one = make(rounds_on_wish=2, wish_seconds=600.0)
        one.finish()
        wish = Wish(job="tiny", kind="round", reason="force has drifted", evidence={"psi": 0.4})
        with capture_logs() as logs:
            one.plant.say("a", "wish", wish)
            one.plant.wait(1)
            assert one.state == "finished"
            one.plant.clock.advance(600)
            one.plant.wait(1)
        assert [log["event"] for log in logs if "wish" in log["event"]] == [
            "wish.heard",
            "wish.granted",
        ]
        assert one.plant.state() == ("running", 2)
        one.finish()
        assert one.plant.store.rounds("tiny")[-1].round == 3
        one.plant.say("a", "wish", wish)
        one.plant.wait(5)
        assert one.state == "finished"

    def test_a_disk_that_fails_as_they_are_granted(
        self, make: Callable[..., Releasing], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Agents hear that the job goes on, and the listing says how far."""
        one = make(rounds_on_wish=2, wish_seconds=1.0)
        one.finish()
        one.plant.take("a", "job")
        settle, failed = one.plant.store.settle_wishes, []

        def fails_once(job: str, **fields: Any) -> None:
            if not failed:
                failed.append(job)
                raise StoreError("no space left on device")
            settle(job, **fields)

        monkeypatch.setattr(one.plant.store, "settle_wishes", fails_once)
        one.plant.clock.advance(2)
        one.plant.say("a", "wish", Wish(job="tiny", kind="round"))
        one.plant.wait(SETTLED)
        one.plant.wait(60)
        assert failed
        notices: list[JobNotice] = one.plant.take("a", "job")  # type: ignore[assignment]
        assert notices[-1].state == "running"
        [granted] = one.plant.store.wishes("tiny")
        assert granted.rounds == 2

    def test_that_wait_ask_the_store_now_and_then(
        self, make: Callable[..., Releasing], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A wish may wait for a day: that is not looked up with every message."""
        one = make(rounds_on_wish=2, wish_seconds=600.0)
        one.finish()
        one.plant.say("a", "wish", Wish(job="tiny", kind="round"))
        asked, rounds = [], one.plant.store.rounds

        def counted(job: str, **fields: Any) -> Any:
            asked.append(job)
            return rounds(job, **fields)

        monkeypatch.setattr(one.plant.store, "rounds", counted)
        for _ in range(200):
            one.plant.work()
        assert len(asked) <= 1

    def test_outlive_a_restart_once_granted(self, make: Callable[..., Releasing]) -> None:
        """The rounds that were granted are still to come."""
        one = make(rounds_on_wish=2, wish_seconds=1.0)
        one.finish()
        one.plant.clock.advance(2)
        one.plant.say("a", "wish", Wish(job="tiny", kind="round"))
        one.plant.wait(0.2)
        one.restart()
        for agent in ("a", "b"):
            phase = JobPhase(phase="joined")
            one.plant.say(agent, "state", AgentState(online=True, jobs={"tiny": phase}))
        one.plant.wait(SETTLED)
        assert one.plant.state() == ("running", 2)

    def test_are_granted_once(
        self, make: Callable[..., Releasing], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where the coordinator is killed before it could note that they were."""
        one = make(rounds_on_wish=2, wish_seconds=1.0)
        one.finish()
        one.plant.clock.advance(2)

        def dies(*_: object, **__: object) -> None:
            raise StoreError("killed")

        with monkeypatch.context() as killing:
            killing.setattr(one.plant.store, "settle_wishes", dies)
            one.plant.say("a", "wish", Wish(job="tiny", kind="round"))
            one.plant.wait(0.2)
        one.restart()
        one.plant.wait(SETTLED)
        assert one.state == "running"
        [granted] = one.plant.store.wishes("tiny")
        assert granted.settled_ns is not None

    def test_that_wait_outlive_a_restart(self, make: Callable[..., Releasing]) -> None:
        """An agent wishes once for one shift: nobody may forget it."""
        one = make(rounds_on_wish=2, wish_seconds=600.0)
        one.finish()
        one.plant.say("a", "wish", Wish(job="tiny", kind="round", reason="drift"))
        one.plant.wait(0.2)
        one.restart()
        for agent in ("a", "b"):
            phase = JobPhase(phase="joined")
            one.plant.say(agent, "state", AgentState(online=True, jobs={"tiny": phase}))
            schema = schema_hash(one.plant.jobs["tiny"])
            join = Join(job="tiny", schema=schema, windows={"train": 8})
            one.plant.say(agent, "join", join)
        one.plant.wait(SETTLED)
        assert one.state == "finished"
        [waiting] = one.plant.store.wishes("tiny")
        assert (waiting.agent, waiting.reason, waiting.settled_ns) == ("a", "drift", None)
        one.plant.clock.advance(600)
        one.plant.wait(1)
        assert one.plant.state() == ("running", 2)
        [granted] = one.plant.store.wishes("tiny")
        assert (granted.settled_ns is not None, granted.rounds) == (True, 2)

    def test_that_come_too_often(self, make: Callable[..., Releasing]) -> None:
        """One that waits is not written down anew with each word of a nervous agent."""
        one = make(rounds_on_wish=2, wish_seconds=600.0)
        one.finish()
        wish = Wish(job="tiny", kind="round", reason="first")
        one.plant.say("a", "wish", wish)
        one.plant.clock.advance(50)
        one.plant.say("a", "wish", structs.replace(wish, reason="again"))
        assert [each.reason for each in one.plant.store.wishes("tiny")] == ["first"]
        one.plant.clock.advance(20)
        one.plant.say("a", "wish", structs.replace(wish, reason="later"))
        assert [each.reason for each in one.plant.store.wishes("tiny")] == ["later"]

    def test_of_an_agent_whose_signals_are_others(self, make: Callable[..., Releasing]) -> None:
        """Its data says nothing of this job's."""
        one = make(rounds_on_wish=2, wish_seconds=1.0)
        one.finish()
        one.plant.say("b", "join", Join(job="tiny", schema="0" * 64, windows={}))
        one.plant.say("b", "wish", Wish(job="tiny", kind="round"))
        assert one.plant.store.wishes("tiny") == []

    def test_are_bounded_in_a_day(self, make: Callable[..., Releasing]) -> None:
        """Rounds on wishes come to so many, the rest the day after."""
        one = make(rounds_on_wish=2, wish_seconds=1.0, wish_rounds_a_day=3)
        one.finish()
        wish = Wish(job="tiny", kind="round")
        for rounds in (2, 1):
            one.plant.clock.advance(70)
            one.plant.say("a", "wish", wish)
            one.plant.wait(2)
            assert one.state == "running"
            one.finish()
            assert one.plant.store.wishes("tiny")[0].rounds == rounds
        one.plant.clock.advance(70)
        one.plant.say("a", "wish", wish)
        one.plant.wait(2)
        assert one.state == "finished"
        one.plant.clock.advance(86_400)
        one.plant.wait(2)
        assert one.state == "running"
        assert len(one.plant.store.rounds("tiny")) == 5

    @pytest.mark.parametrize("kind", ["round", "moon"])
    def test_that_nobody_grants(self, make: Callable[..., Releasing], kind: str) -> None:
        """Without rounds for it, or of a kind that is not known: it is noted, and that is all."""
        one = make(rounds_on_wish=0 if kind == "round" else 2, wish_seconds=1.0)
        one.finish()
        one.plant.clock.advance(5)
        with capture_logs() as logs:
            one.plant.say("a", "wish", Wish(job="tiny", kind=kind))
        one.plant.wait(1)
        assert "wish.heard" in [log["event"] for log in logs]
        assert one.state == "finished"
        [noted] = one.plant.store.wishes("tiny")
        assert (noted.kind, noted.settled_ns is None, noted.rounds) == (kind, False, 0)
