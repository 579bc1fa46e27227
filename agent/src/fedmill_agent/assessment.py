# SPDX-License-Identifier: Apache-2.0
"""How versions do on this agent: what the coordinator is told, and which candidate serves."""

from collections.abc import Callable
from functools import partial

from fedmill_agent.election import Ballot, Election
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.served import GLOBAL
from fedmill_agent.ports import Ports
from fedmill_agent.training import protocol
from fedmill_shared.log import Logger
from fedmill_shared.messages import EvaluationReport


class Assessment:
    """Owns the newest report of one job, and passes the trainer's choices on to what scores.

    The last version is reported on together with the choice, unless that is held up: behind the
    last report a coordinator may end.
    """

    def __init__(
        self,
        job: str,
        election: Election,
        deployment: Deployment,
        ports: Ports,
        log: Logger,
        *,
        settled: Callable[[], None],
    ) -> None:
        """Nothing is known of any version of ``job`` before the trainer has scored one.

        ``settled`` is called when what was chosen is in force, or cannot be.
        """
        self._settled = settled
        self._job = job
        self._election = election
        self._deployment = deployment
        self._ports = ports
        self._log = log
        self._report: EvaluationReport | None = None
        self._told = False

    def knows(self, version: str) -> bool:
        """Whether there is a report on ``version``; it is told again."""
        if self._report is None or self._report.version != version:
            return False
        # The coordinator asks again: it restarted, and what it was told may be lost.
        self._told = False
        self.tell()
        return True

    def evaluated(self, answer: protocol.Evaluated) -> None:
        """A version was scored on the held-out windows."""
        self._keep(
            EvaluationReport(
                job=self._job,
                version=answer.version,
                statistic=answer.statistic,
                last=answer.last,
            )
        )

    def chosen(self, task: protocol.Request, answer: protocol.Chosen) -> None:
        """The candidates of a version were made, and one of them won: it is to score."""
        self._election.settling = True
        self._deployment.serving.changed()
        self._deployment.refresh(partial(self._taken, task, answer))

    def _taken(self, task: protocol.Request, answer: protocol.Chosen) -> None:
        """What was chosen scores, if it can be used."""
        self._election.settling = False
        self._log.info(
            "model.chosen",
            candidate=answer.served,
            version=answer.version[:12],
            scores={name: round(value, 5) for name, value in answer.validation.items()},
        )
        self._report_on(task, answer)
        self._settled()

    def _report_on(self, task: protocol.Request, answer: protocol.Chosen) -> None:
        choice = self._deployment.serving.choice
        if isinstance(task, protocol.Choose) and (choice is None or choice.number != task.ordinal):
            self._election.failed(task)  # it cannot be used here, and would be made just so again
            return
        self._keep(
            EvaluationReport(
                job=self._job,
                version=answer.version,
                statistic=answer.candidates[GLOBAL],
                last=answer.last,
                served=answer.served,
                candidates=answer.candidates,
                validation=answer.validation,
            )
        )

    def failed(self, task: Ballot, answer: protocol.Failed) -> None:
        """The candidates could not be made: what scores goes on, and so do the rounds."""
        self._election.failed(task)
        self._log.warning("candidates.failed", kind=answer.error, error=answer.message)

    def tell(self) -> None:
        """Send what has not been told, if nothing more is to come of it."""
        if self._report is None or self._told:
            return
        pending = self._election.pending() and not self._ports.obstacle()
        if self._election.last and (pending or self._election.settling):
            return
        self._told = True
        self._ports.send("evaluation", self._report)

    def _keep(self, report: EvaluationReport) -> None:
        self._report, self._told = report, False
