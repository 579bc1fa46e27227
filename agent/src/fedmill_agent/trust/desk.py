# SPDX-License-Identifier: Apache-2.0
"""The daemon's part in trust: what comes waits at this desk until what signs it was checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from msgspec import Struct

from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig
from fedmill_agent.trust import gate
from fedmill_agent.trust.child import Asked, Run, run_child
from fedmill_agent.trust.imports import Imports
from fedmill_agent.trust.incoming import Arrivals, keep, keep_all, place_of
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.seen import Seen
from fedmill_agent.trust.verified import Verified, read_verified
from fedmill_agent.trust.waiting import Held, Notice, Waiting
from fedmill_shared.audit import Audit, NoAudit
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, FedmillError, ModelError, StoreError
from fedmill_shared.link.base import Message
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import (
    BlobRequest,
    InstallReport,
    JobNotice,
    Refusal,
    ReleaseNotice,
)

GATHER_SECONDS = 0.2
"""Files of metadata come one behind the other: they are checked together."""
LOOK_SECONDS = 1.0
FINISH_SECONDS = 5.0
RETRY_SECONDS = 30.0
LONGEST_REST = 32.0
"""After a refusal the next check waits: whoever sends nonsense does not keep the machine busy."""
BUNDLE_SECONDS = 2 * 86_400.0
"""How long a bundle is kept whose releases come to nothing: as long as its metadata is good."""
LONGEST_WORD = 1000
PEOPLE = ("root", "targets", "software")
"""Roles whose keys people have."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What the desk reaches the rest of the daemon by.

    Attributes:
        take: hands what is signed to the seats, as if it came now.
        send: speaks to the coordinator.
        text: the text of the job that the agent has a seat in; empty if it has none.
        wants: whether the agent takes part in a job of this name.
        reports: how far each job is with its release.
        overlay: the remote configuration has changed.
        hurry: others should hear soon of what has changed.
        audit: where it is put down what people have signed anew.
    """

    take: Callable[[str, Struct | Block], None]
    send: Callable[[str, Struct | bytes], None]
    text: Callable[[str], bytes]
    wants: Callable[[str], bool]
    reports: Callable[[], Mapping[str, InstallReport | None]]
    overlay: Callable[[], None]
    hurry: Callable[[], None]
    audit: Audit = field(default_factory=NoAudit)


class TrustDesk:
    """Owns what was checked, what waits for it, and the child that checks.

    Attributes:
        signed: whether releases must be: always here.
    """

    signed = True

    def __init__(
        self,
        config: AgentConfig,
        clock: Clock,
        log: Logger,
        *,
        background: Background,
        disk: Background,
        ways: Ways,
        run: Run = run_child,
    ) -> None:
        """Take up what was checked before; ``run`` has what has come checked.

        Raises:
            ConfigError: the shipped root is not there.
        """
        if config.trust is None:
            raise RuntimeError("no [trust]")
        self._places = TrustPlaces(config.agent.state)
        root = _must_be_there(Path(config.trust.root))
        self._asked = Asked(Path(config.agent.state), root, config.agent.id)
        self._clock = clock
        self._log = log
        self._background = background
        self._disk = disk
        self._ways = ways
        self._run = run
        self._waiting = Waiting()
        self._seen = Seen(self._places.seen)
        self._imports = Imports(self._places, log)
        self._arrivals = Arrivals(clock, log)
        self._verified = read_verified(self._places.verified)
        self._over: str | None = None
        self._running = False
        self._dirty = self._places.incoming.is_dir()
        self._due = self._look_due = self._finish_due = 0.0
        self._rest = self._rest_until = 0.0
        self._keeping = self._importing = False
        self._bundle_due = self._bundle_over = 0.0

    @property
    def word(self) -> str:
        """What there is to say of trust; empty while all is well."""
        late, told = self._late(), self._verified.error
        words = [late] if late else []
        if told and told not in late:
            words.append(told)
        return "; ".join(words)[:LONGEST_WORD]

    def hear(self, message: Message) -> None:
        """Metadata or a configuration came; nobody has checked it.

        Raises:
            FrameError: it is none, or too large.
        """
        name, payload = message.topic.rpartition("/")[2], message.payload
        place = place_of(name, payload, self._asked.agent) if payload else ""
        if place and self._arrivals.add(name, place, bytes(payload)):
            self._write_next()

    def admits(self, said: Struct | Block) -> bool:
        """Whether ``said`` goes on to the seats now; if not, it waits here or is refused."""
        if isinstance(said, JobNotice):
            if not self._ways.wants(said.job) or self._ways.text(said.job) == said.text:
                return True  # the seats pass it over, or know it
            return self._admits(said)
        if not isinstance(said, ReleaseNotice) or self._seen.is_highest(said):
            return True
        if not self._ways.wants(said.job):
            return True
        return not self._seen.passes_over(said, self._log) and self._admits(said)

    def verify(self, notice: ReleaseNotice) -> None:
        """Return if ``notice`` is signed.

        Raises:
            ModelError: it is not, or what signed it is over.
        """
        if why := self._refusal(notice):
            raise ModelError(why)

    def permits(self, job: str, graph: str) -> bool:
        """Whether a release of ``job`` was signed together with this int8 form."""
        return graph in self._verified.graphs(job)

    def send(self, kind: str, message: Struct | bytes) -> None:
        """Send ``message``; blocks that a bundle has are not asked of the coordinator."""
        if isinstance(message, BlobRequest) and self._imports.has(message.blob):
            self._disk.submit(partial(self._imports.blocks, message), self._deliver, self._unkept)
        else:
            self._ways.send(kind, message)

    def tick(self) -> None:
        """Have checked what has come, and look at the time."""
        now = self._clock.monotonic()
        if self._dirty and not self._running and now >= self._due:
            self._dirty, self._running = False, True
            self._background.submit(partial(self._run, self._asked), self._checked, self._failed)
        if now < self._look_due:
            return
        self._look_due = now + LOOK_SECONDS
        self._look_at_term()
        for held in self._waiting.all():
            if now >= held.due and not held.told:
                self._refuse(held)
        self._look_for_bundle(now)

    def _refusal(self, notice: Notice) -> str:
        now = self._clock.now_ns()
        if isinstance(notice, JobNotice):
            return gate.refusal_of_job(self._verified, notice, now)
        return gate.refusal_of_release(self._verified, notice, now)

    def _admits(self, notice: Notice) -> bool:
        if not self._refusal(notice):
            self._note(notice)
            return True
        self._waiting.hold(notice, self._clock.monotonic())
        return False

    def _note(self, notice: Notice) -> None:
        if isinstance(notice, ReleaseNotice):
            try:
                self._seen.note(notice)
            except StoreError as error:
                self._log.error("trust.failed", error=str(error))

    def _came(self) -> None:
        self._dirty = True
        self._due = max(self._clock.monotonic() + GATHER_SECONDS, self._rest_until)

    def _write_next(self) -> None:
        """Have one file written at a time: whoever sends faster than the disk fills no memory."""
        arrived = self._arrivals.take()
        if arrived is not None:
            work = partial(keep, self._places, *arrived)
            self._disk.submit(work, lambda _: self._written(self._came), self._unwritten)

    def _written(self, then: Callable[[], None]) -> None:
        self._arrivals.done()
        then()
        self._write_next()

    def _unwritten(self, error: FedmillError) -> None:
        self._written(partial(self._unkept, error))

    def _unkept(self, error: FedmillError) -> None:
        self._log.error("trust.failed", error=str(error))

    def _failed(self, error: FedmillError) -> None:
        self._running, self._dirty = False, True
        self._due = self._clock.monotonic() + RETRY_SECONDS
        self._log.error("trust.failed", error=str(error))

    def _checked(self, found: Verified) -> None:
        before, self._verified, self._running = self._verified, found, False
        self._rest = min(2 * self._rest or 1.0, LONGEST_REST) if found.word == "refused" else 0.0
        self._rest_until = self._clock.monotonic() + self._rest
        self._due = max(self._due, self._rest_until)
        if found.word == "refused" and found.error != before.error:
            self._log.error("trust.refused", error=found.error)
        elif found.versions != before.versions:
            versions = {role: str(number) for role, number in found.versions.items()}
            self._log.info("trust.verified", **versions)
            self._put_down(before.versions, found.versions)
        self._look_at_term()
        self._retry()
        if found.configs != before.configs:
            self._ways.overlay()
        if self._importing:
            self._importing = False
            self._take_bundle()
        self._ways.hurry()

    def _put_down(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """The coordinator signs other roles by itself, every hour or with each release."""
        for role in PEOPLE:
            known, found = before.get(role, 0), after.get(role, 0)
            if found != known:
                was, now = f"version {known}" if known else "", f"version {found}"
                told = {"subject": role, "before": was, "after": now}
                self._ways.audit.record(who="operator", what="trust.changed", **told)

    def _retry(self) -> None:
        """Take what is signed by now."""
        for held in self._waiting.all():
            notice = held.notice
            if self._refusal(notice):
                continue
            self._waiting.drop(held)
            # Others may have been taken while it waited.
            if isinstance(notice, ReleaseNotice) and self._seen.passes_over(notice, self._log):
                continue
            self._note(notice)
            self._take(notice)

    def _take(self, notice: Notice) -> None:
        self._ways.take("job" if isinstance(notice, JobNotice) else "release", notice)

    def _refuse(self, held: Held) -> None:
        """It has waited long enough: say so; it is taken if it turns out to be signed some day."""
        held.told, notice, why = True, held.notice, self._refusal(held.notice)
        if isinstance(notice, ReleaseNotice):
            self._log.error("release.unsigned", job=notice.job, release=notice.release, reason=why)
            self._take(notice)  # its own gate refuses it, and the coordinator hears of that
            return
        self._log.error("job.refused", job=notice.job, kind="TrustError", error=why)
        self._ways.send("refusal", Refusal(job=notice.job, reason="TrustError", text=why[:2000]))

    def _late(self) -> str:
        return gate.over(self._verified, self._clock.now_ns())

    def _look_at_term(self) -> None:
        late = self._late()
        if late == self._over:
            return
        first, self._over = self._over is None, late
        at, role = self._verified.expires
        if late and at:
            self._log.error("trust.expired", role=role, since=gate.moment(at))
        elif late:
            self._log.warning("trust.missing", reason=late)
        elif not first:
            self._log.info("trust.fresh", until=gate.moment(at))
        self._ways.hurry()

    def _look_for_bundle(self, now: float) -> None:
        if self._keeping or now < self._bundle_due:
            return
        folder = self._imports.look()
        if folder is not None:
            self._keeping, self._bundle_over = True, now + BUNDLE_SECONDS
            work = partial(keep_all, self._places, folder, self._asked.agent)
            self._disk.submit(work, lambda _: self._bundle_came(), self._bundle_unkept)
        elif self._imports.folder is not None and now >= self._finish_due and not self._importing:
            self._finish_due = now + FINISH_SECONDS
            if self._imports.finish(self._ways.reports(), self._ways.wants):
                self._log.info("bundle.done")
            elif now >= self._bundle_over:
                self._log.error("bundle.refused", error="it came to nothing within two days")
                self._imports.drop()

    def _bundle_came(self) -> None:
        self._keeping, self._importing = False, True
        self._finish_due = self._clock.monotonic() + FINISH_SECONDS
        self._came()

    def _bundle_unkept(self, error: FedmillError) -> None:
        """The disk is full, or fails: the bundle lies there, and is taken later."""
        self._keeping = False
        self._bundle_due = self._clock.monotonic() + RETRY_SECONDS
        self._imports.again()
        self._unkept(error)

    def _take_bundle(self) -> None:
        try:
            notices = list(self._imports.notices())
        except FedmillError as error:
            self._log.error("bundle.refused", error=str(error))
            return
        self._log.info("bundle.taken", notices=len(notices))
        for notice in notices:
            if self.admits(notice):
                self._take(notice)

    def _deliver(self, blocks: list[Block]) -> None:
        for block in blocks:
            self._ways.take("block", block)


def _must_be_there(root: Path) -> Path:
    if not root.is_file():
        raise ConfigError(
            f"trust.root: {root} is no file",
            remedy="give the root.json that `fedmill trust init` made",
        )
    return root
