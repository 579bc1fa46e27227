# SPDX-License-Identifier: Apache-2.0
"""One agent's part in one job: statistics, rounds and evaluation."""

from collections.abc import Collection
from pathlib import Path

from fedmill_agent.assessment import Assessment
from fedmill_agent.delivery import Delivery
from fedmill_agent.election import Ballot, Election, Task
from fedmill_agent.home import HOME_FILE, keeps_home
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.ports import Ports
from fedmill_agent.signatures import Signatures
from fedmill_agent.training import protocol
from fedmill_agent.training.offering import label_of, offer_of
from fedmill_shared.clock import Clock
from fedmill_shared.codec.frame import prefix
from fedmill_shared.errors import FedmillError
from fedmill_shared.job import Job
from fedmill_shared.link.outbox import Parcel
from fedmill_shared.log import Logger
from fedmill_shared.messages import MomentsReport, Refusal, RoundNotice, UpdateOffer
from fedmill_shared.models.sharing import personal_roles


class Participation:
    """Owns the delivery of one job's updates; asks the trainer and tells the coordinator."""

    def __init__(
        self,
        job: Job,
        text: bytes,
        folder: Path,
        deployment: Deployment,
        ports: Ports,
        *,
        agent: str,
        store: Path,
        clock: Clock,
        log: Logger,
    ) -> None:
        """Continue from what ``folder`` holds; ``store`` is the file with the windows.

        Raises:
            StoreError: the folder cannot be read or written.
        """
        self._tasks: dict[int, protocol.Request] = {}
        self._job = job
        self._text = text
        self._agent = agent
        self._clock = clock
        self._deployment = deployment
        self._ports = ports
        self._log = log
        self._store = str(store)
        self._home = str(folder / HOME_FILE) if keeps_home(job) else ""
        self.election = Election(job, folder, deployment, agent=agent)
        self._assessment = Assessment(
            job.name, self.election, deployment, ports, log, settled=self._settled
        )
        self.delivery = self._made_delivery(folder)
        self._attempt = 0
        self._failed: tuple[int, str, int] | None = None
        self._held = False
        self._round: RoundNotice | None = None
        self._present = False

    @property
    def training(self) -> bool:
        """Whether a round of local work is in hand."""
        return any(isinstance(task, protocol.Train) for task in self._tasks.values())

    def report_moments(self) -> None:
        """Have the statistics of the training windows collected and sent."""
        if not any(isinstance(task, protocol.CollectMoments) for task in self._tasks.values()):
            self._submit(protocol.CollectMoments(**self._task()))

    def warm(self) -> None:
        """Start the training process ahead of the first round, unless it runs or must not."""
        if self._tasks or self._ports.obstacle():
            return
        self._submit(protocol.Warm(**self._task()))

    def installed(self) -> None:
        """A version is followed: evaluate it if asked to, and train if its round is open."""
        self._present = True
        notice = self._deployment.followed
        if notice is not None and notice.evaluate:
            self._evaluate(notice.version)
        self._train_if_open()

    def announce_round(self, notice: RoundNotice) -> None:
        """A round opened, closed, or both."""
        if notice.closed:
            self.delivery.close(notice)
        self._round = notice
        self._train_if_open()

    def answer(self, answer: protocol.Answer) -> bool:
        """Take what the trainer did; False if it was for somebody else."""
        task = self._tasks.pop(answer.number, None)
        if task is None:
            return False
        if answer.set_aside:
            self._log.error("home.set_aside", path=answer.set_aside)
        outdated = isinstance(answer, protocol.Failed) and self._outdated(task)
        if isinstance(answer, protocol.Failed) and outdated:
            self._log.info("training.outdated", kind=answer.error, error=answer.message)
        else:
            self._take(task, answer)
        self.delivery.settle_waiting()
        if outdated or isinstance(task, protocol.Train):
            self._train_if_open()  # a round may have opened meanwhile
        if isinstance(task, protocol.Train | Ballot) or self.election.last:
            self._use_spare_time()
        self._assessment.tell()
        return True

    def trainer_died(self, numbers: Collection[int]) -> bool:
        """Forget the tasks with these ``numbers``; True if any must be done again."""
        lost = [self._tasks.pop(number) for number in numbers if number in self._tasks]
        ballots = [task for task in lost if isinstance(task, Ballot)]
        for task in lost:
            if isinstance(task, protocol.Sign):
                self.delivery.unsigned(task.sha256, "")
        if ballots:
            self.election.died()
        self.delivery.settle_waiting()
        return len(lost) > len(ballots)

    def tick(self) -> None:
        """Send again what has had no receipt for too long; train if nothing holds it up now."""
        self.delivery.tick()
        if self._held:  # and not because a training failed: that would fail again each second
            self._train_if_open()
        self._use_spare_time()
        self._assessment.tell()

    def _made_delivery(self, folder: Path) -> Delivery:
        clock, log = self._clock, self._log
        return Delivery(
            folder,
            self._ports.send,
            agent=self._agent,
            busy=lambda: self.training,
            clock=clock,
            log=log,
            signatures=Signatures(self._ports.identity, self._have_signed, clock, log),
        )

    def _outdated(self, task: protocol.Request) -> bool:
        """Whether ``task`` is for a version whose weights may have made room for newer ones."""
        match task:
            case protocol.Train():
                version = task.base
            case protocol.Evaluate():
                version = task.version
            case _:
                return False
        return self._deployment.followed is None or self._deployment.followed.version != version

    def _evaluate(self, version: str) -> None:
        if self._assessment.knows(version):
            return
        tasks = self._tasks.values()
        if any(isinstance(task, protocol.Evaluate) and task.version == version for task in tasks):
            return
        self._submit(
            protocol.Evaluate(
                **self._task(),
                weights=self._deployment.weights_path(),
                regimes=self._deployment.regimes(),
                version=version,
                home=self._home,
            )
        )

    def _train_if_open(self) -> None:
        notice, base = self._round, self._deployment.followed
        if notice is None or not notice.round or base is None or base.version != notice.base:
            return
        if notice.cohort is not None and self._agent not in notice.cohort:
            return
        if self.training or self._delivered(notice):
            return
        if self._failed == (notice.round, notice.base, notice.attempt):
            return  # reminders of it come every few seconds, and it would fail again
        self._held = bool(self.delivery.obstacle or self._ports.obstacle())
        if self._held:
            return
        self._attempt = notice.attempt
        schema = self._deployment.manifest().digest
        self._submit(
            protocol.Train(
                **self._task(),
                weights=self._deployment.weights_path(),
                regimes=self._deployment.regimes(),
                base=notice.base,
                schema=schema,
                round=notice.round,
                agent=self._agent,
                residual=self.delivery.residual.path(prefix(schema)),
                uplink=notice.uplink,
                home=self._home,
                undone=self.delivery.refused_in if self._home else 0,
                identity=self._ports.identity(),
            )
        )

    def _take(self, task: protocol.Request, answer: protocol.Answer) -> None:
        match answer:
            case protocol.MomentsCollected(moments=moments):
                self._ports.send("moments", MomentsReport(job=self._job.name, moments=moments))
            case protocol.Trained():
                self._trained(task, answer)
            case protocol.Evaluated():
                self._assessment.evaluated(answer)
            case protocol.TrainedAlone():
                self.election.advanced(answer.rounds)
            case protocol.Chosen():
                self._assessment.chosen(task, answer)
            case protocol.Signed():
                self.delivery.signed(answer)
            case protocol.Failed():
                self._failure(task, answer)

    def _trained(self, task: protocol.Request, answer: protocol.Trained) -> None:
        if not isinstance(task, protocol.Train):
            return
        offer = offer_of(task, answer, self._job.name)
        self.delivery.put(Parcel(offer, answer.frame, answer.residual))
        followed, served = self._deployment.followed, self._deployment.served
        newer = followed is not None and followed.version != task.base
        together = (
            followed is not None and served is not None and served.version == followed.version
        )
        if newer and together and personal_roles(self._job):
            self._deployment.refresh()  # it was installed with the parts of before

    def _have_signed(self, offer: UpdateOffer, identity: str) -> None:
        """Ask the trainer for the signature that an update lacks: it was made without a key."""
        followed, statement = self._deployment.followed, offer.origin
        if not statement and followed is not None:
            schema, now = self._deployment.manifest().digest, self._clock.now_ns()
            statement = label_of(offer, agent=self._agent, schema=schema, made_ns=now)
        asked = bool(statement) and self._submit(
            protocol.Sign(**self._task(), sha256=offer.sha256, origin=statement, identity=identity)
        )
        if not asked:
            self.delivery.unsigned(offer.sha256, "")

    def _failure(self, task: protocol.Request, answer: protocol.Failed) -> None:
        if isinstance(task, Ballot):
            self._assessment.failed(task, answer)
            return
        if isinstance(task, protocol.Sign):
            self.delivery.unsigned(task.sha256, answer.message)
            return
        if isinstance(task, protocol.Train):
            self._failed = task.round, task.base, self._attempt
        self._log.error("training.failed", kind=answer.error, error=answer.message)
        text = answer.message[:2000]
        self._ports.send("refusal", Refusal(job=self._job.name, reason=answer.error, text=text))

    def _settled(self) -> None:
        """A choice is in force: there may be time for the next, or nothing more to come."""
        self._use_spare_time()
        self._assessment.tell()

    def _use_spare_time(self) -> None:
        """Have the trainer go on with the candidates while no round and no report wants it."""
        if not self._present or self._tasks or self._ports.obstacle():
            return
        kind = self.election.pending()
        if kind is None:
            return
        request = self.election.request(kind, self._task())
        if not self._submit(request):
            self.election.failed(request)

    def _delivered(self, notice: RoundNotice) -> bool:
        """Whether the update for this round was made; a refused one is, until asked for again."""
        if self.delivery.latest != (notice.round, notice.base):
            return False
        return self.delivery.refused_in != notice.round or notice.attempt <= self._attempt

    def _task(self) -> Task:
        return {"number": self._ports.number(), "job": self._text, "store": self._store}

    def _submit(self, request: protocol.Request) -> bool:
        """Hand work to the trainer; False, and told, if there is none."""
        try:
            self._ports.submit(request)
        except FedmillError as error:
            self._log.error("trainer.unavailable", error=str(error))
            return False
        self._tasks[request.number] = request
        return True
