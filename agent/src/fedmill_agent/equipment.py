# SPDX-License-Identifier: Apache-2.0
"""What a job has beside its scoring and its rounds, as far as job and agent want it.

This is the one place that puts it together. Nothing of it is imported for a job that asks for none:
most gateways have no room for it. All of it is made before what served is taken up again, so that
nothing scores unseen.
"""

from functools import partial
from typing import TYPE_CHECKING, Protocol

from fedmill_agent.guard import guarded
from fedmill_agent.insight import Insight, Parts
from fedmill_agent.intake import Intake
from fedmill_agent.outside import Outside
from fedmill_agent.places import windows_file

if TYPE_CHECKING:
    from fedmill_agent.drift.watch import Watch
    from fedmill_agent.feedback.desk import FeedbackDesk
    from fedmill_agent.inference.int8.choice import Int8
    from fedmill_agent.monitoring.limits import Limits
    from fedmill_agent.publishing.outlet import Teller


class _Part(Protocol):
    def tick(self) -> None:
        """Do what is due about once a second."""


class Equipment:
    """Owns what observes, describes, adapts and tells what one job's model says.

    Attributes:
        int8: looks for faster sessions; None where this agent wants none.
        drift: watches for drift; None where the job does not want it.
        feedback: fits the last layer to labels between rounds; None as well.
        tellers: tell others of predictions and alarms; none before ``tell``.
    """

    def __init__(self, parts: Parts, outside: Outside, intake: Intake) -> None:
        """Observe what ``parts`` score from now on.

        Raises:
            StoreError: the disk fails.
        """
        self._parts = parts
        self._outside = outside
        self._intake = intake
        self._limits = self._made_limits()
        self.int8 = self._made_int8()
        parts.deployment.serving.faster = self.int8
        self.drift = self._made_drift()
        self.feedback = self._made_feedback()
        self._insight = Insight(parts)
        self.tellers: list[Teller] = []

    def resumed(self) -> None:
        """What was followed before a restart is again."""
        followed = self._parts.deployment.followed
        if self.int8 is not None and followed is not None:
            # a form that is impossibly large keeps no job from its work
            guarded(self._parts.log, partial(self.int8.form.want, followed.quantised))

    @property
    def alarms_raised(self) -> int:
        """Alarms that stand now."""
        return self._insight.alarms_raised

    def tell(self) -> None:
        """Begin to tell others; nothing in most agents.

        Raises:
            StoreError: the store cannot say what was told before.
        """
        parts, outside, intake = self._parts, self._outside, self._intake
        if outside.outlet is None or outside.config.inference.publish == "off":
            parts.store.end_publishing("predictions")
            parts.store.end_publishing("alarms")
        if outside.outlet is None:
            return
        from fedmill_agent.publishing.opening import tellers  # noqa: PLC0415  few agents publish

        self.tellers = tellers(
            outside.config,
            parts.job,
            parts.store,
            outside.outlet,
            lambda: intake.newest,
            clock=parts.clock,
            log=parts.log,
        )

    def tick(self) -> None:
        """Do what is due about once a second; what fails in one part holds up no other."""
        parts: list[_Part | None] = [self.int8, self.drift, self._limits, self._insight]
        for part in (*parts, self.feedback, *self.tellers):
            if part is not None:
                guarded(self._parts.log, part.tick)

    def close(self) -> None:
        """Keep what is known, and tell nothing any more."""
        if self.feedback is not None:
            self.feedback.close()
        if self.drift is not None:
            self.drift.keep()
        if self.int8 is not None:
            self.int8.close()
        self._insight.close()
        for teller in self.tellers:
            teller.close()

    def _made_limits(self) -> "Limits | None":
        """What brings scores to this agent's own limit, where nobody says what is abnormal."""
        parts = self._parts
        if parts.job.needs_labels:
            return None
        from fedmill_agent.monitoring.limits import Limits  # noqa: PLC0415  few jobs need it

        limits = Limits(
            parts.job,
            parts.store,
            parts.folder,
            lambda: parts.scorer.version,
            parts.scorer.run,
            clock=parts.clock,
            log=parts.log,
        )
        parts.scorer.relate(limits.relative)
        return limits

    def _made_int8(self) -> "Int8 | None":
        parts, outside = self._parts, self._outside
        if outside.config.inference.int8 == "off":
            return None
        from fedmill_agent.inference.int8.choice import Int8  # noqa: PLC0415  few agents want it
        from fedmill_agent.inference.int8.form import Form  # noqa: PLC0415

        return Int8(
            parts.job,
            windows_file(outside.config.agent.state, parts.job),
            Form(
                parts.folder / "int8",
                parts.job.name,
                lambda request: outside.send("request", request),
                clock=parts.clock,
                log=parts.log,
            ),
            parts.scorer,
            outside.background,
            clock=parts.clock,
            log=parts.log,
        )

    def _made_drift(self) -> "Watch | None":
        parts = self._parts
        if not parts.job.drift.watch:
            return None
        from fedmill_agent.drift.equipment import equipped  # noqa: PLC0415  few jobs need it

        return equipped(
            parts.job,
            parts.folder,
            parts.store,
            parts.scorer,
            parts.deployment,
            intake=self._intake,
            send=self._outside.send,
            clock=parts.clock,
            log=parts.log,
            submit=self._outside.background.submit,
        )

    def _made_feedback(self) -> "FeedbackDesk | None":
        parts = self._parts
        if parts.job.feedback.method == "off":
            return None
        from fedmill_agent.feedback.equipment import equip  # noqa: PLC0415  few jobs need it

        return equip(
            parts.job,
            self._outside.config.agent.state,
            parts.folder,
            parts.store,
            parts.deployment,
            background=self._outside.background,
            clock=parts.clock,
            log=parts.log,
        )
