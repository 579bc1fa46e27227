# SPDX-License-Identifier: Apache-2.0
"""Leads the releases of one job through their rings.

``progress.decide`` says what to do; this class does it, durably first and aloud afterwards. It
goes on when the job is over, and after a restart from what the store holds.
"""

from collections.abc import Callable, Mapping, Sequence

from fedmill_coordinator.fleet import SETTLE_SECONDS, Fleet
from fedmill_coordinator.registry.newest import Versions
from fedmill_coordinator.registry.rollout import progress
from fedmill_coordinator.registry.rollout.book import Book
from fedmill_coordinator.registry.rollout.choosing import better_version, clearly_worse
from fedmill_coordinator.registry.rollout.progress import Act, View
from fedmill_coordinator.registry.rollout.rings import Labels, may_be_empty, reached
from fedmill_coordinator.registry.rollout.rollcall import RollCall
from fedmill_coordinator.registry.rollout.served import Served
from fedmill_coordinator.registry.rollout.steady import Steady
from fedmill_coordinator.registry.rollout.telling import Telling, agents_of, log_ahead, log_word
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.records import VersionRecord
from fedmill_coordinator.store.records_releases import ReleaseRecord, ReleaseState, Why
from fedmill_shared.audit import DAEMON
from fedmill_shared.job import Job, Pca
from fedmill_shared.job.rings import FLEET

LONGEST_SETTLE_SECONDS = 10.0
"""Where agents come and go all the time, a ring is not held up longer by that."""
LOOK_SECONDS = 0.2
"""How often what agents said is looked through, for all of them at once."""
LARGEST_SHARE = 0.05
"""Of the processor that this may take where there are thousands of them."""


class Rollout:
    """Owns which version of one job is released, and how far that is.

    Attributes:
        served: which version agents are to serve.
    """

    def __init__(
        self, job: Job, services: Services, versions: Versions, present: Callable[[], set[str]]
    ) -> None:
        """Go on from what the store holds; ``present`` are the agents that could take a release.

        ``versions`` makes the versions.
        """
        self._job = job
        self._settings = job.rollout
        self._store = services.store
        self._fleet: Fleet = services.fleet
        self._log = services.log
        self._audit = services.audit
        self._clock = services.clock
        self._versions = versions
        self._present = present
        self._book = Book(job, services.store)
        self._roll_call = RollCall(job.name, self._book, self._fleet, services.log)
        self.served = Served(job, services.store, self._book, versions)
        self._steady = Steady(services.clock, self._book.last_ns())
        self._telling = Telling(job.name, services, versions.offers)
        self._look_due = 0.0
        self._choose_due = True
        self._untold = False
        self._outlived = self.served.newest
        self._heard_since_ns = self._steady.now_ns()

    @property
    def release(self) -> ReleaseRecord | None:
        """The newest release; None before the first."""
        return self._book.release

    @property
    def going(self) -> ReleaseRecord | None:
        """The release that is under way or held."""
        return self._book.going

    def announce(self) -> None:
        """The connection is new: say what agents may have missed, and wait for what they did.

        Raises:
            StoreError: a version cannot be read.
        """
        self._heard_since_ns = self._steady.now_ns()
        self._look_due = 0.0
        self._retell()

    def versions_changed(self) -> None:
        """There is a new version, or new evaluations of those that there are."""
        self._choose_due = True

    def begin(
        self,
        version: VersionRecord,
        why: Why,
        *,
        rings: Sequence[str] = (),
        by: str = "",
        reason: str = "",
        order_id: int = 0,
    ) -> ReleaseRecord:
        """Begin to release ``version``, through the job's rings or others.

        Raises:
            StoreError: it cannot be stored; no release has begun.
        """
        reports, newest = self._fleet.installs(self._job.name), self._versions.newest
        before = self.served.now()
        release = self._book.begin(
            version,
            why,
            self._steady.now_ns(),
            rings=rings or self._settings.rings,
            before=before if why != "aborted" else None,
            by=by,
            reason=reason,
            known=[report.release for report in reports.values()],
            order_id=order_id,
            newest=newest.number if newest is not None else 0,
        )
        self._look_due = 0.0
        self._roll_call.begin()
        told = {"number": version.number, "why": why, "by": by, "rings": ", ".join(release.rings)}
        self._log.info(
            "release.begun", release=release.release, version=release.version[:12], **told
        )
        log_ahead(self._log, release, reports)
        self._record("release.begun", release, before=before, after=release.version, by=by)
        return release

    def finish(self) -> None:
        """The job has its last version: what is served as it comes is stable now.

        Raises:
            StoreError: the disk fails; nothing has changed.
        """
        if self.served.newest:
            self._versions.promote()
            return
        self._choose_due = True
        newest, known = self._versions.newest, self._book.tried()
        if self._book.release is not None:
            known.add(self._book.release.version)
        if self._settings.release != "last" or newest is None or newest.version in known:
            return
        worse = self.worse(newest)
        if worse:
            self._log.error("release.withheld", version=newest.version[:12], reason=worse)
        else:
            self.begin(newest, "last")

    def worse(self, version: VersionRecord) -> str:
        """Why ``version`` is not to be released: agents evaluated it clearly worse than theirs."""
        if isinstance(self._job.model, Pca):
            return ""  # its distances are over limits of its own, and no errors
        return clearly_worse(self._store, self._job.name, version, self.served.now())

    def hold(self, *, paused: bool, by: str) -> None:
        """Hold the release that is under way, or let it go on.

        Raises:
            StoreError: that cannot be stored; nothing has changed.
        """
        if paused:
            self._book.change(state="paused", reason=f"held by {by}")
        else:
            self._book.change(state="open", reason="", resumed_ns=self._steady.now_ns())
        self._look_due, self._untold = 0.0, True  # whoever comes while it is held waits
        if self._book.release is not None:
            what = "release.paused" if paused else "release.resumed"
            self._record(what, self._book.release, after=self._book.release.state, by=by)
        if paused:
            self._log.warning("release.paused", by=by)
        else:
            self._log.warning("release.resumed", by=by)

    def step(self) -> None:
        """Do whatever is due, until nothing is.

        Raises:
            StoreError: the disk fails; what is due is done in a later step.
        """
        begin = self._clock.monotonic()
        if begin < self._look_due:
            return
        self._look_due = begin + LOOK_SECONDS
        self._outdate()
        if self._untold or self._outlived != self.served.newest:
            self._retell()
        self._choose()
        there = {} if self.served.newest else self._fleet.labels(self._present())
        if self._roll_call.hear(there, self._steady.now_ns()) and self._book.release is not None:
            self._tell(self._book.release)
        while (act := self._decided(there)) is not Act.WAIT:
            self._carry_out(act, there)
        self._go_back()
        self._remind()
        now = self._clock.monotonic()
        if self._look_due:  # else something has just begun
            self._look_due = max(self._look_due, now + (now - begin) / LARGEST_SHARE)

    def _outdate(self) -> None:
        """Where each version is served as it comes, a release ends with the next one."""
        if self.served.outdated is None:
            return
        reason = "the job goes on, and each of its versions is served as it comes"
        ended = self._book.change(state="superseded", ended_ns=self._steady.now_ns(), reason=reason)
        self._log.warning("release.superseded", release=ended.release, reason=reason)

    def _choose(self) -> None:
        """Begin a release of a version that was evaluated better, while none is under way."""
        if not self._choose_due or self._settings.release != "better":
            return
        if self._book.going is not None or self._way_back() is not None:
            return
        self._choose_due = False
        better = better_version(
            self._store,
            self._job.name,
            self.served.now(),
            self._job.federation.minimum,
            self._book.tried(),
        )
        if better is not None:
            self.begin(better, "better")

    def _decided(self, there: Mapping[str, Labels]) -> Act:
        release = self._book.release
        return Act.WAIT if release is None else progress.decide(self._view(release, there))

    def _view(self, release: ReleaseRecord, there: Mapping[str, Labels]) -> View:
        ring = release.rings[max(0, release.opened - 1)]
        inside = self._fleet.labels(self._book.installs)
        quiet = self._clock.monotonic() - self._fleet.changed_at
        due = max(release.created_ns, release.ring_ns, self._heard_since_ns)
        waited = (self._steady.now_ns() - due) / 1e9
        return View(
            release=release,
            installs=list(self._book.installs.values()),
            settings=self._settings,
            now_ns=self._steady.now_ns(),
            heard_since_ns=self._heard_since_ns,
            anybody=bool(there),
            settled=quiet >= SETTLE_SECONDS or waited >= LONGEST_SETTLE_SECONDS,
            reached=reached(ring, inside),
            optional=may_be_empty(ring),
        )

    def _carry_out(self, act: Act, there: Mapping[str, Labels]) -> None:
        release = self._book.release
        if release is None:
            return
        match act:
            case Act.OPEN_RING:
                self._open_ring(release, there)
            case Act.TIME_OUT:
                self._time_out(release, there)
            case Act.SOAK:
                soak = round(self._settings.soak_seconds * 1e9)
                self._book.change(soak_ns=self._steady.now_ns() + soak)
                self._log.info("release.soaking", release=release.release, ring=release.opened)
            case Act.ABORT:
                self._end(release, "aborted", progress.abort_reason(self._book.installs.values()))
            case Act.END:
                self._end(release, "done", "")
            case Act.WAIT:
                return

    def _open_ring(self, release: ReleaseRecord, there: Mapping[str, Labels]) -> None:
        opened = release.opened + 1
        new = self._roll_call.joining(release, there, self._steady.now_ns(), opened)
        first = new[0].agent if new and release.rings[opened - 1] == "canary" else ""
        changed = self._book.change(
            new,
            opened=opened,
            ring_ns=self._steady.now_ns(),
            soak_ns=None,
            canary=first or release.canary,
        )
        self._log.info(
            "release.ring_opened",
            release=release.release,
            ring=release.rings[opened - 1],
            number=opened,
            agents=len(new),
        )
        self._tell(changed)

    def _time_out(self, release: ReleaseRecord, there: Mapping[str, Labels]) -> None:
        late = progress.timed_out(self._view(release, there))
        self._book.change(late)
        for each in late:
            log_word(self._log, release, each)

    def _end(self, release: ReleaseRecord, state: ReleaseState, reason: str) -> None:
        ended = self._book.change(state=state, reason=reason, ended_ns=self._steady.now_ns())
        words = [each.state for each in self._book.installs.values()]
        told = {
            "release": release.release,
            "version": release.version[:12],
            "agents": len(words),
            "committed": words.count("committed"),
            "failed": sum(word in progress.FAILED for word in words),
        }
        if state == "done":
            self._log.info("release.done", **told)
        else:
            self._log.error("release.aborted", **told, reason=reason)
        self._record(f"release.{state}", release, before=release.state, after=reason or state)
        self._choose_due = True
        self._tell(ended)

    def _way_back(self) -> ReleaseRecord | None:
        """The release that was aborted, while agents may have it and there is one to go back to."""
        release = self._book.release
        if release is None or release.state != "aborted" or release.before is None:
            return None
        words = [each.state for each in self._book.installs.values()]
        return release if any(word not in progress.REFUSED for word in words) else None

    def _go_back(self) -> None:
        """After an abort: release the version before it again, to everybody at once."""
        aborted = self._way_back()
        if aborted is None:
            return
        before = self._store.version(self._job.name, aborted.before or "")
        if before is not None:
            reason = f"release {aborted.release} was aborted"
            self.begin(before, "aborted", rings=[FLEET], reason=reason)

    def _record(
        self,
        what: str,
        release: ReleaseRecord,
        *,
        before: str | None = None,
        after: str,
        by: str = "",
    ) -> None:
        """Write into the audit log what becomes of a release."""
        subject = f"{self._job.name}, release {release.release}"
        self._audit.record(
            who=by or DAEMON, what=what, subject=subject, before=before or "", after=after
        )

    def _remind(self) -> None:
        """Tell a release again to those that have said nothing of it."""
        release = self._book.release
        if release is None or not self._telling.due or self.served.newest:
            return
        if any(each.state == "asked" for each in self._book.installs.values()):
            self._tell(release)

    def _retell(self) -> None:
        told = self._book.told()
        if told is not None:
            self._tell(told)
        self._outlived = self.served.newest

    def _tell(self, release: ReleaseRecord) -> None:
        """Tell agents of a release, and offer what it is made of."""
        self._untold = True  # where the disk or a signature fails, it is told in a later step
        installs = self._book.installs
        if release is not self._book.release:
            told = self._store.installs(release.job, release.release)
            installs = {each.agent: each for each in told}
        nobody = self.served.outlived(release)
        agents = [] if nobody else agents_of(release, installs)
        self._untold = not self._telling.tell(release, agents)
