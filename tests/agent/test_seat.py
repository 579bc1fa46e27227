# SPDX-License-Identifier: Apache-2.0
"""An agent's seat in one job: who may sit there, and when the coordinator is told so."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from tests.agent.kit import Journal, a_job, choosing, classes_of, two_classes, write_csv

from fedmill_agent.config import AgentConfig, AgentSection, TrainingSection
from fedmill_agent.delivery import OUTBOX_LIMIT
from fedmill_agent.outside import Outside
from fedmill_agent.seat import LONGEST_SPREAD, Seat
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.streams import Fed
from fedmill_agent.training import protocol
from fedmill_shared.clock import ManualClock
from fedmill_shared.files import sha256
from fedmill_shared.job import Evaluation, Job, Learning, Task
from fedmill_shared.job_check import canonical
from fedmill_shared.link.outbox import Parcel
from fedmill_shared.messages import (
    BlobRequest,
    JobNotice,
    JobPhase,
    Receipt,
    UpdateOffer,
    Wait,
)
from fedmill_shared.protocol import NEWEST, OLDEST

PATIENCE = 30.0
WINDOWS = 12
ONLY_TRAIN = Evaluation(validation=0.0, test=0.0)
FRAME = b"a frame that nobody decodes"


def the_job(**federation: Any) -> Job:
    """A job whose agents hold nothing out."""
    return a_job(evaluation=ONLY_TRAIN, **federation)


class Room:
    """A seat beside a recording of twelve labelled windows, and whatever it says."""

    def __init__(
        self, folder: Path, job: Job, *, labels: dict[str, Any] | None = None, training: bool = True
    ) -> None:
        values = two_classes()
        path = write_csv(folder / "press.csv", values, classes_of(values))
        source = CsvOptions(
            name="press", path=str(path), run_column="run", label_column="label", split="train"
        )
        self.clock, self.journal = ManualClock(), Journal()
        self.sent: list[tuple[str, Any]] = []
        self.tasks: list[Any] = []
        self.drawn: list[float] = []
        self.jitter = 0.0
        self.obstacle = ""
        self._fed: SimpleQueue[Fed] = SimpleQueue()
        numbers = itertools.count(1)
        outside = Outside(
            config=AgentConfig(
                agent=AgentSection(id="a", state=str(folder / "state"), labels=labels or {}),
                training=TrainingSection(enabled=training),
                sources=[source],
            ),
            send=lambda kind, message: self.sent.append((kind, message)),
            submit=self.tasks.append,
            number=lambda: next(numbers),
            feed=lambda fed: self._fed.put(fed) or True,
            clock=self.clock,
            obstacle=lambda: self.obstacle,
            jitter=self._draw,
        )
        self.job = job
        self.seat = Seat(job.name, canonical(job), outside, self.journal)

    def _draw(self, longest: float) -> float:
        self.drawn.append(longest)
        return min(self.jitter, longest)

    def hear(self, *, state: str = "waiting", spread: float = 0.0, protocol_: int = NEWEST) -> None:
        """The coordinator announces the job."""
        text = canonical(self.job)
        notice = JobNotice(job=self.job.name, text=text, state=state, spread=spread)
        self.seat.hear(notice, protocol_)

    def until(self, done: Callable[[], object]) -> None:
        """Let the sources deliver, and time pass, until ``done``."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.journal.entries
            try:
                self.seat.feed(self._fed.get(timeout=0.01))
            except Empty:
                self.pass_time(0.1)

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the seat does what is due."""
        self.clock.advance(seconds)
        self.seat.tick()

    def said(self, kind: str) -> list[Any]:
        """Messages of one kind since the last call."""
        found = [message for what, message in self.sent if what == kind]
        self.sent[:] = [(what, message) for what, message in self.sent if what != kind]
        return found

    def joined(self) -> bool:
        """Whether the seat takes part."""
        return self.seat.phase().phase == "joined"


Open = Callable[..., Room]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Makes rooms, and closes their seats in the end."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    made: list[Room] = []

    def make(job: Job | None = None, **fields: Any) -> Room:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Room(folder, job or the_job(), **fields))
        return made[-1]

    yield make
    for each in made:
        each.seat.close()


def an_update(room: Room) -> UpdateOffer:
    """An update that the seat has made, and offered."""
    offer = UpdateOffer(
        job="press",
        round=1,
        base="b" * 64,
        sha256=sha256(FRAME),
        size=len(FRAME),
        examples=3,
        loss=0.5,
        seconds=0.25,
    )
    room.seat._work.participation.delivery.put(Parcel(offer, FRAME))
    room.sent.clear()
    return offer


class TestNewerJobs:
    def test_a_task_of_newer_software_is_refused(self, room: Open) -> None:
        """As software that knows no reconstruction does: it names the value, and what to do."""
        here = room(structs.replace(the_job(), job=Task(name="press", task="something newer")))
        here.hear()
        [refusal] = here.said("refusal")
        assert refusal.reason == "JobError"
        assert "'something newer' - at `$.job.task`" in refusal.text
        assert "install the same version of fedmill" in refusal.text
        assert here.seat.phase() == JobPhase(phase="refused", ineligible=refusal.text)

    def test_signals_that_do_not_fit_are_told_in_the_state(self, room: Open) -> None:
        """`status` and `fleet` say why the job was refused: the log alone is read by few."""
        job = the_job()
        flow = [structs.replace(each, name="flow") for each in job.signals]
        here = room(structs.replace(job, signals=flow))
        here.hear()
        here.until(lambda: here.seat.phase().phase == "refused")
        [refusal] = here.said("refusal")
        assert "flow" in refusal.text
        assert here.seat.phase().ineligible == refusal.text


class TestSelection:
    """`federation.select` names agents by the labels in their configuration."""

    SELECT = 'line == "A" and "press" in tags'

    @pytest.mark.parametrize("labels", [{}, {"line": "B", "tags": ["press"]}, {"line": "A"}])
    def test_an_agent_that_is_not_meant_reads_nothing(
        self, room: Open, labels: dict[str, Any]
    ) -> None:
        """It says why in its state, and nothing else about the job."""
        here = room(the_job(select=self.SELECT), labels=labels)
        here.hear(state="running")
        here.seat.reconnected()
        here.pass_time(100.0)
        phase = here.seat.phase()
        assert phase == JobPhase(phase="refused", ineligible=phase.ineligible)
        assert "line" in phase.ineligible or "tags" in phase.ineligible
        assert here.journal.of("job.not_selected") == [{"reason": phase.ineligible}]
        assert here.journal.of("job.refused") == here.sent == here.tasks == []

    def test_what_is_said_to_it_passes_by(self, room: Open) -> None:
        """Receipts, requests and waits are for those who take part."""
        here = room(the_job(select=self.SELECT))
        digest = "a" * 64
        here.seat.reply(Receipt(job="press", round=1, sha256=digest, fate="late"))
        here.seat.reply(BlobRequest(job="press", blob=digest, missing=[0]))
        here.seat.reply(Wait(job="press", sha256=digest, retry_after=1.0))
        assert not here.seat.answer(protocol.Ready(number=1))
        here.seat.trainer_died((1,))
        assert here.sent == []

    @pytest.mark.parametrize("select", ["", SELECT, 'agent in ["a", "b"]'])
    def test_one_that_is_meant_joins(self, room: Open, select: str) -> None:
        """By its labels or its id; and so does everyone where nobody is named."""
        here = room(the_job(select=select), labels={"line": "A", "tags": ["old", "press"]})
        here.until(here.joined)
        assert here.seat.phase().ineligible == ""


class TestExamples:
    """`federation.min_examples` keeps agents out that have next to nothing to learn from."""

    def test_enough_is_enough(self, room: Open) -> None:
        """As many as are wanted."""
        here = room(the_job(min_examples=WINDOWS))
        here.hear()
        here.until(here.joined)
        [join] = here.said("join")
        assert join.windows["train"] == WINDOWS

    def test_too_few_are_told(self, room: Open) -> None:
        """How many there are, how many are wanted, and what to do; and so in the state."""
        here = room(the_job(min_examples=WINDOWS + 1))
        here.hear()
        here.until(lambda: here.seat.phase().phase == "refused")
        [refusal] = here.said("refusal")
        assert refusal.reason == "DataError"
        assert refusal.text == (
            "agent has 12 labelled training windows for job press, 13 are wanted (record more, "
            "or lower federation.min_examples in the job file)"
        )
        assert here.seat.phase().ineligible == "12 labelled training windows, 13 wanted"
        assert here.said("join") == []


class TestIntroduction:
    """After a notice all agents have something to say: they do not say it in the same moment."""

    def test_is_spread_as_the_coordinator_asks(self, room: Open) -> None:
        """Join and updates come after a wait that is drawn; and once."""
        here = room()
        here.until(here.joined)
        here.sent.clear()
        here.tasks.clear()
        offer = an_update(here)
        here.jitter = 5.0
        here.hear(spread=8.0)
        here.pass_time(4.5)
        assert here.sent == here.tasks == []
        here.pass_time(0.5)
        assert [kind for kind, _ in here.sent] == ["join", "update"]
        assert here.said("update")[0].sha256 == offer.sha256
        assert here.drawn[-1] == 8.0
        here.sent.clear()
        here.pass_time(5.0)
        assert here.said("join") == []

    def test_is_never_put_off_for_long(self, room: Open) -> None:
        """Whatever a coordinator asks."""
        here = room()
        here.until(here.joined)
        here.jitter = 1e9
        here.hear(spread=1e9)
        assert here.drawn[-1] == LONGEST_SPREAD
        here.sent.clear()
        here.pass_time(LONGEST_SPREAD)
        assert len(here.said("join")) == 1

    def test_comes_at_once_where_nothing_is_spread(self, room: Open) -> None:
        """As software of protocol 1 has it; a wait that was drawn before ends with it."""
        here = room()
        here.until(here.joined)
        here.sent.clear()
        here.jitter = 5.0
        here.hear(spread=8.0)
        here.hear()
        assert len(here.said("join")) == 1
        here.pass_time(20.0)
        assert here.said("join") == []

    def test_a_reconnection_does_not_wait(self, room: Open) -> None:
        """Brokers let agents back one by one already."""
        here = room()
        here.until(here.joined)
        here.sent.clear()
        here.jitter = 5.0
        here.hear(spread=8.0)
        here.seat.reconnected()
        assert len(here.said("join")) == 1
        here.pass_time(20.0)
        assert here.said("join") == []

    def test_a_refusal_is_spread_too(self, room: Open) -> None:
        """It is what those have to say who cannot take part."""
        here = room(the_job(min_examples=WINDOWS + 1))
        here.until(lambda: here.seat.phase().phase == "refused")
        here.sent.clear()
        here.jitter = 2.0
        here.hear(spread=8.0)
        assert here.said("refusal") == []
        here.pass_time(2.0)
        assert len(here.said("refusal")) == 1

    def test_the_state_of_the_job_is_known_before(self, room: Open) -> None:
        """What the trainer is asked for is what the job needs when its turn comes."""
        here = room()
        here.until(here.joined)
        here.seat.answer(protocol.Ready(number=here.tasks.pop().number))
        here.jitter = 2.0
        here.hear(state="running", spread=8.0)
        here.pass_time(2.0)
        assert [type(task) for task in here.tasks] == [protocol.Warm]


class TestProtocol:
    @pytest.mark.parametrize("protocol_", [OLDEST, NEWEST])
    def test_offers_are_made_in_the_common_one(self, room: Open, protocol_: int) -> None:
        """Of protocol 1 all blocks follow, also when an update is offered again."""
        here = room()
        here.until(here.joined)
        here.hear()
        an_update(here)
        here.hear(protocol_=protocol_)
        [offer] = here.said("update")
        assert offer.protocol == protocol_
        assert len(here.said("block")) == (protocol_ == OLDEST)


class TestReply:
    def test_each_kind_reaches_the_update(self, room: Open) -> None:
        """A request is answered, a wait postpones, and a receipt ends it."""
        here = room()
        here.until(here.joined)
        here.hear()
        offer = an_update(here)
        here.seat.reply(BlobRequest(job="press", blob=offer.sha256, missing=[0]))
        assert len(here.said("block")) == 1
        here.seat.reply(Wait(job="press", sha256=offer.sha256, retry_after=30.0))
        here.pass_time(29.0)
        assert here.said("update") == []
        here.pass_time(1.0)
        assert [again.sha256 for again in here.said("update")] == [offer.sha256]
        here.seat.reply(Receipt(job="press", round=1, sha256=offer.sha256, fate="included"))
        here.pass_time(1000.0)
        assert here.said("update") == []


class TestIneligible:
    def test_says_what_holds_training_up(self, room: Open) -> None:
        """In an engineer's words, as long as it does."""
        here = room()
        here.until(here.joined)
        here.obstacle = "processor at 99 %, at most 80 % wanted"
        assert here.seat.phase().ineligible == here.obstacle
        assert here.joined()
        here.obstacle = ""
        assert here.seat.phase().ineligible == ""

    def test_updates_that_pile_up_are_said(self, room: Open) -> None:
        """And not the machine's state, which is good."""
        here = room()
        here.until(here.joined)
        delivery = here.seat._work.participation.delivery
        for number in range(OUTBOX_LIMIT):
            frame = FRAME + bytes([number])
            offer = structs.replace(an_update(here), sha256=sha256(frame), size=len(frame))
            delivery.receipt(Receipt(job="press", round=1, sha256=sha256(FRAME), fate="included"))
            delivery.put(Parcel(offer, frame))
        assert here.seat.phase().ineligible == "8 updates wait for the coordinator"
        assert here.joined()

    def test_a_gateway_that_only_scores_says_so(self, room: Open) -> None:
        """Whatever else would hold it up."""
        here = room(training=False)
        here.obstacle = "processor at 99 %, at most 80 % wanted"
        assert here.seat.phase().ineligible == "training is switched off below [training]"


class TestServing:
    """Of a job whose agents choose what they score with."""

    JOB = choosing(rounds=9, learning=Learning(personal="head"))

    def test_what_was_chosen_is_said(self, room: Open) -> None:
        """With what each candidate reached; and nothing of it before there is a choice."""
        here = room(self.JOB)
        here.until(here.joined)
        phase = here.seat.phase()
        assert (phase.version, phase.served, phase.scores) == ("", "", {})
        deployment = here.seat._work.deployment
        scores = {"global": 0.5, "local": 0.75}
        deployment.serving.choice = SimpleNamespace(candidate="local", scores=scores)
        deployment.followed = SimpleNamespace(version="ab" * 32)
        phase = here.seat.phase()
        assert (phase.version, phase.served, phase.scores) == ("ab" * 32, "local", scores)

    @pytest.mark.parametrize(
        ("state", "over"),
        [("waiting", False), ("running", False), ("finished", True), ("stopped", True)],
    )
    def test_the_end_of_the_job_is_known(self, room: Open, state: str, *, over: bool) -> None:
        """Then the active version is the last, and is chosen at."""
        here = room(self.JOB)
        here.until(here.joined)
        here.hear(state=state)
        assert here.seat._work.participation.election.over is over

    def test_a_gateway_that_only_scores_makes_no_candidates(self, room: Open) -> None:
        """It has no trainer."""
        here = room(self.JOB, training=False)
        here.until(lambda: not here.seat._work.intake.replaying)
        here.seat._work.deployment.followed = SimpleNamespace(version="ab" * 32, number=9)
        here.pass_time(10.0)
        assert here.tasks == []
