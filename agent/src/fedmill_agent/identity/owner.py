# SPDX-License-Identifier: Apache-2.0
"""Root writes into a service's folder as that service, never as root.

So what it writes belongs to whom it should, and no link that the service has put there leads root
anywhere else. With ``DynamicUser=`` the folder is below one that only root may enter: it is entered
as root, and everything in it is reached from there.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder


@contextmanager
def as_owner(state: Path) -> Iterator[Path]:
    """Be the owner of the folder ``state`` if we are root; the path to use for it meanwhile.

    The folder is made if there is none. Whoever is not root stays who they are.

    Raises:
        StoreError: it cannot be made or used.
    """
    make_folder(state)
    owner = state.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield state
        return
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(state)
        if Path().stat().st_uid != owner.st_uid:
            raise StoreError(f"{state}: somebody exchanges this folder", remedy="run this again")
        with _acting(owner.st_uid, owner.st_gid):
            yield Path()
    finally:
        os.fchdir(before)
        os.close(before)


@contextmanager
def _acting(user: int, group: int) -> Iterator[None]:
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
