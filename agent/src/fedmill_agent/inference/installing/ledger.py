# SPDX-License-Identifier: Apache-2.0
"""The book of one job's installations: in memory, on disk, on the shelf and in the log."""

from functools import partial

from msgspec import structs

from fedmill_agent.flows import Flow, beside
from fedmill_agent.inference.installing.around import Around, Proposal
from fedmill_agent.inference.installing.gates import Gate, Refused, Verdict
from fedmill_agent.inference.installing.states import (
    MOST_BROKEN,
    RELEASE,
    VERSION,
    Installation,
    Slots,
    SlotsFile,
    fingerprint,
)
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.audit import DAEMON
from fedmill_shared.errors import DataError, FedmillError, ModelError, StoreError
from fedmill_shared.messages import (
    Evidence,
    InstallReport,
    InstallState,
    ReleaseNotice,
    VersionNotice,
)
from fedmill_shared.models.manifest import version_of
from fedmill_shared.protocol import MOST_AHEAD

LONGEST_REASON = 2000
MOST_ENDED = 3
"""How often the agent may be killed in a row while a version is tried, before that is refused: so
seldom that no safe mode (``fedmill_agent.starts``) comes before it, in which nothing is scored."""
SURVIVED_SECONDS = 600.0
"""An agent that has lived for so long was not killed by what is on its way."""


Key = tuple[int, str] | None
"""What an installation is called; None: there is none."""


class Ledger:
    """Owns the slots of one job; whoever changes them says so here first.

    Attributes:
        slots: as they are.
    """

    def __init__(self, shelf: VersionShelf, around: Around) -> None:
        """Nothing is read yet."""
        self._shelf = shelf
        self._around = around
        self._file = SlotsFile(shelf.folder)
        self.slots = Slots()
        self._began = 0.0

    def read(self, followed: VersionNotice | None) -> None:
        """Take up what is on disk; ``followed`` is what serves where nothing else is written."""
        try:
            slots = self._file.read() or Slots()
        except (DataError, StoreError) as error:
            self._around.log.error("install.forgotten", error=str(error))  # noqa: TRY400  no fault of ours
            slots = Slots()
        if slots.along:
            current = followed if followed is not None and followed.serve else None
            new = slots.new
            if new is None and current is not None:
                new = self.installation(0, current, VERSION, InstallState.COMMITTED)
            offered = current.version if current is not None else ""
            slots = structs.replace(slots, current=current, new=new, offered=offered)
        self._hold(slots)

    def installation(
        self, release: int, notice: VersionNotice, origin: str, state: InstallState
    ) -> Installation:
        """A new entry, not written yet."""
        return Installation(
            release=release,
            notice=notice,
            origin=origin,
            state=state,
            since_ns=self._around.clock.now_ns(),
        )

    def begun(self, release: ReleaseNotice) -> Installation:
        """A new entry for a release, not written yet."""
        new = self.installation(release.release, release.notice, RELEASE, InstallState.OFFERED)
        return structs.replace(new, back=release.back)

    def keep(self, slots: Slots) -> None:
        """``slots`` are in force; what they name stays on the shelf, and what scores is audited."""
        before, after = self.slots.current, slots.current
        self._hold(slots)
        if after is not None and (before is None or before.version != after.version):
            new = slots.new
            what = "model.restored" if new is not None and new.gate else "model.served"
            self._around.audit.record(
                who=DAEMON,
                what=what,
                subject=self._around.job.name,
                before=before.version if before is not None else "",
                after=after.version,
            )

    def _hold(self, slots: Slots) -> None:
        self.slots = slots
        on_its_way = slots.new.notice if slots.new is not None and slots.busy else None
        held = {"current": slots.current, "old": slots.old, "new": on_its_way}
        for name, notice in held.items():
            self._shelf.hold(name, notice)

    def write(self, slots: Slots) -> Flow[None]:
        """``slots`` are in force once they are so after a restart too; what is new is told then.

        Raises:
            StoreError: the disk fails; nothing has changed.
        """
        yield from beside(partial(self._file.write, slots))
        before, after = self.slots.new, slots.new
        self.keep(slots)
        if after is not None and after is not before:
            self._tell(after)

    def write_anyway(self, slots: Slots) -> Flow[None]:
        """As ``write``; where the disk fails they are in force until a restart."""
        try:
            yield from self.write(slots)
        except FedmillError as error:
            self._around.log.error("install.unwritten", error=str(error))  # noqa: TRY400  no fault of ours
            before = self.slots.new
            self.keep(slots)
            if slots.new is not None and slots.new is not before:
                self._tell(slots.new)

    def step(self, state: InstallState) -> Flow[None]:
        """What is on its way goes on to ``state``.

        Raises:
            StoreError: the disk fails; nothing has changed.
        """
        new = self.slots.new
        if new is not None:
            new = new.to(state, self._around.clock.now_ns())
            yield from self.write(structs.replace(self.slots, new=new))

    def show(self, evidence: Evidence) -> None:
        """More was measured of what is on its way; it is written with the next step."""
        if self.slots.new is not None:
            self.keep(structs.replace(self.slots, new=self.slots.new.showing(evidence)))

    def ended(self, state: InstallState, verdict: Verdict) -> Slots:
        """The slots once what came last has this last word, and is never tried again."""
        new = self.slots.new
        if new is None:
            return self.slots
        gate, reason = str(verdict.gate), verdict.reason[:LONGEST_REASON]
        now_ns = self._around.clock.now_ns()
        last = new.showing(verdict.evidence).to(state, now_ns, gate=gate, reason=reason)
        return structs.replace(self.slots.broke(last), new=last)

    def passes_over(self, release: ReleaseNotice) -> bool:
        """Whether ``release`` is older than what was taken on, was refused, or cannot be true."""
        number, known = release.release, self.slots.release
        if known and number > known + MOST_AHEAD:
            reason = f"its number is far beyond {known}, the highest known here"
            self._around.log.warning("release.ignored", release=number, reason=reason)
            return True
        return number < known or self.is_broken(release.notice, number)

    def turn_away(self, release: ReleaseNotice, verdict: Verdict) -> Flow[None]:
        """Nobody vouches for ``release``: it counts for nothing, and its number least of all.

        What is on its way goes on. One is written: who sends a thousand wears out no flash.
        """
        number, known, last = release.release, self.slots.release, self.slots.new
        reason = verdict.reason[:LONGEST_REASON]
        if self.slots.busy:
            self._around.log.warning("release.ignored", release=number, reason=reason)
            return
        new = self.installation(number, release.notice, RELEASE, InstallState.REJECTED)
        new = structs.replace(new, gate=str(verdict.gate), reason=reason)
        slots = structs.replace(self.slots, new=new, told=None)
        if last is None or last.state != InstallState.REJECTED or last.release <= known:
            yield from self.write_anyway(slots)
        elif last.key != new.key:
            self.keep(slots)
            self._tell(new)

    def is_broken(self, notice: VersionNotice, release: int = 0) -> bool:
        """Whether ``notice`` was refused, or gone back from, under this release."""
        return bool(self.slots.broken) and (release, fingerprint(notice)) in self.slots.broken

    def refuse(self, notice: VersionNotice, verdict: Verdict) -> Flow[None]:
        """``notice`` cannot be used at all, for serving or for training."""
        slots = self.slots
        refused = (*slots.unusable, fingerprint(notice))[-MOST_BROKEN:]
        if notice.serve and not slots.busy:
            new = self.installation(0, notice, VERSION, InstallState.OFFERED)
            self.keep(structs.replace(slots, new=new, told=None))
            slots = self.ended(InstallState.REJECTED, verdict)
        yield from self.write_anyway(structs.replace(slots, unusable=refused))

    def is_unusable(self, notice: VersionNotice) -> bool:
        """Whether ``notice`` was refused for whatever it is to be used."""
        return bool(self.slots.unusable) and fingerprint(notice) in self.slots.unusable

    @property
    def last(self) -> Key:
        """What came last, on its way or with its last word."""
        return self.slots.new.key if self.slots.new is not None else None

    def may(self, proposal: Proposal, served: VersionNotice) -> bool:
        """Whether a model of this agent's own may be tried in the place of what serves."""
        version = version_of(proposal.vector)
        broken = (0, version) in self.slots.broken
        return not self.slots.busy and served.version != version and not broken

    def report(self, serving: str) -> InstallReport | None:
        """How far the newest version from the coordinator is; None before the first."""
        new = self.slots.reported
        if new is None:
            return None
        return InstallReport(
            release=new.release,
            version=new.notice.version,
            state=new.state,
            gate=new.gate,
            reason=new.reason,
            evidence=new.evidence,
            since_ns=max(new.since_ns, 0),
            serving=serving,
        )

    def taken_up(self) -> Flow[Verdict | None]:
        """After a restart: count that what was tried may have ended the agent.

        A verdict where that was so too often: a graph that takes all memory, say, would have the
        agent killed again after each restart, and no window would be scored any more.
        """
        self._began = self._around.clock.monotonic()
        new = self.slots.new
        if new is None or new.over or new.state == InstallState.OFFERED:
            return None
        if new.ended >= MOST_ENDED:
            reason = f"the agent was killed {new.ended} times in a row while it was tried"
            return Verdict(Gate.GRAPH, ok=False, reason=reason)
        yield from self._count(new, new.ended + 1)
        return None

    def has_survived(self) -> bool:
        """Whether the agent has lived for so long that nothing tried has ended it before."""
        new = self.slots.new
        if new is None or not new.ended or new.over:
            return False
        return self._around.clock.monotonic() - self._began >= SURVIVED_SECONDS

    def survived(self) -> Flow[None]:
        """What is on its way has not ended the agent."""
        new = self.slots.new
        if new is not None and new.ended and not new.over:
            yield from self._count(new, 0)

    def tell_installed(self) -> None:
        """What came last scores now."""
        new = self.slots.new
        if new is not None:
            version, number = new.notice.version[:12], new.notice.number
            self._around.log.info(
                "version.installed", version=version, number=number, release=new.release
            )

    def _count(self, new: Installation, ended: int) -> Flow[None]:
        slots = structs.replace(self.slots, new=structs.replace(new, ended=ended))
        try:
            yield from beside(partial(self._file.write, slots))
        except StoreError as error:
            self._around.log.error("install.unwritten", error=str(error))  # noqa: TRY400  no fault of ours
        self.keep(slots)

    def _tell(self, new: Installation) -> None:
        fields = {
            "release": new.release,
            "version": new.notice.version[:12],
            "origin": new.origin,
            "state": str(new.state),
        }
        if new.gate:
            self._around.audit.record(
                who=DAEMON,
                what=f"install.{new.state}",
                subject=f"{self._around.job.name}, release {new.release}",
                before=new.notice.version,
                after=f"{new.gate}: {new.reason}",
            )
        if new.state == InstallState.REJECTED:
            self._around.log.error("install.rejected", gate=new.gate, reason=new.reason, **fields)
        elif new.state == InstallState.ROLLED_BACK:
            self._around.log.error(
                "install.rolled_back", gate=new.gate, reason=new.reason, **fields
            )
        else:
            self._around.log.info("install.state", **fields)
        if new.gate or new.release:
            self._around.changed()


def verdict_of(error: FedmillError) -> Verdict:
    """What an error says of the version that raised it."""
    if isinstance(error, Refused):
        return error.verdict
    gate = Gate.GRAPH if isinstance(error, ModelError) else Gate.HASH
    return Verdict(gate, ok=False, reason=error.message)
