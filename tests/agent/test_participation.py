# SPDX-License-Identifier: Apache-2.0
"""One agent's part in one job, with a trainer that answers when told to, and a power grid."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs
from tests.agent.kit import a_job
from tests.agent.stand import (
    ELEMENTS,
    JOB,
    MANIFEST,
    MOMENTS,
    STATISTIC,
    Agent,
    notice_of,
    raw,
    receipt,
    trained,
    version,
)
from tests.assembler import Assembler

from fedmill_agent.delivery import OUTBOX_LIMIT
from fedmill_agent.ports import Ports
from fedmill_agent.training import protocol
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import StoreError, TrainerError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job, Learning
from fedmill_shared.job_check import canonical
from fedmill_shared.link.blocks import parse_block
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.messages import (
    BlobRequest,
    EvaluationReport,
    MomentsReport,
    RoundNotice,
    UpdateOffer,
)
from fedmill_shared.protocol import NEWEST, OLDEST


class CrashError(Exception):
    """The power goes."""


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent with version 0 active."""
    agent = Agent(tmp_path / "job")
    agent.install(0)
    return agent


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of crashes need no disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class TestTraining:
    def test_a_round_on_the_active_version(self, agent: Agent) -> None:
        """The trainer gets all it needs; the update is offered and follows in blocks."""
        agent.open(1)
        [task] = agent.tasks
        assert task == protocol.Train(
            number=1,
            job=canonical(JOB),
            store=str(agent.folder / "w.sqlite"),
            weights="weights",
            regimes=1,
            base=version(0),
            schema=MANIFEST.digest,
            round=1,
            agent="a",
        )
        assert agent.part.training
        answer = trained(task)
        agent.train()
        assert not agent.part.training
        (kind, offer), *blocks = agent.sent
        assert kind == "update"
        assert offer == UpdateOffer(
            job="press",
            round=1,
            base=version(0),
            sha256=sha256(answer.frame),
            size=len(answer.frame),
            examples=3,
            loss=0.5,
            seconds=0.25,
            protocol=NEWEST,
        )
        assembler = Assembler()
        assembler.expect(offer.sha256, offer.size)
        found = [assembler.add(parse_block(block)) for _, block in blocks]
        assert found == [answer.frame]

    def test_waits_for_its_base(self, agent: Agent) -> None:
        """A round on a version that is still on its way is trained once that is active."""
        agent.open(2)
        assert agent.tasks == []
        agent.install(1)
        assert [task.round for task in agent.tasks] == [2]

    def test_no_round_no_training(self, agent: Agent) -> None:
        """Round 0 says that none is open."""
        agent.open(0)
        agent.part.installed()
        assert agent.tasks == []

    def test_once_for_a_round_and_base(self, agent: Agent) -> None:
        """Neither the notice again, nor the version again, nor a restart repeats the work."""
        agent.open(1)
        agent.open(1)
        agent.part.installed()
        assert len(agent.tasks) == 1
        agent.train()
        agent.open(1)
        agent.part.installed()
        agent.start()
        agent.open(1)
        assert agent.tasks == []

    def test_a_round_that_opened_meanwhile_is_not_missed(self, agent: Agent) -> None:
        """An agent that is slower than a round goes on with the next as soon as it can."""
        agent.open(1)
        agent.open(2, closed=1)
        agent.install(1)
        agent.train()
        assert [task.round for task in agent.tasks] == [2]

    def test_a_failed_training_is_tried_with_the_next_attempt(self, agent: Agent) -> None:
        """Neither in a loop nor with each reminder, which comes every ten seconds."""
        agent.open(1)
        [task] = agent.tasks
        agent.tasks.clear()
        failed = protocol.Failed(number=task.number, error="DataError", message="no windows")
        assert agent.part.answer(failed)
        assert agent.tasks == []
        assert agent.journal.of("training.failed") == [{"kind": "DataError", "error": "no windows"}]
        for _ in range(3):
            agent.part.tick()
            agent.open(1)
            agent.part.installed()
        assert agent.tasks == []
        agent.open(1, attempt=1)
        assert len(agent.tasks) == 1

    def test_an_attempt_that_comes_while_it_fails_is_taken(self, agent: Agent) -> None:
        """And so is the next round, whatever became of the one before it."""
        agent.open(1)
        agent.open(1, attempt=1)
        for round_ in (1, 1):
            task = agent.tasks.pop()
            assert task.round == round_
            agent.part.answer(protocol.Failed(number=task.number, error="E", message="m"))
        assert agent.tasks == []
        agent.install(1)
        agent.open(2)
        assert [task.round for task in agent.tasks] == [2]

    def test_a_coordinator_from_a_backup_opens_an_old_round(self, agent: Agent) -> None:
        """It is trained once, and not with every reminder, whatever was trained before."""
        agent.install(4)
        agent.open(5)
        agent.train()
        agent.install(2)
        for _ in range(3):
            agent.open(3)
            if agent.tasks:
                agent.train()
        assert [offer.round for offer in agent.offers()] == [5, 3]

    def test_a_trainer_that_cannot_be_started_is_told(self, agent: Agent) -> None:
        """The agent goes on without."""

        def broken(_: protocol.Request) -> None:
            raise TrainerError("training process cannot be started: no memory")

        agent.part._ports = Ports(send=agent._send, submit=broken, number=lambda: 7)
        agent.open(1)
        assert not agent.part.training
        assert "no memory" in agent.journal.of("trainer.unavailable")[0]["error"]

    def test_answers_for_others_are_left_to_them(self, agent: Agent) -> None:
        """A number that this job did not submit is not ours."""
        agent.open(1)
        assert not agent.part.answer(protocol.Ready(number=99))
        assert agent.part.training

    def test_a_trainer_that_died_is_not_asked_by_the_clock(self, agent: Agent) -> None:
        """Who counts its deaths decides whether to try again."""
        agent.open(1)
        [task] = agent.tasks
        agent.tasks.clear()
        assert agent.part.trainer_died((task.number,))
        agent.part.tick()
        assert agent.tasks == []
        agent.part.installed()
        assert [task.round for task in agent.tasks] == [1]


class TestUplink:
    def test_the_round_names_the_codec(self, agent: Agent) -> None:
        """And one that names none leaves it to the job."""
        agent.open(1, uplink="stc-25")
        assert [task.uplink for task in agent.tasks] == ["stc-25"]
        agent.train()
        agent.install(1)
        agent.open(2)
        assert [task.uplink for task in agent.tasks] == [""]

    def test_the_offer_tells_steps_and_shift(self, agent: Agent) -> None:
        """As the trainer found them."""
        agent.open(1)
        answer = trained(agent.tasks[0])
        shift = {"vibration": (6.25, 1.5)}
        agent.part.answer(structs.replace(answer, steps=12.5, shift=shift))
        [offer] = agent.offers()
        assert (offer.steps, offer.shift) == (12.5, shift)


class TestHome:
    """What stays on the agent is the trainer's business; the daemon says where it lies."""

    @pytest.mark.parametrize(
        "job",
        [
            a_job(learning=Learning(personal="head")),
            a_job(learning=Learning(personal="norm")),
            a_job(learning=Learning(ditto=0.5)),
            a_job(rule="scaffold", goal=1, learning=Learning(optimiser="sgd")),
        ],
    )
    def test_is_named_where_the_job_keeps_anything(self, tmp_path: Path, job: Job) -> None:
        """To train with, and to evaluate with."""
        agent = Agent(tmp_path / "job", job)
        agent.install(0, evaluate=True)
        agent.open(1)
        home = str(agent.folder / "home.msgpack")
        assert [task.home for task in agent.tasks] == [home, home]

    def test_what_a_refused_update_did_there_is_undone(self, tmp_path: Path) -> None:
        """The next training is told of it, and the one behind that is not."""
        agent = Agent(tmp_path / "job", a_job(learning=Learning(personal="head")))
        agent.round(1)
        agent.train()
        [offer] = agent.offers()
        agent.part.delivery.receipt(receipt(offer, "refused", "superseded"))
        agent.round(2)
        assert [task.undone for task in agent.tasks] == [1]
        agent.train()
        agent.round(3)
        assert [task.undone for task in agent.tasks] == [0]

    def test_a_file_that_was_put_away_is_told(self, agent: Agent) -> None:
        """It is the operator's disk."""
        agent.open(1)
        answer = trained(agent.tasks[0])
        agent.part.answer(structs.replace(answer, set_aside="/state/home.damaged"))
        assert agent.journal.of("home.set_aside") == [{"path": "/state/home.damaged"}]
        assert len(agent.offers()) == 1

    @pytest.mark.parametrize(("late", "refreshed"), [(False, 0), (True, 1)])
    def test_parts_that_come_behind_their_version_score_at_once(
        self, tmp_path: Path, refreshed: int, *, late: bool
    ) -> None:
        """A version that came while the agent still trained was installed with those of before."""
        agent = Agent(tmp_path / "job", a_job(learning=Learning(personal="head")))
        agent.round(1)
        if late:
            agent.install(1)
        agent.train()
        assert agent.deployment.refreshed == refreshed


class TestCohort:
    @pytest.mark.parametrize(
        ("cohort", "trains"), [(None, True), (["a"], True), (["b", "a"], True), (["b"], False)]
    )
    def test_only_who_is_asked_trains(
        self, agent: Agent, cohort: list[str] | None, *, trains: bool
    ) -> None:
        """None is every agent, as software of protocol 1 means it."""
        agent.open(1, cohort=cohort)
        agent.part.installed()
        agent.part.tick()
        assert [task.round for task in agent.tasks] == [1] * trains

    def test_nobody_is_asked(self, agent: Agent) -> None:
        """An empty cohort is not every agent."""
        agent.open(1, cohort=[])
        assert agent.tasks == []

    def test_one_who_is_asked_later_trains_then(self, agent: Agent) -> None:
        """Another deadline may come with another cohort."""
        agent.open(1, cohort=["b"])
        agent.open(1, cohort=["a", "b"], attempt=1)
        assert [task.round for task in agent.tasks] == [1]

    def test_one_who_is_left_out_settles_all_the_same(self, agent: Agent) -> None:
        """The result of the round before concerns everyone who took part in it."""
        agent.open(1)
        agent.train()
        [offer] = agent.offers()
        agent.open(2, cohort=["b"], closed=1, included={"a": offer.sha256})
        assert list((agent.folder / "outbox").iterdir()) == []
        assert agent.tasks == []


class TestAttempt:
    """A round whose deadline came with too few updates is given another one."""

    def refuse(self, agent: Agent, attempt: int = 0) -> None:
        """An update is made and refused."""
        agent.open(1, attempt=attempt)
        agent.train()
        [offer] = agent.offers()
        agent.part.delivery.receipt(receipt(offer, "refused", "implausible"))

    def test_a_refused_update_is_made_again_for_a_later_one(self, agent: Agent) -> None:
        """And not while the round waits for others: it would be refused again."""
        self.refuse(agent)
        agent.open(1)
        agent.part.installed()
        agent.part.tick()
        assert agent.tasks == []
        agent.open(1, attempt=1)
        assert [task.round for task in agent.tasks] == [1]
        agent.train()
        assert len(agent.offers()) == 1

    def test_each_attempt_is_used_once(self, agent: Agent) -> None:
        """Told again, it is nothing new."""
        self.refuse(agent)
        self.refuse(agent, attempt=1)
        agent.open(1, attempt=1)
        assert agent.tasks == []
        agent.open(1, attempt=2)
        assert [task.round for task in agent.tasks] == [1]

    @pytest.mark.parametrize("fate", ["", "received"])
    def test_an_update_that_was_not_refused_counts_on(self, agent: Agent, fate: str) -> None:
        """Under way or taken, it serves every attempt of its round."""
        agent.open(1)
        agent.train()
        [offer] = agent.offers()
        if fate:
            agent.part.delivery.receipt(receipt(offer, fate))
        agent.open(1, attempt=1)
        assert agent.tasks == []

    def test_neither_does_one_that_followed_a_refused_one(self, agent: Agent) -> None:
        """The second try was taken: a third attempt asks nothing more of this agent."""
        self.refuse(agent)
        agent.open(1, attempt=1)
        agent.train()
        [offer] = agent.offers()
        agent.part.delivery.receipt(receipt(offer, "received"))
        agent.open(1, attempt=2)
        assert agent.tasks == []

    def test_a_refusal_of_another_round_changes_nothing(self, agent: Agent) -> None:
        """An old update is refused while a newer one is under way."""
        agent.open(1)
        agent.train()
        [old] = agent.offers()
        agent.install(1)
        agent.open(2)
        agent.train()
        agent.part.delivery.receipt(receipt(old, "refused"))
        agent.open(2, attempt=1)
        assert agent.tasks == []


class TestObstacle:
    """The machine's own work goes first."""

    def test_one_that_goes_away_lets_training_start(self, agent: Agent) -> None:
        """At the next tick; and nothing is trained twice for it."""
        agent.obstacle = "processor at 99 %"
        agent.open(1)
        agent.part.tick()
        assert agent.tasks == []
        agent.obstacle = ""
        agent.part.tick()
        agent.part.tick()
        assert [task.round for task in agent.tasks] == [1]
        agent.train()
        agent.part.tick()
        assert agent.tasks == []
        assert len(agent.offers()) == 1

    def test_a_round_that_closed_meanwhile_is_not_trained(self, agent: Agent) -> None:
        """The next one is, once its version is there."""
        agent.obstacle = "outside the shifts"
        agent.open(1)
        agent.open(2, closed=1)
        agent.obstacle = ""
        agent.part.tick()
        assert agent.tasks == []
        agent.install(1)
        assert [task.round for task in agent.tasks] == [2]

    def test_a_full_disk_is_one(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next update could not be kept; once there is room, the open round is trained."""

        def full(*_: object) -> None:
            raise StoreError("No space left on device")

        agent.open(1)
        with monkeypatch.context() as patch:
            patch.setattr("fedmill_shared.link.outbox.write_atomic", full)
            agent.train()
            agent.install(1)
            agent.open(2, closed=1)
            agent.part.tick()
            assert agent.tasks == []
        agent.part.tick()
        assert [task.round for task in agent.tasks] == [2]
        assert [offer.round for offer in agent.offers()] == [1]

    def test_a_full_outbox_is_one(self, agent: Agent) -> None:
        """Eight updates whose fate nobody tells are enough; one that is settled makes room."""
        offers = []
        for round_ in range(1, OUTBOX_LIMIT + 2):
            agent.install(round_ - 1)
            agent.open(round_)
            if agent.tasks:
                agent.train()
                offers += agent.offers()
        assert len(offers) == OUTBOX_LIMIT
        agent.part.tick()
        assert agent.tasks == []
        agent.part.delivery.receipt(receipt(offers[0], "late"))
        agent.part.tick()
        assert [task.round for task in agent.tasks] == [OUTBOX_LIMIT + 1]

    def test_does_not_end_a_training_in_hand(self, agent: Agent) -> None:
        """Its update is delivered."""
        agent.open(1)
        agent.obstacle = "processor at 99 %"
        agent.part.tick()
        agent.train()
        assert len(agent.offers()) == 1

    def test_leaves_statistics_and_evaluation_alone(self, agent: Agent) -> None:
        """They are short, and others wait for them."""
        agent.obstacle = "processor at 99 %"
        agent.part.report_moments()
        agent.install(0, evaluate=True)
        kinds = [type(task) for task in agent.tasks]
        assert kinds == [protocol.CollectMoments, protocol.Evaluate]


class TestOtherWork:
    def test_moments_are_sent(self, agent: Agent) -> None:
        """Asked for twice while in hand, they are collected once."""
        agent.part.report_moments()
        agent.part.report_moments()
        [task] = agent.tasks
        assert isinstance(task, protocol.CollectMoments)
        agent.part.answer(protocol.MomentsCollected(number=task.number, moments=MOMENTS))
        assert agent.sent == [("moments", MomentsReport(job="press", moments=MOMENTS))]

    def test_warm(self, agent: Agent) -> None:
        """The trainer is started ahead; its answer needs no message."""
        agent.part.warm()
        [task] = agent.tasks
        assert isinstance(task, protocol.Warm)
        assert agent.part.answer(protocol.Ready(number=task.number))
        assert agent.sent == []

    def test_warm_is_not_asked_of_a_busy_trainer_or_machine(self, agent: Agent) -> None:
        """It runs already, or must not run; what would be queued would only hold others up."""
        agent.obstacle = "processor at 99 %"
        agent.part.warm()
        assert agent.tasks == []
        agent.obstacle = ""
        agent.part.warm()
        agent.part.warm()
        assert [type(task) for task in agent.tasks] == [protocol.Warm]

    def test_a_version_is_evaluated_once(self, agent: Agent) -> None:
        """When it is asked for, even if its notice comes again."""
        agent.install(1, evaluate=True)
        agent.part.installed()
        [task] = agent.tasks
        assert (task.version, task.weights) == (version(1), "weights")
        agent.part.answer(
            protocol.Evaluated(
                number=task.number, version=task.version, statistic=STATISTIC, last=STATISTIC
            )
        )
        report = EvaluationReport(
            job="press", version=version(1), statistic=STATISTIC, last=STATISTIC
        )
        assert agent.sent == [("evaluation", report)]

    def test_a_dead_trainer_loses_only_its_own_tasks(self, agent: Agent) -> None:
        """What another trainer has been given since is still in hand."""
        agent.install(0, evaluate=True)
        agent.open(1)
        evaluate, train = agent.tasks
        assert agent.part.trainer_died((evaluate.number,))
        assert agent.part.training
        assert not agent.part.trainer_died((12345,))
        agent.tasks.clear()
        agent.part.installed()  # the evaluation is asked for again, the training is not
        assert [type(task) for task in agent.tasks] == [protocol.Evaluate]
        assert agent.part.trainer_died((train.number,))
        assert not agent.part.training


class TestFate:
    """What the agent does for the next round with what it is told of the one before."""

    def test_of_an_included_update_the_carry_is_trained_with(self, agent: Agent) -> None:
        """The round's result names it."""
        agent.open(1)
        answer = trained(agent.tasks[0])
        agent.train()
        [offer] = agent.offers()
        agent.open(2, closed=1, included={"a": offer.sha256})
        agent.install(1)
        assert agent.tasks[0].residual == str(agent.folder / "residual.msgpack")
        assert agent.early.tobytes() == answer.residual

    def test_one_that_may_still_be_used_keeps_nobody_waiting(self, agent: Agent) -> None:
        """The next round is trained meanwhile; the first update is used by a later one."""
        agent.open(1)
        agent.train()
        [first] = agent.offers()
        agent.install(1)
        agent.open(2, closed=1)
        agent.train()
        [second] = agent.offers()
        agent.part.tick()
        assert [offer.sha256 for offer in agent.offers()] == [first.sha256]
        agent.part.delivery.receipt(receipt(first, "included"))
        agent.open(3, closed=2, included={"a": second.sha256})
        assert list((agent.folder / "outbox").iterdir()) == []
        assert agent.held().any()

    def test_learned_while_training(self, agent: Agent) -> None:
        """It waits: the trainer has read the residual, and what it leaves must not hide it."""
        agent.open(1)
        agent.train()
        [first] = agent.offers()
        agent.install(2)
        agent.open(3)
        [task] = agent.tasks
        agent.part.delivery.receipt(receipt(first, "late"))
        agent.part.tick()
        assert agent.offers() == []
        answer = trained(task, residual=agent.early)
        agent.train()
        [second] = agent.offers()
        assert second.sha256 == sha256(answer.frame)
        agent.part.delivery.receipt(receipt(second, "included"))
        _, decoded = decode_frame(answer.frame, elements=ELEMENTS)
        np.testing.assert_allclose(agent.held() + decoded, raw(1) + raw(3), atol=1e-6)
        assert list((agent.folder / "outbox").iterdir()) == []

    @pytest.mark.parametrize("end", ["failed", "died"])
    def test_learned_while_a_training_fails(self, agent: Agent, end: str) -> None:
        """It is settled when the training has ended, however."""
        agent.open(1)
        agent.train()
        [first] = agent.offers()
        agent.install(2)
        agent.open(3)
        [task] = agent.tasks
        agent.part.delivery.receipt(receipt(first, "late"))
        if end == "died":
            agent.part.trainer_died((task.number,))
        else:
            agent.part.answer(protocol.Failed(number=task.number, error="E", message="m"))
        np.testing.assert_allclose(agent.held(), raw(1), atol=1e-6)


class World:
    """Three rounds as the coordinator and the power grid would have them.

    The coordinator keeps the first update of a round; ``fates`` says what becomes of each. Those
    that a round's result does not list are asked about, except in protocol 1. The power goes before
    the n-th thing that the agent does to its disk or to the wire, for each n in ``crashes``.
    """

    def __init__(
        self, folder: Path, fates: tuple[str, ...], crashes: set[int], protocol_: int
    ) -> None:
        self.agent = Agent(folder)
        self.agent.protocol = self.agent.part.delivery.protocol = protocol_
        self.fates = fates
        self.kept: dict[int, UpdateOffer] = {}
        self.frames: dict[str, bytes] = {}
        self.steps = 0
        self.full = False
        self.crashed = False
        self._crashes = crashes
        self.agent.step = self.tick

    def tick(self) -> None:
        """One more step of the agent."""
        self.steps += 1
        if self.steps in self._crashes:
            raise CrashError

    def run(self) -> None:
        """Go through all rounds, starting the agent again after a crash."""
        for round_ in range(1, len(self.fates) + 2):
            while not self.attempt(round_):
                pass

    def attempt(self, round_: int) -> bool:
        """Let the agent take part in a round; False if it crashed."""
        try:
            if self.crashed:
                self.agent.start()
                self.crashed = False
            self.agent.deployment.followed = notice_of(round_ - 1)
            included = {}
            if round_ > 1 and self.fates[round_ - 2] == "included":
                included = {"a": self.kept[round_ - 1].sha256}
            last = round_ > len(self.fates)
            self.agent.open(0 if last else round_, closed=round_ - 1, included=included)
            if not last and len(self.frames) < round_:
                self.deliver(round_)
            self.agent.part.tick()
            self.answer(round_)
        except CrashError:
            self.agent.sent.clear()
            self.crashed = True
            return False
        return True

    def deliver(self, round_: int) -> None:
        """Train if asked to, and take in what is sent."""
        if self.agent.tasks:
            self.agent.train()
        self.agent.part.delivery.reconnected()
        for offer in self.agent.offers():
            assert self.kept.setdefault(offer.round, offer).sha256 == offer.sha256
        digest = self.kept[round_].sha256
        self.agent.part.delivery.request(BlobRequest(job="press", blob=digest, missing=[0]))
        [(_, wire)] = self.agent.sent
        self.frames[digest] = parse_block(wire).payload
        self.agent.sent.clear()
        self.agent.part.delivery.receipt(receipt(self.kept[round_], "received"))

    def answer(self, round_: int) -> None:
        """Say what became of each update of a closed round that is offered."""
        for offer in self.agent.offers():
            if offer.round < round_:
                fate = self.fates[offer.round - 1]
                self.agent.part.delivery.receipt(receipt(offer, fate))

    def check(self) -> None:
        """What reached the coordinator and what is left are together all that was trained."""
        reached = np.zeros(ELEMENTS)
        for fate, offer in zip(self.fates, self.kept.values(), strict=True):
            if fate != "late":
                reached += decode_frame(self.frames[offer.sha256], elements=ELEMENTS)[1]
        made = sum(raw(round_) for round_ in range(1, len(self.fates) + 1))
        np.testing.assert_allclose(reached + self.agent.held(), made, atol=1e-5)
        assert list((self.agent.folder / "outbox").iterdir()) == []


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch, no_sync: None) -> Iterator[list[Any]]:
    """Makes every write and deletion of the agent a step of the world in the list."""
    world: list[Any] = []

    def stepping(act: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: Any) -> None:
            if world:
                world[0].tick()
                if world[0].full:
                    raise StoreError("No space left on device")
            act(*arguments)

        return step

    import fedmill_agent.residual as residual_module
    import fedmill_shared.link.outbox as outbox_module

    for module in (residual_module, outbox_module):
        monkeypatch.setattr(module, "write_atomic", stepping(module.write_atomic))
    outbox = outbox_module.Outbox
    monkeypatch.setattr(outbox, "take", stepping(outbox.take))
    return world


class TestCrash:
    @pytest.mark.parametrize("fates", list(itertools.product(["included", "late"], repeat=3)))
    @pytest.mark.parametrize("protocol_", [OLDEST, NEWEST])
    def test_between_any_two_steps(
        self, tmp_path: Path, power: list[World], fates: tuple[str, ...], protocol_: int
    ) -> None:
        """Neither loses nor doubles a delta, wherever in three rounds the power goes."""
        self.try_all(tmp_path, power, fates, protocol_)

    @pytest.mark.parametrize("fates", list(itertools.permutations(["included", "late", "refused"])))
    def test_with_a_refusal(
        self, tmp_path: Path, power: list[World], fates: tuple[str, ...]
    ) -> None:
        """What was refused is gone, and nothing else."""
        self.try_all(tmp_path, power, fates, NEWEST)

    @pytest.mark.parametrize("again", [1, 2, 3])
    @pytest.mark.parametrize("protocol_", [OLDEST, NEWEST])
    def test_and_again_while_starting(
        self, tmp_path: Path, power: list[World], again: int, protocol_: int
    ) -> None:
        """A second time one to three steps after the first."""
        self.try_all(tmp_path, power, ("late", "included", "late"), protocol_, again=again)

    def try_all(
        self,
        folder: Path,
        power: list[World],
        fates: tuple[str, ...],
        protocol_: int,
        *,
        again: int = 0,
    ) -> None:
        """Crash before the first step, the second, and so on until there are no more."""
        for crash in itertools.count(1):
            world = World(folder / str(crash), fates, {crash, crash + again}, protocol_)
            power[:] = [world]
            world.run()
            world.check()
            if world.steps < crash:
                break
        assert crash > 3 * 5


Fuse = tuple[int, str] | None
FUSES = st.none() | st.tuples(st.integers(0, 4), st.sampled_from(["power", "disk"]))
"""After how many more steps of the agent the power goes, or the disk is full; None: never."""


class Course(RuleBasedStateMachine):
    """Anything that coordinator, trainer and power grid may do, in any order.

    The ledger: all that was ever put into the outbox was learned; what is not late was sent, used
    or not, and does not come back; the rest is in the residual.
    """

    power: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.fuse: Fuse = None
        self.full = False
        self.power[:] = [self]
        self.agent = Agent(self.folder / "job")
        self.agent.step = self.tick
        self.parcels: dict[str, Parcel] = {}
        self.fates: dict[str, str] = {}
        self.notice = RoundNotice(job="press", round=0)

    def tick(self) -> None:
        """One more step of the agent."""
        if self.fuse is None:
            return
        left, what = self.fuse
        self.fuse = (left - 1, what) if left else None
        if not left and what == "power":
            raise CrashError
        self.full |= not left

    def act(self, what: Callable[[], object], fuse: Fuse = None) -> None:
        """Let the agent do something; it survives a full disk, and is started after a crash."""
        self.fuse = fuse
        try:
            what()
        except StoreError:
            pass
        except CrashError:
            self.start()
        self.fuse = None
        self.agent.sent.clear()
        self.look()

    def look(self) -> None:
        """Note what is in the outbox."""
        for parcel in Outbox(self.agent.folder / "outbox").parcels():
            self.parcels.setdefault(parcel.offer.sha256, parcel)
            if self.agent.protocol == OLDEST and parcel.offer.round <= self.notice.closed:
                self.fates.setdefault(parcel.offer.sha256, "late")  # it came behind the close

    def start(self) -> None:
        """A new process on a disk with room, and the notice that the broker has retained."""
        self.full = False
        self.look()
        self.agent.start()
        self.agent.part.announce_round(self.notice)

    def kept(self) -> set[str]:
        """Updates in the outbox."""
        return {path.stem for path in (self.agent.folder / "outbox").glob("*.update")}

    @initialize(protocol_=st.sampled_from([OLDEST, NEWEST]))
    def choose(self, protocol_: int) -> None:
        """The coordinator is of one protocol or of the other."""
        self.agent.protocol = self.agent.part.delivery.protocol = protocol_

    @rule(used=st.integers(0, 3), fuse=FUSES)
    def close(self, used: int, fuse: Fuse) -> None:
        """The round closes, perhaps with an update that is listed, and the next one opens."""
        closed, old = self.notice.round, self.agent.protocol == OLDEST
        open_to = [
            digest
            for digest, parcel in self.parcels.items()
            if digest not in self.fates and (parcel.offer.round == closed or not old)
        ]
        included = {"a": open_to[used]} if used < len(open_to) else {}
        for digest in open_to:
            if digest in included.values():
                self.fates[digest] = "included"
            elif old:
                self.fates[digest] = "late"
        self.notice = RoundNotice(
            job="press",
            round=closed + 1,
            base=version(closed),
            closed=closed,
            included=included,
        )
        self.agent.deployment.followed = notice_of(closed)
        self.act(lambda: self.agent.part.announce_round(self.notice), fuse)

    @rule(fuse=FUSES)
    def extend(self, fuse: Fuse) -> None:
        """The round is given another deadline."""
        self.notice = structs.replace(self.notice, attempt=self.notice.attempt + 1)
        self.act(lambda: self.agent.part.announce_round(self.notice), fuse)

    @precondition(lambda self: self.agent.part.training)
    @rule(fuse=FUSES)
    def train(self, fuse: Fuse) -> None:
        """The trainer is done."""
        self.act(self.agent.train, fuse)

    @precondition(lambda self: self.agent.part.training)
    @rule(fuse=FUSES)
    def die(self, fuse: Fuse) -> None:
        """The trainer is not, and the seat tries again."""
        numbers = [task.number for task in self.agent.tasks]
        self.agent.tasks.clear()
        self.act(lambda: self.agent.part.trainer_died(numbers), fuse)
        self.act(self.agent.part.installed)

    @precondition(lambda self: self.parcels)
    @rule(
        which=st.integers(0, 63),
        fate=st.sampled_from(["received", "included", "late", "refused"]),
        fuse=FUSES,
    )
    def answer(self, which: int, fate: str, fuse: Fuse) -> None:
        """A receipt comes, perhaps not for the first time: the last word on an update stays."""
        digest = list(self.parcels)[which % len(self.parcels)]
        older = self.parcels[digest].offer.round <= self.notice.closed
        if fate != "received" and (self.agent.protocol > OLDEST or older):
            self.fates.setdefault(digest, fate)
        message = receipt(self.parcels[digest].offer, self.fates.get(digest, "received"))
        self.act(lambda: self.agent.part.delivery.receipt(message), fuse)

    @rule(seconds=st.integers(0, 20), fuse=FUSES)
    def wait(self, seconds: int, fuse: Fuse) -> None:
        """Time passes."""
        self.agent.clock.advance(seconds)
        self.act(self.agent.part.tick, fuse)

    @precondition(lambda self: self.full)
    @rule()
    def make_room(self) -> None:
        """Somebody tidies the disk."""
        self.full = False

    @rule(fuse=FUSES)
    def restart(self, fuse: Fuse) -> None:
        """The agent is started anew, or the power goes while it starts."""
        self.act(self.start, fuse)

    def teardown(self) -> None:
        """Let all be told, and look at the ledger."""
        self.full = False
        if self.agent.part.training:
            self.act(self.agent.train)
        self.act(self.agent.part.tick)
        for digest in self.kept():
            message = receipt(self.parcels[digest].offer, self.fates.get(digest, "received"))
            self.act(lambda message=message: self.agent.part.delivery.receipt(message))
        while self.agent.part.training:
            self.act(self.agent.train)
        made, sent = np.zeros(ELEMENTS), np.zeros(ELEMENTS)  # counted in double precision
        for digest, parcel in self.parcels.items():
            made += raw(parcel.offer.round)
            if self.fates.get(digest) != "late":
                sent += decode_frame(parcel.frame, elements=ELEMENTS)[1]
        held = self.agent.held()
        kept = self.kept()
        shutil.rmtree(self.folder)
        np.testing.assert_allclose(held, made - sent, atol=1e-4)
        assert kept == set(self.parcels) - set(self.fates)


class TestCourse:
    def test_each_update_is_settled_once(self, power: list[Any]) -> None:
        """Whatever happens, in whatever order: nothing learned is lost, and nothing is doubled."""

        class Run(Course):
            pass

        Run.power = power
        run_state_machine_as_test(Run, settings=settings(max_examples=60, stateful_step_count=30))
