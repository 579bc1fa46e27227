# SPDX-License-Identifier: Apache-2.0
"""Which sessions score in int8: tried in the background, taken, and given up again.

A version scores in float32 first. Once it has served for a while it is tried in int8 on the agent's
own windows, and the int8 session takes over between two windows if it is faster here and no worse.
While it serves it is calibrated and judged anew every hour, and at once where many windows are
beyond what it was calibrated for.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.background import Background
from fedmill_agent.inference.int8.form import Form
from fedmill_agent.inference.int8.trial import Outcome, Trial
from fedmill_agent.inference.scored import Scored
from fedmill_agent.inference.scorer import Scorer
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Job
from fedmill_shared.log import Logger
from fedmill_shared.onnx_session import OnnxSession

SETTLE_SECONDS = 10.0
"""How long a version must serve first: one that is replaced at once is not worth a trial."""
EARLY_SECONDS = 60.0
"""How long to wait for more windows."""
AGAIN_SECONDS = 3600.0
"""How often int8 that scores is calibrated and judged anew."""
SLOW_SECONDS = 6 * 3600.0
"""How long a machine on which int8 is no faster is believed to stay so."""
BATCHES = 64
"""Newest batches, by whose size speed is measured."""
MOST_BEYOND = 0.25
"""Share of batches that may be beyond the calibration and go to float32."""

Values = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Subject:
    """A version that scores or may soon, and what was found of it."""

    version: str
    vector: Values
    plain: OnnxSession
    due: float
    outcome: Outcome | None = None


class Int8:
    """Owns the choice between int8 and float32 for one job."""

    def __init__(
        self,
        job: Job,
        store: Path,
        form: Form,
        scorer: Scorer,
        background: Background,
        *,
        clock: Clock,
        log: Logger,
    ) -> None:
        """``store`` is the file of the job's windows, ``scorer`` what its sessions go into."""
        self._job = job
        self._store = store
        self.form = form
        self._scorer = scorer
        self._background = background
        self._clock = clock
        self._log = log
        self._subjects: dict[str, _Subject] = {}
        self._batches: deque[int] = deque(maxlen=BATCHES)
        self._busy = False
        self._closed = False
        self._rest_until = 0.0
        self._form = ""
        scorer.observe(self.watch)

    @property
    def serves(self) -> bool:
        """Whether what scores now is int8."""
        subject = self._subjects.get(self._scorer.version)
        return subject is not None and subject.outcome is not None

    @property
    def figures(self) -> dict[str, float]:
        """What was measured of the int8 session that scores now."""
        subject = self._subjects.get(self._scorer.version)
        return dict(subject.outcome.figures) if subject and subject.outcome else {}

    def taken(self, version: str) -> OnnxSession | None:
        """The int8 session of ``version``; None where float32 scores."""
        subject = self._subjects.get(version)
        return subject.outcome.session if subject is not None and subject.outcome else None

    def offer(self, version: str, vector: Values, plain: OnnxSession) -> None:
        """``vector`` (elements,), which ``version`` names, may score soon, so far in ``plain``.

        It is tried once it has scored for a while.
        """
        if version in self._subjects:
            return
        due = self._clock.monotonic() + SETTLE_SECONDS
        serving = self._subjects.get(self._scorer.version)
        kept = {serving.version: serving} if serving is not None else {}
        # In one step: the loop may look at it meanwhile.
        self._subjects = kept | {version: _Subject(version, vector, plain, due)}

    def tick(self) -> None:
        """Fetch the form, and try the version that serves once it is due; about once a second."""
        self.form.tick()
        if self.form.name != self._form:  # another graph: what was found of the old one is void
            self._form, self._rest_until = self.form.name, 0.0
            if self.form.was_deadly():
                self._rest_until = self._clock.monotonic() + SLOW_SECONDS
                self._log.info("int8.refused", reason="the agent ended while it was tried")
        subject = self._subjects.get(self._scorer.version)
        now = self._clock.monotonic()
        if subject is None or self._busy or now < self._rest_until:
            return
        if self._gone_beyond(subject):
            self._back_to_plain(subject)
            subject.due = now + EARLY_SECONDS
        if now < subject.due:
            return
        if self.form.here:
            self._try(subject)

    def watch(self, scored: Scored) -> None:
        """Remember how many windows are ``scored`` at a time."""
        self._batches.append(len(scored.windows))

    def close(self) -> None:
        """What is being tried does not matter any more, and has killed nobody."""
        self._closed = True
        self.form.end_trial()

    def _gone_beyond(self, subject: _Subject) -> bool:
        """Whether so many windows are beyond the calibration that there is little gain."""
        session = subject.outcome.session if subject.outcome is not None else None
        if session is None or session.calls < BATCHES:
            return False
        beyond, session.calls, session.beyond = session.beyond / session.calls, 0, 0
        if beyond <= MOST_BEYOND:
            return False
        self._log.warning(
            "int8.beyond", version=subject.version[:12], share=round(beyond, 3), calls=BATCHES
        )
        return True

    def _try(self, subject: _Subject) -> None:
        try:
            self.form.begin_trial()
        except StoreError as error:
            self._tried(subject, Outcome(reason=str(error)))
            return
        self._busy = True
        batch = max(1, round(median(self._batches))) if self._batches else 1

        def work() -> Outcome:
            form = self.form.read()
            trial = Trial(self._job, self._store, form, subject.vector, subject.plain, batch)
            return trial.run()

        self._background.submit(
            work,
            lambda outcome: self._tried(subject, outcome),
            lambda error: self._tried(subject, Outcome(reason=str(error))),
        )

    def _tried(self, subject: _Subject, outcome: Outcome) -> None:
        if self._closed:
            return
        self._busy = False
        self.form.end_trial()
        now = self._clock.monotonic()
        if outcome.early and subject.outcome is None:
            subject.due = now + EARLY_SECONDS
            return
        subject.due = now + AGAIN_SECONDS
        self._rest_until = now + SLOW_SECONDS if outcome.slow else self._rest_until
        figures = {name: round(value, 5) for name, value in outcome.figures.items()}
        if outcome.session is None:
            self._log.info(
                "int8.refused", version=subject.version[:12], reason=outcome.reason, **figures
            )
            if subject.outcome is not None:
                self._back_to_plain(subject)
            return
        self._log.info("int8.chosen", version=subject.version[:12], **figures)
        subject.outcome = outcome
        self._swap(subject, outcome.session)

    def _back_to_plain(self, subject: _Subject) -> None:
        subject.outcome = None
        self._swap(subject, subject.plain)

    def _swap(self, subject: _Subject, session: OnnxSession) -> None:
        """Score with ``session`` from the next window on, if its version still serves."""
        if self._scorer.version == subject.version and subject.version in self._subjects:
            self._scorer.swap(subject.version, session, number=self._scorer.number)
