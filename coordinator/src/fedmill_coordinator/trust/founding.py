# SPDX-License-Identifier: Apache-2.0
"""A new repository: its keys, its first root, and the first version of every role."""

from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from fedmill_coordinator.trust.keys import ONLINE, make_key, named
from fedmill_coordinator.trust.repository import LIFE, Repository, when
from fedmill_shared.clock import Clock
from fedmill_shared.errors import TrustError
from fedmill_shared.trust import DELEGATED, TrustRole

ROOT_KEYS = ("root-1", "root-2", "root-3")
THRESHOLD = 2


@dataclass(frozen=True, slots=True)
class Founded:
    """Where everything went: the file that agents are given, and each key by its name."""

    root: Path
    keys: dict[str, Path]


def found(
    repository: Repository, offline: Path, online: Path, clock: Clock, *, passphrase: str = ""
) -> Founded:
    """Make keys in ``offline`` and ``online``, and a repository that they sign.

    Each offline key has a folder of its own, to be carried away; ``passphrase`` protects them.

    Raises:
        TrustError: there is a repository or a key already.
        StoreError: something cannot be written.
    """
    if repository.exists():
        raise TrustError(
            f"{repository.folder}: there is a repository already",
            remedy="`fedmill trust status` shows it; keys are changed by `fedmill trust root`",
        )
    names = (*ROOT_KEYS, str(TrustRole.TARGETS), str(TrustRole.SOFTWARE))
    keys = {name: offline / name / f"{name}.pem" for name in names}
    keys |= {str(role): online / f"{role}.pem" for role in ONLINE}
    signers = {
        name: make_key(path, passphrase if name in names else "") for name, path in keys.items()
    }
    with repository.alone():
        _write(repository, signers, clock)
    return Founded(repository.path(TrustRole.ROOT, 1), keys)


def _write(repository: Repository, signers: dict[str, CryptoSigner], clock: Clock) -> None:
    """Every role's first version; the root, which makes them count, comes last."""
    root = Metadata(_root(signers, clock))
    targets = Metadata(_targets(signers, clock))
    empty = {
        role: Metadata(Targets(expires=when(clock) + LIFE[role]))
        for role in (TrustRole.MODELS, TrustRole.SOFTWARE)
    }
    signed: dict[TrustRole, Metadata[Targets]] = {TrustRole.TARGETS: targets, **empty}
    for role, metadata in signed.items():
        metadata.sign(signers[role])
        repository.write(role, metadata)
    meta = {
        f"{role}.json": MetaFile.from_data(1, repository.raw(role, 1), ["sha256"])
        for role in signed
    }
    expires = when(clock) + LIFE[TrustRole.SNAPSHOT]
    snapshot = Metadata(Snapshot(expires=expires, meta=meta))
    snapshot.sign(signers[TrustRole.SNAPSHOT])
    repository.write(TrustRole.SNAPSHOT, snapshot)
    told = MetaFile.from_data(1, repository.raw(TrustRole.SNAPSHOT, 1), ["sha256"])
    expires = when(clock) + LIFE[TrustRole.TIMESTAMP]
    timestamp = Metadata(Timestamp(expires=expires, snapshot_meta=told))
    timestamp.sign(signers[TrustRole.TIMESTAMP])
    repository.write(TrustRole.TIMESTAMP, timestamp)
    for name in ROOT_KEYS:
        root.sign(signers[name], append=True)
    repository.write(TrustRole.ROOT, root)


def _root(signers: dict[str, CryptoSigner], clock: Clock) -> Root:
    top = (TrustRole.TARGETS, TrustRole.SNAPSHOT, TrustRole.TIMESTAMP)
    keys = [named(signers[name], name) for name in (*ROOT_KEYS, *top)]
    ids = {key.unrecognized_fields["x-fedmill-name"]: key.keyid for key in keys}
    roles = {str(role): Role([ids[role]], 1) for role in top}
    roles[str(TrustRole.ROOT)] = Role([ids[name] for name in ROOT_KEYS], THRESHOLD)
    return Root(
        expires=when(clock) + LIFE[TrustRole.ROOT],
        keys={key.keyid: key for key in keys},
        roles=roles,
        consistent_snapshot=True,
    )


def _targets(signers: dict[str, CryptoSigner], clock: Clock) -> Targets:
    keys = {role: named(signers[role], role) for role in DELEGATED}
    roles = {
        str(role): DelegatedRole(str(role), [keys[role].keyid], 1, terminating=True, paths=[paths])
        for role, paths in DELEGATED.items()
    }
    return Targets(
        expires=when(clock) + LIFE[TrustRole.TARGETS],
        delegations=Delegations({key.keyid: key for key in keys.values()}, roles),
    )
