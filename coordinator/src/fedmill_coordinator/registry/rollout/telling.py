# SPDX-License-Identifier: Apache-2.0
"""What agents are told of a release, and what they may ask for because of it."""

from collections.abc import Mapping

from fedmill_coordinator.registry.notices import blobs_of, version_notice
from fedmill_coordinator.registry.offers import Offers
from fedmill_coordinator.registry.rollout.progress import FAILED
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.records import Alias
from fedmill_coordinator.store.records_releases import BACK, InstallRecord, ReleaseRecord
from fedmill_shared.errors import StoreError
from fedmill_shared.log import Logger
from fedmill_shared.messages import InstallReport, ReleaseNotice, VersionNotice

SHELF = "release"
SIGN_SECONDS = 30.0
"""When a release that could not be signed is tried again."""
REMIND_SECONDS = 10.0
"""When the same is told again for the first time; then after twice as long each time."""
KEPT: tuple[Alias, ...] = ("stable", "previous")
"""Aliases of versions that agents may have to go back to."""


class Telling:
    """Announces releases of one job; retained, so that each agent hears the newest."""

    def __init__(self, job: str, services: Services, offers: Offers) -> None:
        """Nothing is told yet."""
        self._job = job
        self._store = services.store
        self._blobs = services.blobs
        self._voice = services.voice
        self._trust = services.trust
        self._log = services.log
        self._offers = offers
        self._clock = services.clock
        self._last: tuple[int, list[str] | None] | None = None
        self._patience = REMIND_SECONDS
        self._due = self._sign_due = 0.0

    @property
    def due(self) -> bool:
        """Whether an agent that says nothing may be told again: a broker may have lost it."""
        return self._clock.monotonic() >= self._due

    def tell(self, release: ReleaseRecord, agents: list[str] | None) -> bool:
        """Tell every agent of ``release``, and which ``agents`` it is for now; None for all.

        False if it is not told, since it cannot be signed: it is to be told again, and is tried
        every now and then. Nothing else of the job waits for that.

        Raises:
            StoreError: its version cannot be read.
        """
        if self._clock.monotonic() < self._sign_due:
            return False
        told = release.release, agents
        self._patience = 2 * self._patience if told == self._last else REMIND_SECONDS
        self._last, self._due = told, self._clock.monotonic() + self._patience
        notice = self._notice(release.version)
        if notice is None:
            self._log.error("release.unsent", release=release.release, error="its weights are gone")
            return True
        self._offers.lay_out(SHELF, blobs_of(notice))
        for alias in KEPT:
            found = self._store.alias(self._job, alias)
            kept = self._notice(found.version) if found is not None else None
            self._offers.lay_out(alias, blobs_of(kept) if kept is not None else [])
        message = ReleaseNotice(
            job=self._job,
            release=release.release,
            notice=notice,
            agents=agents,
            back=release.why in BACK,
        )
        if not self._is_signed(message):
            return False
        self._voice.broadcast(self._job, "release", message)
        return True

    def _is_signed(self, message: ReleaseNotice) -> bool:
        try:
            self._trust.vouch(message)
        except StoreError as error:
            self._sign_due = self._clock.monotonic() + SIGN_SECONDS
            self._log.error("release.unsent", release=message.release, error=str(error))
            return False
        return True

    def _notice(self, version: str) -> VersionNotice | None:
        """The version as it is told; None where its weights were forgotten."""
        record = self._store.version(self._job, version)
        if record is None or record.weights is None:
            return None
        try:
            return version_notice(self._store, self._blobs, record, evaluate=False, serve=True)
        except StoreError as error:
            self._log.error("store.failed", error=str(error))
            return None


def agents_of(release: ReleaseRecord, installs: Mapping[str, InstallRecord]) -> list[str] | None:
    """Whom ``release`` is for now; None for everybody."""
    whole = release.opened >= len(release.rings)
    if release.state == "done" or (release.state == "open" and whole):
        return None
    if release.state == "aborted":  # whoever has it keeps it until there is something else
        return sorted(a for a, each in installs.items() if each.state == "committed")
    return sorted(installs)


def log_ahead(log: Logger, release: ReleaseRecord, reports: Mapping[str, InstallReport]) -> None:
    """Note who says to know a higher number: ``release`` is passed over there."""
    for agent, report in reports.items():
        if report.release > release.release:
            log.error("release.ahead", agent=agent, release=release.release, known=report.release)


def log_word(log: Logger, release: ReleaseRecord, install: InstallRecord) -> None:
    """Note how far an agent is with a release; loudly where that is not what was wanted."""
    told = {"agent": install.agent, "release": release.release, "state": install.state}
    if install.state in FAILED:
        reason = {"gate": install.gate, "reason": install.reason}
        log.warning("release.refused", **told, **reason, evidence=install.evidence)
    elif install.state == "committed":
        log.info("release.installed", **told)
    else:
        log.debug("release.moved", **told)
