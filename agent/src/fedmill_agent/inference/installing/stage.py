# SPDX-License-Identifier: Apache-2.0
"""What scores, what scored before, and the step from one to the other."""

from functools import partial

from msgspec import structs

from fedmill_agent.flows import Flow, beside
from fedmill_agent.inference.assembly import Assembly, Checked
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.installing.gates import Verdict
from fedmill_agent.inference.installing.ledger import Ledger
from fedmill_agent.inference.installing.states import RELEASE
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Scoring, Serving
from fedmill_shared.errors import FedmillError
from fedmill_shared.messages import InstallState, VersionNotice


class Stage:
    """Owns the session that scores, and during a soak the one that it has replaced.

    Attributes:
        scoring: what scores; None before the first.
        before: what is gone back to while the other is on trial.
    """

    def __init__(
        self,
        assembly: Assembly,
        scorer: Scorer,
        serving: Serving,
        ledger: Ledger,
        around: Around,
    ) -> None:
        """Nothing scores yet."""
        self._assembly = assembly
        self._scorer = scorer
        self._serving = serving
        self._ledger = ledger
        self._around = around
        self.scoring: Scoring | None = None
        self.before: Scoring | None = None

    def take_up(self, notice: VersionNotice) -> Checked | None:
        """Score with a version that is on disk; None, and told, if it is not what it was."""
        checked = self.load(notice)
        if checked is not None:
            self.score_with(self._serving.scoring(checked), notice)
            version, number = notice.version[:12], notice.number
            self._around.log.info("version.resumed", version=version, number=number)
        return checked

    def load(self, notice: VersionNotice) -> Checked | None:
        """A version that is on disk; None, and told, if it is not what it was."""
        try:
            return self._assembly.checked(notice, self._assembly.weights(notice))
        except FedmillError as error:
            told = str(error)
            self._around.log.error("served.refused", version=notice.version[:12], error=told)  # noqa: TRY400  no fault of ours
            return None

    def score_with(self, scoring: Scoring, notice: VersionNotice) -> None:
        """From the next window on."""
        self.scoring = scoring
        self._scorer.swap(scoring.version, scoring.session, number=notice.number)

    def serve(self, checked: Checked, notice: VersionNotice) -> Flow[None]:
        """Score with what stands for ``notice``, from the next window on."""
        scoring = yield from beside(partial(self._serving.scoring, checked))
        self.score_with(scoring, notice)

    def renew(self, notice: VersionNotice) -> Flow[None]:
        """Make what stands for ``notice``, which serves, anew; what cannot be made is told."""
        try:
            checked = yield from beside(partial(self.load, notice))
            if checked is not None:
                yield from self.serve(checked, notice)
        except FedmillError as error:
            version, told = notice.version[:12], str(error)
            self._around.log.error("served.refused", version=version, error=told)  # noqa: TRY400  no fault of ours

    def make_do(self) -> Flow[None]:
        """What served cannot be read any more: what was before serves, and it is fetched again."""
        slots = self._ledger.slots
        lost, new = slots.current, slots.new
        if lost is None:
            return
        standing_in = slots.old if slots.old is not None and self.take_up(slots.old) else None
        after = structs.replace(slots, current=standing_in, old=None, proven=True)
        if not slots.busy or (new is not None and new.state == InstallState.SOAKING):
            again = self._ledger.installation(slots.release, lost, RELEASE, InstallState.OFFERED)
            if new is not None and new.notice == lost:
                again = new.to(InstallState.OFFERED, again.since_ns)
            after = structs.replace(after, along=False, new=again)
        yield from self._ledger.write_anyway(after)

    def swap(self, new: Scoring, *, soak: bool, known: bool) -> Flow[None]:
        """What is on its way takes the place of what serves; what is ``known`` has been there.

        Raises:
            StoreError: the disk fails; nothing has changed.
        """
        slots = self._ledger.slots
        if slots.new is None:
            return
        state = InstallState.SOAKING if soak else InstallState.COMMITTED
        entry = slots.new.to(state, self._around.clock.now_ns())
        yield from self._ledger.write(slots.swapped(entry, known=known))
        if slots.proven:
            self.before = self.scoring
        if not soak:
            self.before = None
        self.score_with(new, slots.new.notice)

    def commit(self) -> Flow[None]:
        """The trial went well.

        Raises:
            StoreError: the disk fails; it is still on trial.
        """
        slots, new = self._ledger.slots, self._ledger.slots.new
        if new is not None:
            new = new.to(InstallState.COMMITTED, self._around.clock.now_ns())
        yield from self._ledger.write(structs.replace(slots, new=new, proven=True))
        self.before = None

    def fall_back(self, verdict: Verdict) -> Flow[bool]:
        """Score with what was before, whatever the disk says; False where there is nothing."""
        slots = self._ledger.slots
        if slots.old is None:
            return False
        before = self.before
        if before is None:
            checked = yield from beside(partial(self.load, slots.old))
            if checked is not None:
                before = yield from beside(partial(self._serving.scoring, checked))
        if before is None:
            return False
        after = slots
        if slots.new is not None and slots.current == slots.new.notice:
            after = self._ledger.ended(InstallState.ROLLED_BACK, verdict)
        after = structs.replace(after, along=False, current=slots.old, old=None, proven=True)
        yield from self._ledger.write_anyway(after)
        self.before = None
        self.score_with(before, slots.old)
        return True
