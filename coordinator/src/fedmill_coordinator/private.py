# SPDX-License-Identifier: Apache-2.0
"""Private keys: nobody but their owner may read them, wherever they lie."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from fedmill_shared.errors import IdentityError, TrustError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_private(
    path: Path,
    error: type[IdentityError | TrustError],
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Return if nobody but its owner may read the key in ``path``.

    What systemd hands over (``LoadCredential=``) lies in a folder that others cannot enter; its own
    bits may give the owner's group, root's, the right to read.

    Raises:
        IdentityError, TrustError: as ``error`` says: others may, or it cannot be found out.
    """
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        raise error(
            f"{path}: the key cannot be read: {problem.strerror or problem}",
            remedy="run this as the coordinator's user, and look whether the key is there",
        ) from problem
    forbidden = _OTHERS & ~stat.S_IRGRP if _is_credential(path, environment) else _OTHERS
    if mode & forbidden:
        raise error(
            f"{path}: others may read this key (mode {stat.S_IMODE(mode):04o})",
            remedy=f"chmod 600 {path}, and think of who may have read it",
        )


def _is_credential(path: Path, environment: Mapping[str, str]) -> bool:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent.resolve() == Path(str(folder)).resolve()
