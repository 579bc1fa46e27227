# SPDX-License-Identifier: Apache-2.0
"""The way of one version from its announcement to the last gate before the swap."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from fedmill_agent.flows import Flow, beside
from fedmill_agent.inference.assembly import Assembly, Checked
from fedmill_agent.inference.bringing import Bringing
from fedmill_agent.inference.fetch import lacking
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.installing.gates import Gate, Verdict
from fedmill_agent.inference.installing.ledger import Ledger, verdict_of
from fedmill_agent.inference.installing.stage import Stage
from fedmill_agent.inference.installing.states import Installation, alike
from fedmill_agent.inference.serving import Scoring, Serving
from fedmill_agent.inference.shelf import VersionShelf, needs
from fedmill_shared.errors import FedmillError
from fedmill_shared.link.blocks import Block
from fedmill_shared.messages import BlobRequest, Evidence, InstallState, VersionNotice
from fedmill_shared.models.manifest import vector_bytes
from fedmill_shared.tensors import pack_tensor

if TYPE_CHECKING:
    from fedmill_agent.inference.installing.examination import Examination

RELEASE_SPOOL = "spool-release"


class Passage:
    """Owns what is on its way to the swap: its downloads and its examination.

    Attributes:
        examined: the examination that is going on, also after the swap.
    """

    def __init__(
        self,
        shelf: VersionShelf,
        assembly: Assembly,
        serving: Serving,
        ledger: Ledger,
        stage: Stage,
        *,
        around: Around,
        request: Callable[[BlobRequest], None],
        passed: "Callable[[Examination], None]",
        rejected: Callable[[Verdict], None],
        attempt: Callable[[Callable[[], Flow[None]]], None],
    ) -> None:
        """``passed`` and ``rejected`` hear the end; ``attempt`` does a step, again if it fails."""
        releases = shelf.beside(RELEASE_SPOOL)
        self._shelf = shelf
        self._assembly = assembly
        self._serving = serving
        self._ledger = ledger
        self._stage = stage
        self._around = around
        self._passed = passed
        self._rejected = rejected
        self._attempt = attempt
        self._token = object()
        self._bringing = Bringing(
            releases,
            request,
            around.clock,
            around.log,
            disk=around.disk,
            use=self._whole,
            refuse=lambda _, error: rejected(verdict_of(error)),
        )
        self.examined: Examination | None = None

    def stop(self, newer: VersionNotice | None = None) -> None:
        """Give up what is on its way, but for what ``newer`` is made of."""
        self._token = object()
        if self.examined is not None:
            self.examined.stop()
            self.examined = None
        if newer is not None:
            self._bringing.withdraw(needs(newer) | {newer.base, newer.snapshot.sha256})

    def bring(self, new: Installation, *, retained: bool = True) -> None:
        """Fetch what ``new`` lacks, and go on from there."""
        if new.local and lacking(self._shelf, new.notice):
            self._rejected(Verdict(Gate.HASH, ok=False, reason="its weights are lost"))
            return
        self._bringing.begin(new.notice, retained=retained)

    def receive(self, block: Block) -> None:
        """Take one block.

        Raises:
            StoreError: the disk fails; the block is asked for again.
        """
        self._bringing.receive(block)

    def tick(self) -> None:
        """Ask (again) for what has not come; end what has waited for too long."""
        self._bringing.tick()
        if self.examined is not None:
            self.examined.tick()

    def examine(self, checked: Checked) -> Flow[None]:
        """Measure it against what serves; what served before need not be compared again.

        What the coordinator goes back to is not measured at all: it may differ from what serves as
        much as it likes, and nothing safer is left that a busy machine could refuse it for.
        """
        slots = self._ledger.slots
        back = slots.new is not None and slots.new.back
        known = slots.new is not None and alike(slots.old, slots.new.notice)
        against = None if known or back else self._stage.scoring
        scoring = yield from beside(partial(self._serving.scoring, checked))
        examined = self.take_up(checked, scoring, against)
        if back:
            self._passed(examined)
        else:
            examined.measure(self._measured)

    def take_up(self, checked: Checked, new: Scoring, old: Scoring | None) -> "Examination":
        """Begin to examine ``new`` beside ``old``."""
        # Most versions serve as they come.
        from fedmill_agent.inference.installing import examination  # noqa: PLC0415

        self.examined = examination.Examination(self._around, checked, new, old)
        return self.examined

    def _whole(self, notice: VersionNotice) -> None:
        """All blobs of what is on its way are on the shelf: make a session of it."""
        token = self._token = object()

        def step() -> Flow[None]:
            new = self._ledger.slots.new
            if token is not self._token or new is None or new.over:
                return
            if new.state != InstallState.DOWNLOADED:
                yield from self._ledger.step(InstallState.DOWNLOADED)
            if token is self._token:
                self._assemble(notice, token, made_here=new.local and not notice.canary_outputs)

        self._attempt(step)

    def _assemble(self, notice: VersionNotice, token: object, *, made_here: bool) -> None:
        def failed(error: FedmillError) -> None:
            if token is self._token:
                self._bringing.failed(notice, error)

        def done(checked: Checked) -> None:
            self._attempt(partial(self._verified, checked, token))

        work = partial(self._assembled, notice, made_here=made_here)
        self._around.background.submit(work, done, failed)

    def _assembled(self, notice: VersionNotice, *, made_here: bool) -> Checked:
        """A session of what is on the shelf, its weights written whole; beside the loop."""
        vector = self._assembly.weights(notice)
        if not self._shelf.has(notice.version):
            self._shelf.put(vector_bytes(vector))
        return self._assembly.checked(notice, vector, made_here=made_here)

    def _verified(self, checked: Checked, token: object) -> Flow[None]:
        slots, new = self._ledger.slots, self._ledger.slots.new
        if token is not self._token or new is None:
            return
        if not new.notice.canary_outputs:  # from now on it is checked like any other
            outputs = pack_tensor(checked.session.run(checked.inputs))
            new = structs.replace(new, notice=structs.replace(new.notice, canary_outputs=outputs))
        verified = new.to(InstallState.VERIFIED, self._around.clock.now_ns())
        yield from self._ledger.write(structs.replace(slots, new=verified))
        yield from self.examine(checked)

    def _measured(self, verdict: Verdict | None, evidence: Evidence) -> None:
        examined = self.examined
        if examined is None:
            return
        self._ledger.show(evidence)
        if verdict is not None:
            self._rejected(verdict)
        elif self._around.job.serving.shadow_windows and examined.old is not None:
            self._attempt(partial(self._shadow, examined))
        else:
            self._passed(examined)

    def _shadow(self, examined: "Examination") -> Flow[None]:
        if examined is not self.examined:
            return
        yield from self._ledger.step(InstallState.SHADOWING)

        def told(verdict: Verdict) -> None:
            self._ledger.show(verdict.evidence)
            if verdict.ok:
                self._passed(examined)
            else:
                self._rejected(verdict)

        examined.shadow(told)
