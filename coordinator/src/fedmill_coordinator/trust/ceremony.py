# SPDX-License-Identifier: Apache-2.0
"""The next root: prepared on the server, signed on a laptop with each of two keys, and imported.

What is carried around is one small file. It counts once it has the signatures that both the root
before it and it itself ask for, so that nobody who has one key can lead the plant elsewhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, VerificationResult
from tuf.api.serialization import SerializationError

from fedmill_coordinator.trust.keys import NAME_FIELD, read_public
from fedmill_coordinator.trust.repository import LIFE, Repository, when
from fedmill_shared.clock import Clock
from fedmill_shared.errors import TrustError
from fedmill_shared.files import write_atomic
from fedmill_shared.trust import METADATA_LIMIT, TrustRole

TOP = (TrustRole.TARGETS, TrustRole.SNAPSHOT, TrustRole.TIMESTAMP)


def prepare(
    repository: Repository, out: Path, replace: Mapping[str, Path], clock: Clock
) -> Metadata[Root]:
    """Write the next root into ``out``, with nobody's signature yet.

    ``replace`` names keys, as ``trust status`` does, and the file of each one's successor.

    Raises:
        TrustError: there is no such key, or no key in such a file, or one that the root has
            already, or ``out`` is a file of something else.
        StoreError: ``out`` cannot be written.
    """
    if out.exists():
        read_root(out)  # nothing else is written over, least of all a key
    root = repository.root()
    root.signed.version += 1
    root.signed.expires = when(clock) + LIFE[TrustRole.ROOT]
    root.signatures.clear()
    for name, path in replace.items():
        _replace(root.signed, name, read_public(path, name))
    write_atomic(out, root.to_bytes())
    return root


def sign(file: Path, signer: CryptoSigner, *, shown: Metadata[Root] | None = None) -> int:
    """Add a signature to the root in ``file``, or to the one that was ``shown``; how many it has.

    Raises:
        TrustError: it is no root.
        StoreError: it cannot be written.
    """
    root = read_root(file) if shown is None else shown
    root.sign(signer, append=True)
    write_atomic(file, root.to_bytes())
    return len(root.signatures)


def take_in(repository: Repository, file: Path) -> Metadata[Root]:
    """Make the signed root in ``file`` the newest one.

    Raises:
        TrustError: it does not follow the newest one, or too few have signed it.
        StoreError: it cannot be written.
    """
    new = read_root(file)
    with repository.alone():
        old = repository.root()
        if new.signed.version != old.signed.version + 1:
            raise TrustError(
                f"{file}: is root {new.signed.version}, and the newest here is "
                f"{old.signed.version}",
                remedy="prepare it anew with `fedmill trust root prepare`",
            )
        for who, signed in (
            ("before", _result(old.signed, new)),
            ("itself", _result(new.signed, new)),
        ):
            if not signed.verified:
                names = ", ".join(sorted(_name(key) for key in signed.signed.values()))
                raise TrustError(
                    f"{file}: the root {who} wants {signed.threshold} signatures of its keys, "
                    f"and it has {len(signed.signed)} ({names or 'none'})",
                    remedy="sign it with `fedmill trust root sign` and one more of them",
                )
        repository.write(TrustRole.ROOT, new)
    return new


def read_root(file: Path) -> Metadata[Root]:
    """The root in ``file``; nobody has checked its signatures.

    Raises:
        TrustError: it cannot be read, or is no root.
    """
    try:
        with file.open("rb") as stream:
            found: Metadata[Root] = Metadata.from_bytes(stream.read(METADATA_LIMIT))
    except OSError as error:
        raise TrustError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (SerializationError, RepositoryError) as error:
        raise TrustError(f"{file}: is no metadata") from error
    if not isinstance(found.signed, Root):
        raise TrustError(f"{file}: is of {found.signed.type}, and no root")
    return found


def key_names(root: Root) -> dict[str, str]:
    """Names of the keys of a root, by their ids."""
    return {keyid: _name(cast("SSlibKey", key)) for keyid, key in root.keys.items()}


def _replace(root: Root, name: str, key: SSlibKey) -> None:
    names = key_names(root)
    old = next((keyid for keyid, each in names.items() if each == name), None)
    if old is None:
        raise TrustError(
            f"the root has no key called {name!r}",
            remedy="it has " + ", ".join(sorted(names.values())),
        )
    if key.keyid in root.keys:
        raise TrustError(
            f"the new key of {name} is the one of {names[key.keyid]}",
            remedy="make one of its own with `fedmill trust key`: each counts once",
        )
    roles = [role for role, each in root.roles.items() if old in each.keyids]
    for role in roles:
        root.revoke_key(old, role)
        root.add_key(key, role)


def _result(root: Root, new: Metadata[Root]) -> VerificationResult:
    return root.get_verification_result(TrustRole.ROOT, new.signed_bytes, new.signatures)


def _name(key: object) -> str:
    fields = getattr(key, "unrecognized_fields", {})
    return str(fields.get(NAME_FIELD, getattr(key, "keyid", "")[:16]))
