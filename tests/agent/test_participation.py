# SPDX-License-Identifier: Apache-2.0
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.agent.kit import Journal, a_job

from fedmill_agent.participation import RESEND_SECONDS, Participation, Ports
from fedmill_agent.residual import read_residual
from fedmill_agent.training import protocol
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.feedback import carry, compensate
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame, prefix
from fedmill_shared.errors import TrainerError
from fedmill_shared.files import sha256
from fedmill_shared.job_check import canonical
from fedmill_shared.link.blocks import Assembler, parse_block
from fedmill_shared.messages import (
    BlobName,
    EvaluationReport,
    MomentsReport,
    Receipt,
    RoundNotice,
    UpdateOffer,
    VersionNotice,
)
from fedmill_shared.metrics import of_classes
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.signals.moments import collect

ELEMENTS = 24
MANIFEST = Manifest((Tensor("head.weight", (ELEMENTS,), 0, "head"),))
JOB = a_job()
STATISTIC = of_classes(np.eye(2, dtype=np.float32), np.array([0, 1]))
MOMENTS = collect(np.ones((2, 1, 4), np.float32), [0], [], [], None)


def version(number: int) -> str:
    """The digest of a version."""
    return sha256(f"version {number}".encode())


def notice_of(number: int, *, evaluate: bool = False) -> VersionNotice:
    """A version's announcement."""
    blob = BlobName(sha256=sha256(b""), size=0)
    return VersionNotice(
        job="press",
        number=number,
        version=version(number),
        manifest=blob,
        template=blob,
        canary_inputs=blob,
        canary_outputs=b"",
        snapshot=blob,
        evaluate=evaluate,
    )


def raw(round_: int) -> np.ndarray:
    """What training on the agent's windows gives in a round."""
    return np.random.default_rng(round_).normal(0, 1, ELEMENTS).astype(np.float32)


class Deployment:
    """Stands in for the versions of an agent."""

    active: VersionNotice | None = None

    def manifest(self) -> Manifest:
        """One tensor."""
        return MANIFEST

    def regimes(self) -> int:
        """One condition."""
        return 1

    def weights_path(self) -> str:
        """A file that nobody reads."""
        return "weights"


class CrashError(Exception):
    """The power goes."""


class Agent:
    """A participation that can be started again, and whatever it sent and asked for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.clock = ManualClock()
        self.journal = Journal()
        self.deployment = Deployment()
        self.sent: list[tuple[str, Any]] = []
        self.tasks: list[Any] = []
        self.step: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self.start()

    def start(self) -> None:
        """A new process on the same folder: work in hand is gone."""
        self.tasks.clear()
        ports = Ports(send=self._send, submit=self._submit, number=lambda: next(self._numbers))
        self.part = Participation(
            JOB,
            canonical(JOB),
            self.folder,
            self.deployment,
            ports,
            agent="a",
            store=self.folder / "w.sqlite",
            clock=self.clock,
            log=self.journal,
        )

    def _submit(self, request: protocol.Request) -> None:
        self.tasks.append(request)

    def _send(self, kind: str, message: Any) -> None:
        self.step()
        self.sent.append((kind, message))

    def offers(self) -> list[UpdateOffer]:
        """Updates offered since the last call."""
        found = [message for kind, message in self.sent if kind == "update"]
        self.sent.clear()
        return found

    def install(self, number: int, *, evaluate: bool = False) -> None:
        """A version becomes active."""
        self.deployment.active = notice_of(number, evaluate=evaluate)
        self.part.installed()

    def open(self, number: int, **closed: Any) -> None:
        """A round opens on the version of the round before."""
        self.part.announce_round(
            RoundNotice(job="press", round=number, base=version(number - 1), **closed)
        )

    def train(self) -> None:
        """The trainer does the training in hand, as the real one does."""
        [task] = [task for task in self.tasks if isinstance(task, protocol.Train)]
        self.tasks.remove(task)
        self.part.answer(trained(task))

    def held(self) -> np.ndarray:
        """The residual that the next training would add."""
        path = self.part._residual.path(prefix(MANIFEST.digest))
        return read_residual(Path(path), ELEMENTS) if path else np.zeros(ELEMENTS, np.float32)


def trained(task: protocol.Train, *, residual: np.ndarray | None = None) -> protocol.Trained:
    """What the worker answers: the same arithmetic on a random delta."""
    delta = raw(task.round)
    if task.residual:
        held = read_residual(Path(task.residual), ELEMENTS) if residual is None else residual
        delta = compensate(delta, held)
    header = FrameHeader(
        content="delta",
        round=task.round,
        base=prefix(task.base),
        schema=prefix(task.schema),
        examples=3,
    )
    frame = encode_frame(CODECS["int8"], delta, header, np.random.default_rng(task.round))
    _, decoded = decode_frame(frame, elements=ELEMENTS)
    return protocol.Trained(
        number=task.number,
        frame=frame,
        residual=carry(delta, decoded).tobytes(),
        examples=3,
        loss=0.5,
        seconds=0.25,
    )


def receipt(offer: UpdateOffer, fate: str, reason: str = "") -> Receipt:
    """The coordinator's answer to an offer."""
    return Receipt(job="press", round=offer.round, sha256=offer.sha256, fate=fate, reason=reason)


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

    def test_a_failed_training_is_tried_with_the_next_notice(self, agent: Agent) -> None:
        """And not in a loop."""
        agent.open(1)
        [task] = agent.tasks
        agent.tasks.clear()
        failed = protocol.Failed(number=task.number, error="DataError", message="no windows")
        assert agent.part.answer(failed)
        assert agent.tasks == []
        assert agent.journal.of("training.failed") == [{"kind": "DataError", "error": "no windows"}]
        agent.open(1)
        assert len(agent.tasks) == 1

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


class TestDelivery:
    @pytest.fixture
    def offer(self, agent: Agent) -> UpdateOffer:
        """An update on its way."""
        agent.open(1)
        agent.train()
        [offer] = agent.offers()
        return offer

    def test_is_sent_again_until_there_is_a_receipt(self, agent: Agent, offer: UpdateOffer) -> None:
        """Every ten seconds, and no more once the coordinator has it."""
        agent.clock.advance(RESEND_SECONDS - 1)
        agent.part.tick()
        assert agent.offers() == []
        for _ in range(2):
            agent.clock.advance(RESEND_SECONDS)
            agent.part.tick()
            assert agent.offers() == [offer]
        agent.part.receipt(receipt(offer, "received"))
        agent.clock.advance(1000)
        agent.part.tick()
        assert agent.offers() == []

    def test_is_sent_again_after_a_reconnection(self, agent: Agent, offer: UpdateOffer) -> None:
        """Also when there is a receipt: its fate may have been missed."""
        agent.part.reconnected()
        assert agent.offers() == [offer]
        agent.part.receipt(receipt(offer, "received"))
        agent.part.reconnected()
        assert agent.offers() == [offer]

    def test_is_sent_again_after_a_restart(self, agent: Agent, offer: UpdateOffer) -> None:
        """It is on disk before it is sent."""
        agent.start()
        agent.part.tick()
        assert agent.offers() == [offer]

    @pytest.mark.parametrize("fate", ["included", "late", "refused"])
    def test_a_final_receipt_ends_it(self, agent: Agent, offer: UpdateOffer, fate: str) -> None:
        """It leaves the outbox, and is not trained or sent again."""
        agent.part.receipt(receipt(offer, fate, "because"))
        assert list((agent.folder / "outbox").iterdir()) == []
        agent.open(1)
        agent.part.reconnected()
        agent.clock.advance(1000)
        agent.part.tick()
        assert agent.offers() == []
        assert agent.tasks == []
        told = agent.journal.of("update.refused")
        assert told == [{"round": 1, "reason": "because"}] * (fate == "refused")

    def test_a_receipt_for_something_else_is_ignored(
        self, agent: Agent, offer: UpdateOffer
    ) -> None:
        """Nothing of ours is settled by it."""
        before = agent.held().tobytes()
        for fate in ("received", "included", "late", "refused"):
            agent.part.receipt(Receipt(job="press", round=1, sha256=sha256(b"other"), fate=fate))
        agent.clock.advance(RESEND_SECONDS)
        agent.part.tick()
        assert agent.offers() == [offer]
        assert agent.held().tobytes() == before
        assert agent.journal.of("update.refused") == []

    def test_a_damaged_parcel_is_given_up(self, agent: Agent, offer: UpdateOffer) -> None:
        """It is set aside by the outbox, and nobody waits for it."""
        path = agent.folder / "outbox" / f"{offer.sha256}.update"
        path.write_bytes(b"rust")
        agent.clock.advance(RESEND_SECONDS)
        agent.part.tick()
        agent.part.tick()
        assert agent.offers() == []


class TestFate:
    def test_included_leaves_the_carry(self, agent: Agent) -> None:
        """The round's result names our update."""
        agent.open(1)
        task = agent.tasks[0]
        agent.train()
        [offer] = agent.offers()
        agent.open(2, closed=1, included={"a": offer.sha256})
        assert agent.held().tobytes() == trained(task).residual
        assert list((agent.folder / "outbox").iterdir()) == []

    @pytest.mark.parametrize("included", [{}, {"a": sha256(b"older")}, {"b": sha256(b"b")}])
    def test_not_included_adds_it_back(self, agent: Agent, included: dict[str, str]) -> None:
        """Also where the result names another update of ours."""
        agent.open(1)
        agent.train()
        agent.open(2, closed=1, included=included)
        np.testing.assert_allclose(agent.held(), raw(1), atol=1e-6)
        agent.install(1)
        assert agent.tasks[0].residual == str(agent.folder / "residual.msgpack")

    def test_a_fate_learned_late(self, agent: Agent) -> None:
        """An older round's fate is asked for, and its receipt settles it."""
        agent.open(1)
        agent.train()
        [offer] = agent.offers()
        agent.part.receipt(receipt(offer, "received"))
        agent.open(3, closed=2, included={})
        agent.part.tick()
        assert agent.offers() == [offer]
        agent.part.receipt(receipt(offer, "late", "the round was closed"))
        np.testing.assert_allclose(agent.held(), raw(1), atol=1e-6)

    def test_a_fate_learned_while_training(self, agent: Agent) -> None:
        """It waits: the trainer has read the residual, and what it leaves must not hide it."""
        agent.open(1)
        agent.train()
        [first] = agent.offers()
        agent.install(2)
        agent.open(3)
        [task] = agent.tasks
        early = agent.held()  # what a trainer that is quick to start reads
        agent.part.receipt(receipt(first, "late"))
        agent.part.tick()
        assert agent.offers() == []
        agent.tasks.clear()
        answer = trained(task, residual=early)
        agent.part.answer(answer)
        [second] = agent.offers()
        agent.part.receipt(receipt(second, "included"))
        _, decoded = decode_frame(answer.frame, elements=ELEMENTS)
        np.testing.assert_allclose(agent.held() + decoded, raw(1) + raw(3), atol=1e-6)
        assert list((agent.folder / "outbox").iterdir()) == []

    @pytest.mark.parametrize("end", ["failed", "died"])
    def test_a_fate_learned_while_a_training_fails(self, agent: Agent, end: str) -> None:
        """It is settled when the training has ended, however."""
        agent.open(1)
        agent.train()
        [first] = agent.offers()
        agent.install(2)
        agent.open(3)
        [task] = agent.tasks
        agent.part.receipt(receipt(first, "late"))
        if end == "died":
            agent.part.trainer_died((task.number,))
        else:
            agent.part.answer(protocol.Failed(number=task.number, error="E", message="m"))
        np.testing.assert_allclose(agent.held(), raw(1), atol=1e-6)

    def test_a_damaged_residual_is_told(self, agent: Agent) -> None:
        """The agent goes on without it."""
        (agent.folder / "residual.msgpack").write_bytes(b"rust")
        agent.start()
        [told] = agent.journal.of("residual.set_aside")
        assert told["path"] == str(agent.folder / "residual.damaged")


class World:
    """Three rounds as the coordinator and the power grid would have them.

    The coordinator keeps the first update of a round; ``fates`` says which rounds include it.
    The power goes before the n-th thing that the agent does to its disk or to the wire, for each
    n in ``crashes``.
    """

    def __init__(self, folder: Path, fates: tuple[bool, ...], crashes: set[int]) -> None:
        self.agent = Agent(folder)
        self.fates = fates
        self.kept: dict[int, UpdateOffer] = {}
        self.frames: dict[str, bytes] = {}
        self.steps = 0
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
            self.agent.deployment.active = notice_of(round_ - 1)
            included = {}
            if round_ > 1 and self.fates[round_ - 2]:
                included = {"a": self.kept[round_ - 1].sha256}
            self.agent.open(round_, closed=round_ - 1, included=included)
            if round_ <= len(self.fates) and round_ not in self.kept:
                self.deliver(round_)
        except CrashError:
            self.agent.sent.clear()
            self.crashed = True
            return False
        return True

    def deliver(self, round_: int) -> None:
        """Train if asked to, and take in what is sent."""
        if self.agent.tasks:
            self.agent.train()
        self.agent.part.reconnected()
        for kind, message in self.agent.sent:
            if kind == "update":
                assert self.kept.setdefault(message.round, message) == message
            else:
                block = parse_block(message)
                self.frames[block.blob] = block.payload
        self.agent.sent.clear()
        self.agent.part.receipt(receipt(self.kept[round_], "received"))

    def check(self) -> None:
        """What reached the model and what is left are together all that was trained."""
        reached = np.zeros(ELEMENTS)
        for fate, offer in zip(self.fates, self.kept.values(), strict=True):
            if fate:
                reached += decode_frame(self.frames[offer.sha256], elements=ELEMENTS)[1]
        made = sum(raw(round_) for round_ in range(1, len(self.fates) + 1))
        np.testing.assert_allclose(reached + self.agent.held(), made, atol=1e-5)


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch, no_sync: None) -> Iterator[list[World]]:
    """Makes every write and deletion of the agent a step of the world in the list."""
    world: list[World] = []

    def stepping(act: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: Any) -> None:
            if world:
                world[0].tick()
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
    @pytest.mark.parametrize("fates", list(itertools.product([True, False], repeat=3)))
    def test_between_any_two_steps(
        self, tmp_path: Path, power: list[World], fates: tuple[bool, ...]
    ) -> None:
        """Neither loses nor doubles a delta, wherever in three rounds the power goes."""
        self.try_all(tmp_path, power, fates, again=0)

    @pytest.mark.parametrize("again", [1, 2, 3])
    def test_and_again_while_starting(self, tmp_path: Path, power: list[World], again: int) -> None:
        """A second time one to three steps after the first."""
        self.try_all(tmp_path, power, (False, True, False), again=again)

    def try_all(
        self, folder: Path, power: list[World], fates: tuple[bool, ...], *, again: int
    ) -> None:
        """Crash before the first step, the second, and so on until there are no more."""
        for crash in itertools.count(1):
            world = World(folder / str(crash), fates, {crash, crash + again})
            power[:] = [world]
            world.run()
            world.check()
            if world.steps < crash:
                break
        assert crash > 3 * 5
