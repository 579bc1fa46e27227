# SPDX-License-Identifier: Apache-2.0
"""Checks metadata with python-tuf, and says what is signed. Only a child process imports this."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import structs
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Signed, TargetFile, Targets
from tuf.api.serialization import SerializationError
from tuf.ngclient import Updater, UpdaterConfig

from fedmill_agent.trust.fetcher import METADATA_URL, TARGETS_URL, FolderFetcher
from fedmill_agent.trust.verified import Custom, SignedText, Target, Verified, readable
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.files import make_folder
from fedmill_shared.messages import UNREADABLE
from fedmill_shared.trust import (
    CONFIG_LIMIT,
    DELEGATED,
    EVERYBODY,
    METADATA_LIMIT,
    MOST_ROOTS,
    TrustRole,
    config_path,
    in_folder,
)

MOST_TARGETS = 10_000
LONGEST_REASON = 500
UNCHANGED = "; what was signed before stays"


class Incomplete(TrustError):  # noqa: N818  named for what happened
    """Something has not come yet."""


class Expired(TrustError):  # noqa: N818  named for what happened
    """What is signed is over."""


class Check:
    """One check of a folder against what is trusted already, in ``metadata``."""

    def __init__(self, root: Path, metadata: Path, folder: Path) -> None:
        """``root`` is the shipped root, ``folder`` has what came in ``metadata/``, ``targets/``.

        Raises:
            TrustError: the shipped root is none.
            StoreError: a folder or file cannot be used.
        """
        make_folder(metadata)
        self._metadata = metadata
        self._folder = folder
        config = UpdaterConfig(
            max_root_rotations=MOST_ROOTS,
            root_max_length=METADATA_LIMIT,
            timestamp_max_length=METADATA_LIMIT,
            snapshot_max_length=METADATA_LIMIT,
            targets_max_length=METADATA_LIMIT,
        )
        try:
            self._updater = Updater(
                str(metadata),
                METADATA_URL,
                target_base_url=TARGETS_URL,
                fetcher=FolderFetcher(folder),
                config=config,
                bootstrap=readable(root, METADATA_LIMIT),
            )
        except (RepositoryError, SerializationError) as error:
            raise TrustError(
                f"{root}: is no root that can be trusted: {error}",
                remedy="give the agent the root.json that `fedmill trust init` made",
            ) from error
        except OSError as error:
            raise StoreError(f"{metadata}: {error.strerror or error}") from error

    def run(
        self,
        before: Verified,
        agent: str,
        now_ns: int,
        *,
        roles: Sequence[TrustRole] = (TrustRole.MODELS,),
    ) -> Verified:
        """What is signed now by ``targets`` and the delegated ``roles``.

        Raises:
            Incomplete: something has not come; ``before`` holds.
            Expired: nothing newer has come than what is over.
            TrustError: somebody else signed it, it was changed, or it is older than ``before``.
            StoreError: the disk fails.
        """
        with _in_words():
            self._updater.refresh()
            for role in roles:  # finds no target, but reads who may sign it
                self._updater.get_targetinfo(DELEGATED[role].replace("*", "-"))
        heads = self._heads()
        found = Verified(
            checked_ns=now_ns,
            attempted_ns=now_ns,
            versions={role: each.version for role, each in heads.items()},
            expires_ns={role: _expiry(each.expires) for role, each in heads.items()},
            targets={path: _target(info) for path, info in self._signed(roles)},
        )
        lower = found.below(before.versions)
        if lower and found.versions["root"] <= before.versions.get("root", 0):
            raise TrustError(f"{lower} is older than what was seen before{UNCHANGED}")
        return structs.replace(found, configs=self._configs((EVERYBODY, agent)))

    def info(self, path: str) -> TargetFile | None:
        """What is signed of the target ``path``; None if nothing is.

        Raises:
            TrustError: its role cannot be read.
        """
        with _in_words():
            return self._updater.get_targetinfo(path)

    def _signed(self, roles: Sequence[TrustRole]) -> Iterable[tuple[str, TargetFile]]:
        """Every target, by whom may sign it: a path outside of a delegation is nobody's."""
        paths = dict.fromkeys(
            path for role in ("targets", *roles) for path in self._read(role).targets
        )
        if len(paths) > MOST_TARGETS:
            raise TrustError(f"{len(paths)} targets are signed, at most {MOST_TARGETS} are kept")
        for path in paths:
            info = self.info(path)
            if info is not None:
                yield path, info

    def _read(self, role: str) -> Targets:
        """A role's targets as python-tuf has checked and kept them."""
        signed = self._heads().get(role)
        return signed if isinstance(signed, Targets) else Targets()

    def _heads(self) -> dict[str, Signed]:
        """Every role as python-tuf has checked and kept it."""
        found: dict[str, Signed] = {}
        for role in ("root", "timestamp", "snapshot", "targets", *DELEGATED):
            try:
                data = readable((self._metadata / f"{role}.json").resolve(), METADATA_LIMIT)
                kept: Metadata[Targets] = Metadata.from_bytes(data)
            except (StoreError, SerializationError, RepositoryError):
                continue
            found[str(role)] = kept.signed
        return found

    def _configs(self, agents: Iterable[str]) -> list[SignedText]:
        found = []
        for agent in agents:
            path = config_path(agent)
            info = self.info(path)
            if info is None:
                continue
            digest = info.hashes.get("sha256", "")
            place = self._folder / "targets" / in_folder(path, digest)
            if not place.exists():
                raise Incomplete(f"{path} has not come yet")
            data = readable(place, CONFIG_LIMIT)
            with _in_words():
                info.verify_length_and_hashes(data)
                text = data.decode()
            found.append(SignedText(path=path, sha256=digest, text=text))
        return found


class _in_words:  # noqa: N801  a context manager, used as a function
    """Turns what python-tuf raises into our errors, for people."""

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raise our error.

        Raises:
            Incomplete: a file is missing.
            Expired: metadata is over.
            TrustError: anything else is wrong with it.
            StoreError: the disk fails.
        """
        told = " ".join(str(error).split())[:LONGEST_REASON]
        match error:
            case ExpiredMetadataError():
                raise Expired(f"signed metadata is over: {told}") from error
            case DownloadError() if not isinstance(error, LengthOrHashMismatchError):
                raise Incomplete(f"not all of the metadata has come: {told}") from error
            case BadVersionNumberError():
                raise TrustError(f"a version is wrong: {told}{UNCHANGED}") from error
            case LengthOrHashMismatchError():
                raise TrustError(f"metadata was changed: {told}{UNCHANGED}") from error
            case UnsignedMetadataError():
                raise TrustError(f"not signed by whom we trust: {told}{UNCHANGED}") from error
            case RepositoryError() | SerializationError() | ValueError():
                raise TrustError(f"metadata is wrong: {told}{UNCHANGED}") from error
            case OSError():
                raise StoreError(f"{error.filename or 'the disk'}: {told}") from error


def _target(info: TargetFile) -> Target:
    try:
        custom = msgspec.convert(info.unrecognized_fields.get("custom", {}), Custom)
    except UNREADABLE:  # of a later version: its bytes are signed, and nothing else
        custom = Custom()
    return Target(length=info.length, sha256=info.hashes.get("sha256", ""), custom=custom)


def _expiry(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp()) * 10**9


def now_ns() -> int:
    """The time that python-tuf goes by, ns."""
    return int(datetime.now(UTC).timestamp() * 1e9)
