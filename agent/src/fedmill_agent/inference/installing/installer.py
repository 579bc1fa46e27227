# SPDX-License-Identifier: Apache-2.0
"""The only one that changes what scores: it leads a version through the gates, and back again.

Each step is on disk before it is taken. What serves goes on serving until the assignment that puts
another session in its place, between two windows.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from fedmill_agent.flows import Flow, Flows, beside
from fedmill_agent.inference.assembly import Assembly, Checked
from fedmill_agent.inference.bringing import RETRY_SECONDS
from fedmill_agent.inference.installing.around import Around, Proposal, nothing
from fedmill_agent.inference.installing.gates import Gate, Verdict, at
from fedmill_agent.inference.installing.ledger import LONGEST_REASON, Key, Ledger, verdict_of
from fedmill_agent.inference.installing.passage import Passage
from fedmill_agent.inference.installing.stage import Stage
from fedmill_agent.inference.installing.states import VERSION, alike
from fedmill_agent.inference.parts import check_sizes
from fedmill_agent.inference.scored import Scored
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.errors import FedmillError, ModelError, StoreError
from fedmill_shared.link.blocks import Block
from fedmill_shared.messages import (
    BlobRequest,
    Evidence,
    InstallReport,
    InstallState,
    ReleaseNotice,
    VersionNotice,
)
from fedmill_shared.models.manifest import vector_bytes

if TYPE_CHECKING:
    from fedmill_agent.inference.installing.examination import Examination


class Installer:
    """Decides what is taken on, and in which order; ``Passage`` examines it, ``Stage`` swaps it."""

    def __init__(
        self,
        shelf: VersionShelf,
        assembly: Assembly,
        scorer: Scorer,
        serving: Serving,
        around: Around,
        *,
        flows: Flows,
        request: Callable[[BlobRequest], None],
    ) -> None:
        """Nothing serves before ``resume``; ``request`` asks for blocks."""
        self._flows = flows
        self._shelf = shelf
        self._assembly = assembly
        self._serving = serving
        self._around = around
        self._settings = around.job.serving
        self._ledger = Ledger(shelf, around)
        self._stage = Stage(assembly, scorer, serving, self._ledger, around)
        self._passage = Passage(
            shelf,
            assembly,
            serving,
            self._ledger,
            self._stage,
            around=around,
            request=request,
            passed=self._passed,
            rejected=self._reject,
            attempt=self._attempt,
        )
        self._waiting: VersionNotice | None = None
        self._again: tuple[float, Callable[[], Flow[None]]] | None = None
        if self._settings.shadow_windows or self._settings.soak_windows:
            scorer.observe(self._observe)

    @property
    def served(self) -> VersionNotice | None:
        """The version that scores; parts of the agent's own may be in it."""
        return self._ledger.slots.current if self._stage.scoring is not None else None

    @property
    def soaking(self) -> bool:
        """Whether what scores is on trial."""
        new = self._ledger.slots.new
        return new is not None and new.state == InstallState.SOAKING

    def report(self) -> InstallReport | None:
        """How far the newest version from the coordinator is; None before the first."""
        return self._ledger.report(self.served.version if self.served is not None else "")

    def resume(self, followed: VersionNotice | None) -> Flow[None]:
        """Go on from what is on disk; ``followed`` is the version that is trained from."""
        self._ledger.read(followed)
        deadly = yield from self._ledger.taken_up()
        if deadly is not None and self.soaking:
            yield from self._falling_back(deadly, self._ledger.last)
        elif deadly is not None:
            yield from self._rejecting(deadly, self._ledger.last)
        slots = self._ledger.slots
        checked = self._stage.take_up(slots.current) if slots.current is not None else None
        if checked is None and slots.current is not None:
            yield from self._stage.make_do()
        new = self._ledger.slots.new
        if new is not None and self.soaking and checked is not None:
            self._soak_again(checked)
        elif new is not None and not new.over:
            self._passage.bring(new)
        serve = followed is not None and followed.serve and not slots.along
        if followed is not None and serve and slots.offered != followed.version:
            yield from self._offer(followed)

    def follow(
        self, notice: VersionNotice, checked: Checked, keep: Callable[[], None]
    ) -> Flow[bool]:
        """Serve a version that is followed from now on, at once (True) or behind its gates.

        ``keep`` puts down that it is followed; for any thread.

        Raises:
            StoreError: the disk fails; nothing has changed, or it is offered after a restart.
        """
        if not self._at_once() or self._ledger.is_broken(notice):
            yield from self._offer(notice, checked, keep)
            return False
        yield from beside(keep)
        slots = self._ledger.slots
        new = self._ledger.installation(0, notice, VERSION, InstallState.COMMITTED)
        after = slots.following(new)
        if slots.along:
            self._ledger.keep(after)
        else:
            yield from self._ledger.write(after)
        yield from self._stage.serve(checked, notice)
        return True

    def part(self) -> Flow[None]:
        """Put down what serves: what is followed from now on does not.

        Raises:
            StoreError: the disk fails; nothing has changed.
        """
        slots = self._ledger.slots
        if slots.along and slots.current is not None:
            yield from self._ledger.write(structs.replace(slots, along=False))

    def refuse(self, notice: VersionNotice, error: FedmillError) -> None:
        """A version that came to be followed cannot be used: it is never tried again."""
        self._flows.start(self._ledger.refuse(notice, verdict_of(error)))

    def is_unusable(self, notice: VersionNotice) -> bool:
        """Whether ``notice`` was refused before it could be followed."""
        return self._ledger.is_unusable(notice)

    def release(self, release: ReleaseNotice, *, retained: bool) -> None:
        """Take on a release, unless a higher one was taken on or this one was refused."""
        if self._flows.crowded:
            reason = "the disk is slow, and much waits for it"
            self._around.log.warning("release.ignored", release=release.release, reason=reason)
            return
        self._attempt(partial(self._take_on, release, retained=retained))

    def propose(self, proposal: Proposal) -> bool:
        """Take on a model that this agent has made; False where that is not possible now."""
        current = self.served
        if current is None or self._flows.busy or not self._ledger.may(proposal, current):
            return False
        self._attempt(partial(self._proposed, proposal, current))
        return True

    def roll_back(
        self, reason: str, evidence: Evidence | None = None, *, gate: Gate = Gate.DRIFT
    ) -> bool:
        """Go back to what served before; False where there is nothing, or something on its way."""
        slots = self._ledger.slots
        if slots.old is None or self._flows.busy or (slots.busy and not self.soaking):
            return False
        self._fall_back(Verdict(gate, ok=False, reason=reason, evidence=evidence or {}))
        return True

    def faulted(self, error: FedmillError) -> None:
        """What scores could not score a batch: while it is on trial, that is enough."""
        if isinstance(error, ModelError) and self.soaking:
            self._fall_back(Verdict(Gate.SOAK, ok=False, reason=error.message))

    def refresh(self, then: Callable[[], None]) -> None:
        """Score with what the trainer has left since the version was installed, if it is sound."""
        self._flows.start(self._refreshing(then))

    def _refreshing(self, then: Callable[[], None]) -> Flow[None]:
        if self.served is not None:
            yield from self._stage.renew(self.served)
        then()

    def receive(self, block: Block) -> None:
        """Take one block of a release.

        Raises:
            StoreError: the disk fails; the block is asked for again.
        """
        self._passage.receive(block)

    def tick(self) -> None:
        """Do what is due about once a second."""
        self._passage.tick()
        if self._ledger.has_survived():
            self._flows.start(self._ledger.survived())
        if self._again is not None and self._around.clock.monotonic() >= self._again[0]:
            call, self._again = self._again[1], None
            self._attempt(call)

    def close(self) -> None:
        """What is measured does not matter any more."""
        self._passage.stop()
        if not self._flows.busy:
            self._flows.at_once(self._ledger.survived())

    def _at_once(self) -> bool:
        """Whether nothing is to be measured of a followed version before it serves."""
        wanted, held_out = self._settings, self._around.held_out
        if self._ledger.slots.busy or wanted.budget_ms or wanted.budget_mib:
            return False
        if self._stage.scoring is None:
            return True
        if wanted.shadow_windows or wanted.soak_windows:
            return False
        try:
            return held_out is None or not held_out.enough()
        except StoreError:
            return True

    def _offer(
        self,
        notice: VersionNotice,
        checked: Checked | None = None,
        keep: Callable[[], None] = nothing,
    ) -> Flow[None]:
        """A followed version is to serve, behind its gates; it waits while another is at them."""
        slots = self._ledger.slots
        if slots.along:  # or a power cut after the next line would have it serve at once
            yield from self._ledger.write(structs.replace(slots, along=False))
        yield from beside(keep)
        slots = self._ledger.slots
        if slots.busy:
            self._waiting = notice
            return
        if self._ledger.is_broken(notice):
            yield from self._ledger.write(structs.replace(slots, offered=notice.version))
            return
        state = InstallState.OFFERED if checked is None else InstallState.VERIFIED
        new = self._ledger.installation(0, notice, VERSION, state)
        after = structs.replace(slots, new=new, told=None, offered=notice.version)
        yield from self._ledger.write(after)
        if checked is None:
            self._passage.bring(new)
        else:
            yield from self._passage.examine(checked)

    def _take_on(self, release: ReleaseNotice, *, retained: bool) -> Flow[None]:
        """Take on a release, unless a higher one came before."""
        slots, notice, number = self._ledger.slots, release.notice, release.release
        if self._ledger.passes_over(release):
            return
        if number > slots.release:
            yield from self._begin(release, retained=retained)
            return
        known = slots.reported
        if known is None or known.release != number or known.notice.version != notice.version:
            self._around.log.warning("release.ignored", release=number)

    def _begin(self, release: ReleaseNotice, *, retained: bool) -> Flow[None]:
        """Begin with a release; whatever is on its way is given up for it."""
        slots, notice = self._ledger.slots, release.notice
        try:
            check_sizes(notice)
            with at(Gate.SIGNATURE):
                self._around.verifier.verify(release)
        except FedmillError as error:
            yield from self._ledger.turn_away(release, verdict_of(error))
            return
        # What waits for its turn was offered before this release, and does not come back.
        offered = self._waiting.version if self._waiting is not None else slots.offered
        new = self._ledger.begun(release)
        yield from self._ledger.write(slots.offering(new, offered=offered))
        self._passage.stop(notice)
        self._waiting = self._again = None
        if slots.proven and alike(self.served, notice):
            yield from self._ledger.step(InstallState.COMMITTED)  # the very bytes that serve
        else:
            self._passage.bring(new, retained=retained)

    def _proposed(self, proposal: Proposal, current: VersionNotice) -> Flow[None]:
        if self.served is not current or not self._ledger.may(proposal, current):
            return
        yield from beside(partial(self._shelf.put, vector_bytes(proposal.vector)))
        notice = proposal.notice(current)
        new = self._ledger.installation(0, notice, proposal.origin, InstallState.DOWNLOADED)
        new = structs.replace(new, reason=proposal.reason[:LONGEST_REASON])
        yield from self._ledger.write(self._ledger.slots.proposing(new))
        self._passage.bring(new)

    def _observe(self, scored: Scored) -> None:
        if self._passage.examined is not None:
            self._passage.examined.observe(scored)

    def _passed(self, examined: "Examination") -> None:
        """The last gate before the swap is behind it."""
        soak = bool(self._settings.soak_windows) and examined.old is not None
        known = examined.old is None and self._stage.scoring is not None

        def step() -> Flow[None]:
            if self._passage.examined is not examined:
                return
            yield from self._stage.swap(examined.new, soak=soak, known=known)
            self._ledger.tell_installed()
            if soak:
                examined.old = self._stage.before
                examined.soak(self._soaked)
            else:
                self._passage.examined = None
                self._next()

        self._attempt(step)

    def _soaked(self, verdict: Verdict) -> None:
        self._ledger.show(verdict.evidence)
        if verdict.ok:
            self._attempt(self._commit)
        else:
            self._fall_back(verdict)

    def _commit(self) -> Flow[None]:
        if self.soaking:
            yield from self._stage.commit()
            self._passage.examined = None
            self._next()

    def _soak_again(self, checked: Checked) -> None:
        """A restart came in the midst of a soak: it begins anew."""
        old, scoring = self._ledger.slots.old, self._stage.scoring
        before = self._stage.load(old) if old is not None else None
        if before is None or scoring is None:
            self._attempt(self._commit)  # nothing is left to go back to
            return
        self._stage.before = self._serving.scoring(before)
        self._passage.take_up(checked, scoring, self._stage.before).soak(self._soaked)

    def _fall_back(self, verdict: Verdict) -> None:
        self._flows.start(self._falling_back(verdict, self._ledger.last))

    def _falling_back(self, verdict: Verdict, last: Key) -> Flow[None]:
        if last != self._ledger.last or self._ledger.slots.old is None:
            return  # something else came first
        done = yield from self._stage.fall_back(verdict)
        if not done:
            self._around.log.error("install.stuck", reason=verdict.reason)
            return
        self._passage.stop()
        self._next()

    def _reject(self, verdict: Verdict) -> None:
        """It goes no further; what serves serves on."""
        self._flows.start(self._rejecting(verdict, self._ledger.last))

    def _rejecting(self, verdict: Verdict, last: Key) -> Flow[None]:
        new = self._ledger.slots.new
        if last != self._ledger.last or not self._ledger.slots.busy:
            return  # something else came first
        self._passage.stop()
        yield from self._ledger.write_anyway(self._ledger.ended(InstallState.REJECTED, verdict))
        if new is not None:
            self._shelf.drop(new.notice)
        self._next()

    def _next(self) -> None:
        """The newest followed version that has waited has its turn."""
        notice, self._waiting = self._waiting, None
        if notice is not None:
            self._attempt(partial(self._offer, notice))

    def _attempt(self, step: Callable[[], Flow[None]]) -> None:
        """Take a step that is put down first; where the disk fails it is tried again later."""
        self._flows.start(self._attempted(step))

    def _attempted(self, step: Callable[[], Flow[None]]) -> Flow[None]:
        try:
            yield from step()
        except FedmillError as error:
            self._around.log.error("install.delayed", error=str(error))  # noqa: TRY400  the disk's fault
            self._again = self._around.clock.monotonic() + RETRY_SECONDS, step
