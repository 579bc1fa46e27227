# SPDX-License-Identifier: Apache-2.0
"""The daemon's part: it signs releases as they are made, keeps metadata fresh, and tells agents."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile, Targets

from fedmill_coordinator.trust.keys import read_online
from fedmill_coordinator.trust.operator import must_sign_releases, signed_texts
from fedmill_coordinator.trust.repository import Repository, when
from fedmill_shared.audit import DAEMON, Audit, NoAudit
from fedmill_shared.clock import Clock
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.files import sha256
from fedmill_shared.job_check import load_job
from fedmill_shared.log import Logger
from fedmill_shared.messages import ReleaseNotice
from fedmill_shared.trust import (
    MOST_ROOTS,
    TrustRole,
    config_name,
    file_name,
    job_path,
    release_path,
    release_statement,
)

KEPT_RELEASES = 4
"""Releases of a job that stay signed: agents are told the newest, or the one before it."""
LOOK_SECONDS = 2.0
"""How often the folder is looked through for what the operator has signed meanwhile."""
RETRY_SECONDS = 30.0
PATIENCE_SECONDS = 0.5
"""How long the daemon waits for a command that holds the folder: rounds wait along with it."""
WARN_DAYS = {TrustRole.ROOT: 30, TrustRole.TARGETS: 14, TrustRole.SOFTWARE: 14}
REMEDIES = {
    TrustRole.ROOT: "hold the ceremony: `fedmill trust root prepare`, `sign` and `import`",
    TrustRole.TARGETS: "`fedmill trust renew targets --key KEY`",
    TrustRole.SOFTWARE: "`fedmill trust renew software --key KEY`",
}
WARN_SECONDS = 86_400.0
TOLD = (TrustRole.MODELS, TrustRole.TARGETS, TrustRole.SNAPSHOT, TrustRole.TIMESTAMP)
"""What agents check, the last word last; software comes on a stick."""
TELL_ALL_SECONDS = 3600.0
"""All is told again as often: whatever somebody has written over is mended by that."""
Publish = Callable[[str, bytes], None]
"""Tells every agent of the metadata file or configuration with this name; empty: it is gone."""


class Keeper:
    """Owns the daemon's keys, and what agents were told last."""

    def __init__(
        self,
        folder: Path,
        keys: Path,
        publish: Publish,
        clock: Clock,
        log: Logger,
        *,
        audit: Audit | None = None,
    ) -> None:
        """Take up the repository in ``folder``, with the keys in ``keys``.

        Raises:
            TrustError: keys or metadata are missing, damaged, or do not belong together.
        """
        self._repository = Repository(folder)
        self._keys = keys
        self._signers = self._read_keys()
        self._publish = publish
        self._clock = clock
        self._log = log
        self._audit: Audit = audit or NoAudit()
        self._told: dict[str, bytes] = {}
        self._look_due = self._warn_due = self._all_due = 0.0
        self._failed = ""

    def check_job(self, path: Path) -> None:
        """Return if the job file at ``path`` is the one that the operator signed.

        Raises:
            TrustError: it is not, or agents would serve what nobody signs.
            JobError: it is wrong.
        """
        job = load_job(path)
        must_sign_releases(job, path)
        found = self._repository.targets().signed.targets.get(job_path(job.name))
        if found is None or found.hashes.get("sha256") != sha256(path.read_bytes()):
            what = "is not signed" if found is None else "is not the one that is signed"
            raise TrustError(
                f"{path}: job {job.name!r} {what}",
                remedy=f"look it through, and `fedmill trust add-job {path} --key KEY`",
            )

    def check_text(self, path: Path, job: str, text: bytes) -> None:
        """Return if agents will take ``text`` of ``job``, which the file at ``path`` makes.

        Raises:
            TrustError: it was started with a text that nobody signed.
        """
        targets = self._repository.targets().signed
        texts = signed_texts(targets, job_path(load_job(path).name))
        if sha256(text) not in texts.get(job, ()):
            raise TrustError(
                f"{path}: job {job!r} was started with a text that is not signed",
                remedy=f"sign it again: `fedmill trust add-job {path} --key KEY`",
            )

    def vouch(self, release: ReleaseNotice) -> None:
        """Sign ``release`` unless that is done, and let agents know before they hear of it.

        Raises:
            StoreError: it cannot be signed now; agents are not to be told yet.
        """
        path, data = release_path(release.job, release.release), release_statement(release)
        try:
            with self._repository.alone(seconds=PATIENCE_SECONDS):
                if self._enter(release, path, data):
                    self._log.info("release.signed", job=release.job, release=release.release)
                self._repository.refresh(self._signers, self._clock)
            self._tell()
        except TrustError as error:
            raise StoreError(f"release {release.release} is not signed: {error}") from error

    def announce(self) -> None:
        """The broker may have lost everything: tell it all."""
        self._told.clear()
        self._look_due = 0.0
        self.tick()

    def tick(self) -> None:
        """Sign what is due and tell what is new, every now and then; a failure is told once."""
        now = self._clock.monotonic()
        if now < self._look_due:
            return
        self._look_due = now + LOOK_SECONDS
        if now >= self._all_due:
            self._all_due = now + TELL_ALL_SECONDS
            self._told = dict.fromkeys(self._told, b"")
        try:
            with self._repository.alone(seconds=PATIENCE_SECONDS):
                self._repository.refresh(self._signers, self._clock)
            self._tell()
            if now >= self._warn_due:
                self._warn()
                self._warn_due = now + WARN_SECONDS
        except (TrustError, StoreError) as error:
            self._look_due = now + RETRY_SECONDS
            self._take_new_keys()
            if str(error) != self._failed:
                self._failed = str(error)
                self._log.error("trust.failed", error=self._failed)
            return
        self._failed = ""

    def _read_keys(self) -> Mapping[TrustRole, CryptoSigner]:
        signers = read_online(self._keys)
        for role, signer in signers.items():
            try:
                self._repository.must_be_key(role, signer)
            except TrustError as error:
                told = f"{self._keys / f'{role}.pem'}: {error.message}"
                raise TrustError(told, remedy=error.remedy) from error
        return signers

    def _take_new_keys(self) -> None:
        """After a change of keys the daemon's may be other ones; it says why while they are not."""
        with suppress(TrustError):
            self._signers = self._read_keys()

    def _enter(self, release: ReleaseNotice, path: str, data: bytes) -> bool:
        """Put a release among the signed ones; False if it is there."""
        models, digest = self._repository.targets(TrustRole.MODELS), sha256(data)
        known = models.signed.targets.get(path)
        if known is not None and known.hashes.get("sha256") == digest:
            return False
        self._repository.put_target(path, digest, data)
        quantised = release.notice.quantised
        custom = {"job": release.job, "release": release.release}
        graph = {"quantised": quantised.sha256} if quantised is not None else {}
        models.signed.targets[path] = TargetFile(
            len(data), {"sha256": digest}, path, unrecognized_fields={"custom": custom | graph}
        )
        for old in _outdated(models.signed, release.job):
            if old != path:  # whatever numbers somebody with our keys has signed
                del models.signed.targets[old]
        signer = self._signers[TrustRole.MODELS]
        self._repository.sign(TrustRole.MODELS, models, signer, self._clock)
        self._audit.record(who=DAEMON, what="release.signed", subject=path, after=digest)
        return True

    def _tell(self) -> None:
        told = dict(self._newest())
        for name in [name for name in self._told if name not in told]:
            del self._told[name]
            self._publish(name, b"")
        for name, data in told.items():
            if self._told.get(name) != data:
                self._publish(name, data)
                self._told[name] = data

    def _newest(self) -> Iterator[tuple[str, bytes]]:
        """What agents are told, in the order in which it counts: the timestamp comes last."""
        repository = self._repository
        newest = repository.version(TrustRole.ROOT)
        for number in range(max(1, newest - MOST_ROOTS), newest + 1):
            yield file_name(f"{number}.root.json", number), repository.raw(TrustRole.ROOT, number)
        for path, each in repository.targets().signed.targets.items():
            if path.startswith("config/"):
                agent = path.removeprefix("config/").removesuffix(".toml")
                yield config_name(agent), repository.target(path, each.hashes["sha256"])
        for role in TOLD:
            yield f"{role}.json", repository.raw(role)

    def _warn(self) -> None:
        now = when(self._clock)
        for role, days in WARN_DAYS.items():
            if role is TrustRole.ROOT:
                expires = self._repository.root().signed.expires
            else:
                expires = self._repository.targets(role).signed.expires
            if expires - now < timedelta(days=days):
                self._log.error(
                    "trust.expiring", role=role, expires=expires.isoformat(), remedy=REMEDIES[role]
                )


def _outdated(models: Targets, job: str) -> list[str]:
    """Releases of ``job`` that more than enough newer ones have come after."""
    prefix = f"releases/{job}/"
    paths = [path for path in models.targets if path.startswith(prefix)]
    numbers = sorted(paths, key=lambda path: int(path.removeprefix(prefix).removesuffix(".json")))
    return list(itertools.islice(reversed(numbers), KEPT_RELEASES, None))
