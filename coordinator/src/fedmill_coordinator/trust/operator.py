# SPDX-License-Identifier: Apache-2.0
"""What the operator signs with keys the daemon does not have: jobs, configuration, software."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, TargetFile, Targets

from fedmill_coordinator.trust.repository import Repository
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError, StoreError, TrustError
from fedmill_shared.files import make_folder, sha256, sync_folder
from fedmill_shared.job import Job
from fedmill_shared.job.clusters import expand
from fedmill_shared.job_check import canonical, job_from_canonical, load_job
from fedmill_shared.overlay import read_overlay
from fedmill_shared.topics import valid_agent_id
from fedmill_shared.trust import (
    CONFIG_LIMIT,
    EVERYBODY,
    SOFTWARE_LIMIT,
    SOFTWARE_NAME,
    TrustRole,
    config_path,
    in_folder,
    job_path,
)

PIECE = 1 << 20


class Operator:
    """Changes ``targets``, or the delegated ``software``, with a key that was read from a path."""

    def __init__(self, repository: Repository, signer: CryptoSigner, clock: Clock) -> None:
        """``signer`` must be the key of what is changed."""
        self._repository = repository
        self._signer = signer
        self._clock = clock

    def add_job(self, file: Path, running: Mapping[str, str]) -> list[str]:
        """Sign a job file; the names of the jobs that it makes.

        ``running`` are texts of jobs that the coordinator runs already, by name: they were written
        by the software of then, and stay good where they say the same.

        Raises:
            JobError: the file is wrong.
            TrustError: the key is another, or agents would serve what nobody signs.
            StoreError: the disk fails.
        """
        job, data = load_job(file), file.read_bytes()
        jobs = expand(job)
        for each in jobs:
            must_sign_releases(each, file)
        texts = {each.name: _texts(each, running.get(each.name, "")) for each in jobs}
        self._put(job_path(job.name), data, {"canonical": texts})
        return sorted(texts)

    def remove(self, path: str) -> None:
        """Take back what was signed.

        Raises:
            TrustError: the key is another, or nothing is signed under this name.
            StoreError: the disk fails.
        """
        with self._repository.alone():
            targets = self._repository.targets()
            if targets.signed.targets.pop(path, None) is None:
                raise TrustError(f"{path}: is not signed", remedy="see `fedmill trust status`")
            self._sign(TrustRole.TARGETS, targets)

    def set_config(self, agent: str, file: Path) -> None:
        """Sign a remote configuration for one agent, or for ``all``.

        Raises:
            ConfigError: it changes what may not be changed from afar.
            TrustError: the key is another, no agent is called so, or the file is too large.
            StoreError: the disk fails.
        """
        if agent != EVERYBODY and not valid_agent_id(agent):
            raise TrustError(f"{agent!r} names no agent", remedy="give an agent's id, or all")
        data = file.read_bytes()
        if len(data) > CONFIG_LIMIT:
            raise TrustError(f"{file}: {len(data)} bytes, at most {CONFIG_LIMIT} are sent")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise TrustError(f"{file}: is not UTF-8 text") from error
        read_overlay(text, str(file))
        self._put(config_path(agent), data, {})

    def add_software(self, file: Path) -> str:
        """Sign a file of software and lay it into the repository; its path there.

        Raises:
            TrustError: the key is not that of ``software``, or the file cannot be taken.
            StoreError: the disk fails.
        """
        name = file.name
        if SOFTWARE_NAME.match(name) is None or file.stat().st_size > SOFTWARE_LIMIT:
            raise TrustError(
                f"{file}: cannot be signed",
                remedy="at most 128 letters, digits and . _ + -, and 4 GiB",
            )
        self._repository.must_be_key(TrustRole.SOFTWARE, self._signer)
        path = f"software/{name}"
        size, digest = self._copy(file, path)
        with self._repository.alone():
            software = self._repository.targets(TrustRole.SOFTWARE)
            software.signed.targets[path] = TargetFile(size, {"sha256": digest}, path)
            self._sign(TrustRole.SOFTWARE, software)
        return path

    def renew(self, role: TrustRole) -> None:
        """Sign what ``role`` says once more, for another term, or with its new key.

        Raises:
            TrustError: the key is another.
            StoreError: the disk fails.
        """
        with self._repository.alone():
            self._sign(role, self._repository.targets(role))

    def replace_key(self, role: TrustRole, key: SSlibKey) -> list[str]:
        """Let ``key`` sign for a delegated ``role`` instead of others; the ids of those.

        Raises:
            TrustError: the key is not that of ``targets``.
            StoreError: the disk fails.
        """
        with self._repository.alone():
            targets = self._repository.targets()
            delegations = targets.signed.delegations
            if delegations is None or not delegations.roles or role not in delegations.roles:
                raise TrustError(f"targets delegates nothing to {role}")
            before = list(delegations.roles[role].keyids)
            for old in before:
                targets.signed.revoke_key(old, role)
            targets.signed.add_key(key, role)
            self._sign(TrustRole.TARGETS, targets)
            return before

    def _put(self, path: str, data: bytes, custom: Mapping[str, object]) -> None:
        digest = sha256(data)
        with self._repository.alone():
            self._repository.put_target(path, digest, data)
            targets = self._repository.targets()
            fields = {"custom": dict(custom)} if custom else {}
            targets.signed.targets[path] = TargetFile(
                len(data), {"sha256": digest}, path, unrecognized_fields=fields
            )
            self._sign(TrustRole.TARGETS, targets)

    def _sign(self, role: TrustRole, metadata: Metadata[Targets]) -> None:
        self._repository.sign(role, metadata, self._signer, self._clock)

    def _copy(self, file: Path, path: str) -> tuple[int, str]:
        """Copy ``file`` into the repository piece by piece; its size in bytes and its digest."""
        folder = make_folder(self._repository.targets_folder / "software")
        digest, size, temporary = hashlib.sha256(), 0, folder / f".{file.name}.tmp"
        try:
            with file.open("rb") as source, temporary.open("wb") as copy:
                while piece := source.read(PIECE):
                    digest.update(piece)
                    size += copy.write(piece)
                copy.flush()
                os.fsync(copy.fileno())
            found = digest.hexdigest()
            temporary.replace(self._repository.targets_folder / in_folder(path, found))
            sync_folder(folder)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise StoreError(f"{file}: cannot be copied: {error.strerror or error}") from error
        return size, found


def must_sign_releases(job: Job, path: Path) -> None:
    """Return if agents serve releases of ``job`` only.

    Raises:
        TrustError: they would serve each version as it comes, which nobody signs.
    """
    if job.rollout.release == "each":
        raise TrustError(
            f'{path}: rollout.release is "each": agents would serve versions that nobody signs',
            remedy='with [trust] give "better", "last" or "manual"',
        )


def signed_texts(targets: Targets, path: str) -> dict[str, Sequence[str]]:
    """Digests of the canonical texts that are signed with a job file, by job."""
    found = targets.targets.get(path)
    custom = found.unrecognized_fields.get("custom", {}) if found is not None else {}
    return dict(custom.get("canonical", {}))


def _texts(job: Job, running: str) -> list[str]:
    texts = [sha256(canonical(job))]
    if running:
        try:
            same = job_from_canonical(running.encode()) == job
        except FedmillError:
            same = False
        if same and sha256(running.encode()) not in texts:
            texts.append(sha256(running.encode()))
    return texts
