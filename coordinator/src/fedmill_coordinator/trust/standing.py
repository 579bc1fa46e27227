# SPDX-License-Identifier: Apache-2.0
"""How a repository stands: versions, terms, keys, and what is signed."""

from datetime import datetime
from typing import cast

from msgspec import Struct
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root, Targets

from fedmill_coordinator.trust.ceremony import key_names
from fedmill_coordinator.trust.keys import NAME_FIELD
from fedmill_coordinator.trust.repository import SIGNED_BY_TARGETS, Repository
from fedmill_shared.trust import TrustRole


class RoleStanding(Struct, frozen=True, kw_only=True):
    """One role.

    Attributes:
        role: its name.
        version: of its newest metadata.
        expires: when that is no longer good, as in ISO 8601.
        days_left: until then; negative once it is over.
        threshold: signatures that it takes.
        keys: names of its keys.
        signs: who holds them.
        targets: what it signs, where it signs targets.
    """

    role: str
    version: int
    expires: str
    days_left: float
    threshold: int
    keys: list[str]
    signs: str
    targets: list[str] = []


SIGNS = {
    TrustRole.ROOT: "the owner, offline",
    TrustRole.TARGETS: "the operator",
    TrustRole.SOFTWARE: "whom the software comes from",
    TrustRole.MODELS: "the coordinator",
    TrustRole.SNAPSHOT: "the coordinator",
    TrustRole.TIMESTAMP: "the coordinator, hourly",
}


def standing(repository: Repository, now: datetime) -> list[RoleStanding]:
    """Every role of a repository.

    Raises:
        TrustError: something of it is missing or damaged.
    """
    root, targets = repository.root().signed, repository.targets().signed
    signed = {
        TrustRole.ROOT: root,
        TrustRole.TARGETS: targets,
        TrustRole.SOFTWARE: repository.targets(TrustRole.SOFTWARE).signed,
        TrustRole.MODELS: repository.targets(TrustRole.MODELS).signed,
        TrustRole.SNAPSHOT: repository.snapshot().signed,
        TrustRole.TIMESTAMP: repository.timestamp().signed,
    }
    found = []
    for role, each in signed.items():
        threshold, keys = _keys(role, root, targets)
        found.append(
            RoleStanding(
                role=role,
                version=each.version,
                expires=each.expires.isoformat(),
                days_left=round((each.expires - now).total_seconds() / 86400, 2),
                threshold=threshold,
                keys=keys,
                signs=SIGNS[role],
                targets=sorted(each.targets) if isinstance(each, Targets) else [],
            )
        )
    return found


def _keys(role: TrustRole, root: Root, targets: Targets) -> tuple[int, list[str]]:
    if role not in SIGNED_BY_TARGETS:
        names, top = key_names(root), root.roles[role]
        return top.threshold, [names[each] for each in top.keyids]
    delegations = targets.delegations
    if delegations is None or not delegations.roles or role not in delegations.roles:
        return 0, []
    delegated = delegations.roles[role]
    keys = [cast("SSlibKey", delegations.keys[each]) for each in delegated.keyids]
    return delegated.threshold, [
        str(key.unrecognized_fields.get(NAME_FIELD, key.keyid[:16])) for key in keys
    ]
