# SPDX-License-Identifier: Apache-2.0
"""When labels are looked at, and what becomes of a head that was fitted to them."""

from collections.abc import Callable
from typing import Protocol

from fedmill_agent.background import Background
from fedmill_agent.feedback.head import Head, Model, Outcome, Vector
from fedmill_agent.inference.assembly import Checked
from fedmill_agent.inference.installing.around import Proposal
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.log import Logger
from fedmill_shared.messages import VersionNotice

LOOK_SECONDS = 30.0
"""Between two looks at the labels of a store that changes all the time."""
SETTLE_SECONDS = 10.0
"""How long a version must have served before anything is fitted to it: rounds may follow each other
quickly."""
RETRY_SECONDS = 60.0
ORIGIN = "feedback"


class Serves(Protocol):
    """What decides which version serves, as far as this is concerned."""

    @property
    def served(self) -> VersionNotice | None:
        """The version that scores."""

    def propose(self, proposal: Proposal) -> bool:
        """Take on a model that this agent has made; False where that is not possible now."""


class FeedbackDesk:
    """Owns the head of one job; all but the fit itself is done on the daemon's loop."""

    def __init__(
        self,
        head: Head,
        installer: Serves,
        generation: Callable[[], int],
        background: Background,
        *,
        clock: Clock,
        log: Logger,
    ) -> None:
        """``generation`` changes whenever training windows or their labels do."""
        self._head = head
        self._installer = installer
        self._generation = generation
        self._background = background
        self._clock = clock
        self._log = log
        self._busy = False
        self._looked_at: tuple[str, int] | None = None
        self._due = 0.0
        self._version = ""
        self._since = 0.0
        self._ready: tuple[str, Proposal] | None = None
        self._told = ""
        self._closed = False

    def tick(self) -> None:
        """Do what is due about once a second."""
        notice, now = self._installer.served, self._clock.monotonic()
        if notice is None or self._busy:
            return
        if notice.version != self._version:
            self._version, self._since = notice.version, now
        if now - self._since < SETTLE_SECONDS or now < self._due:
            return
        self._due = now + LOOK_SECONDS
        try:
            self._propose()
            self._look(notice)
        except StoreError as error:
            self._failed(error)

    def refitted(self, checked: Checked) -> Vector | None:
        """A newer version fitted (size,) as what serves was; see ``Head``. Not on the loop.

        Raises:
            FedmillError: something of it cannot be read or run.
        """
        served = self._installer.served
        if served is None:
            return None
        model = Model(checked.manifest, checked.template, checked.vector)
        return self._head.refitted(model, served)

    def close(self) -> None:
        """What is being fitted does not matter any more."""
        self._closed = True

    def _look(self, notice: VersionNotice) -> None:
        there = notice.version, self._generation()
        if there == self._looked_at:
            return
        self._busy = True

        def done(outcome: Outcome) -> None:
            self._busy, self._looked_at, self._told = False, there, ""
            if self._closed:
                return
            try:
                self._take(notice.version, outcome)
            except StoreError as error:
                self._failed(error)

        self._background.submit(lambda: self._head.look(notice), done, self._failed)

    def _take(self, version: str, outcome: Outcome) -> None:
        worth = outcome.worth
        if worth is not None:
            self._log.info(
                "feedback.fitted",
                version=version[:12],
                labels=outcome.labels,
                changed=outcome.changed,
                loss_before=round(worth.before, 5),
                loss_after=round(worth.after, 5),
                gained=worth.gained,
                lost=worth.lost,
                used=worth.better,
            )
        if worth is not None or outcome.vector is not None:
            self._ready = None  # what was fitted before is outdated
        if outcome.vector is not None:
            self._ready = version, Proposal(ORIGIN, outcome.vector, _reason(outcome))
            self._propose()

    def _propose(self) -> None:
        """Hand over what was fitted; as long as something else is on its way it waits."""
        if self._ready is None:
            return
        version, proposal = self._ready
        served = self._installer.served
        if served is None or served.version != version:
            self._ready = None
        elif self._installer.propose(proposal):
            self._ready = None
            self._log.info("feedback.proposed", version=version[:12], reason=proposal.reason)

    def _failed(self, error: FedmillError) -> None:
        self._busy = False
        self._due = self._clock.monotonic() + RETRY_SECONDS
        if str(error) != self._told:
            self._told = str(error)
            self._log.error("feedback.failed", kind=type(error).__name__, error=str(error))


def _reason(outcome: Outcome) -> str:
    worth = outcome.worth
    if worth is None:
        return f"{outcome.labels} labelled windows are too few: back to the federation's head"
    told = (
        f"of {worth.windows} labelled windows that it had not seen {worth.gained} are told better "
        f"and {worth.lost} worse"
    )
    if worth.better:
        return f"the last layer was fitted to {outcome.labels} labelled windows: {told}"
    return f"back to the federation's head: a fit is worth nothing, {told}"
