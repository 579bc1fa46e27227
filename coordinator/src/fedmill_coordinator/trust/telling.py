# SPDX-License-Identifier: Apache-2.0
"""What a root says, in lines for whoever is asked to sign it.

Names and ids of keys are written by whoever made the file. So each is told with a digest of the key
itself, and only that is compared.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Role, Root

from fedmill_coordinator.trust.ceremony import key_names
from fedmill_shared.files import sha256
from fedmill_shared.printable import printable

SHOWN = 16
"""Hexadecimal digits of a key's digest that people compare."""
LONGEST_NAME = 40


def told(root: Metadata[Root]) -> Iterator[str]:
    """Its version and term, who may sign for each role, and who seems to have signed it."""
    signed = root.signed
    yield f"root {signed.version}, good until {signed.expires.astimezone(UTC):%Y-%m-%d}"
    for role, each in signed.roles.items():
        keys = ", ".join(_called(signed, keyid) for keyid in each.keyids)
        yield f"  {printable(role)}: {each.threshold} of {keys}"
    by = ", ".join(_called(signed, keyid) for keyid in root.signatures)
    yield f"  signed by {by or 'nobody'} so far"


def changes(root: Root, before: Root) -> Iterator[str]:
    """What ``root`` makes another than it is in the root ``before`` it; nothing where it renews."""
    if root.version != before.version + 1:
        yield f"it does not follow root {before.version}"
    for role in sorted({*root.roles, *before.roles}):
        new, old = root.roles.get(role), before.roles.get(role)
        if new is None or old is None:
            yield f"role {printable(role)} {'goes' if new is None else 'comes'}"
            continue
        if new.threshold != old.threshold:
            yield f"{role}: {new.threshold} signatures are enough, before {old.threshold}"
        kept, come = _keys(before, old), _keys(root, new)
        yield from (f"{role}: {name} goes" for key, name in kept.items() if key not in come)
        yield from (f"{role}: {name} comes" for key, name in come.items() if key not in kept)


def fingerprint(key: Key) -> str:
    """What people compare of a public key."""
    return sha256(str(key.keyval.get("public", "")).encode())[:SHOWN]


def _keys(root: Root, role: Role) -> Mapping[str, str]:
    """Keys of a role as they are called, by their digests."""
    return {_digest(root, keyid): _called(root, keyid) for keyid in role.keyids}


def _called(root: Root, keyid: str) -> str:
    name = key_names(root).get(keyid, "a key that it does not name")[:LONGEST_NAME]
    return f"{printable(name)} ({_digest(root, keyid)})"


def _digest(root: Root, keyid: str) -> str:
    key = root.keys.get(keyid)
    return "?" if key is None else fingerprint(key)
