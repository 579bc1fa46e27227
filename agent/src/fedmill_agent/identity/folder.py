# SPDX-License-Identifier: Apache-2.0
"""The identity folder: files that belong together, and change together or not at all.

::

    identity/
        current -> 2            the identity in use: to rename this link is to change it
        2/                      key.pem  certificate.pem  ca.pem  facts.json
        next/                   key.pem  request.pem: what a certificate was asked for
        key.pem -> current/key.pem, and so on: names that stay, for configuration and people
        lock

A new identity is made whole in ``made``, and renamed to the next number, which decides. Whoever
comes next, after a kill -9 or a power cut at any moment, finishes what was decided and removes what
was not. A folder that somebody filled by hand has plain files instead of the links.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedmill_agent.identity.facts import Facts, read_facts
from fedmill_shared.errors import IdentityError, StoreError
from fedmill_shared.files import make_folder, sync_folder, write_atomic

KEY, CERTIFICATE, CA = "key.pem", "certificate.pem", "ca.pem"
FACTS, REQUEST = "facts.json", "request.pem"
NAMES = (KEY, CERTIFICATE, CA)
LARGEST_FILE = 65_536
_CURRENT, _NEXT, _MADE, _LOCK, _TEMPORARY = "current", "next", "made", "lock", ".current.tmp"
_PRIVATE = 0o600


class IdentityFolder:
    """Owns the folder of an agent's identity; see the module for what is in it."""

    def __init__(self, path: Path) -> None:
        """Nothing is made, and nothing read, before it is asked for."""
        self.path = path

    @property
    def number(self) -> int:
        """Which identity is in use, counted from 1; 0 where there is none."""
        try:
            name = (self.path / _CURRENT).readlink().name
        except OSError:
            return 0
        return int(name) if name.isascii() and name.isdecimal() else 0

    @property
    def current(self) -> Path:
        """Folder of the identity in use, if there is one."""
        return self.path / _CURRENT

    @property
    def next(self) -> Path:
        """Folder of the key that a certificate was, or will be, asked for."""
        return self.path / _NEXT

    @property
    def by_hand(self) -> bool:
        """Whether somebody put plain files here, and they are all there."""
        return self.number == 0 and all(
            (self.path / name).is_file() and not (self.path / name).is_symlink() for name in NAMES
        )

    def facts(self) -> Facts | None:
        """What is known of the identity in use; None where there is none.

        Raises:
            IdentityError: it is damaged.
        """
        return read_facts(self.current / FACTS)

    def serial(self) -> str:
        """Number of the certificate in use; empty where there is none, or it is damaged."""
        try:
            facts = self.facts()
        except IdentityError:
            return ""
        return facts.serial if facts is not None else ""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one who changes the folder; what a kill has left half done is done first.

        Raises:
            StoreError: the disk fails, or the folder belongs to somebody else.
        """
        with _told(make_folder(self.path)):
            handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._recover()
                yield
            finally:
                os.close(handle)

    def begin(self) -> Path:
        """Folder for a key and what asks for its certificate, made if there is none.

        Raises:
            StoreError: the disk fails.
        """
        with _told(self.path):
            self.next.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self.path)
        return self.next

    def put(self, key: Path, certificate: bytes, ca: bytes, facts: Facts) -> None:
        """Let this be the identity from now on, all of it or, if this is interrupted, none.

        ``key`` is the file that the certificate, in PEM like ``ca``, is for.

        Raises:
            StoreError: the disk fails; what was in use still is.
        """
        made = self.path / _MADE
        with _told(self.path):
            _remove(made)
            made.mkdir(mode=0o700)
            _copy_private(key, made / KEY)
            write_atomic(made / CERTIFICATE, certificate)
            write_atomic(made / CA, ca)
            write_atomic(made / FACTS, facts.encode())
            newest = max([self.number, *self._numbers()])
            made.rename(self.path / str(newest + 1))
            sync_folder(self.path)
            self._recover()

    def _recover(self) -> None:
        """Use the newest identity, which is whole because it has a number; drop all others."""
        newest = max(self._numbers(), default=0)
        if newest and newest != self.number:
            temporary = self.path / _TEMPORARY
            with suppress(FileNotFoundError):
                temporary.unlink()
            temporary.symlink_to(str(newest))
            temporary.replace(self.path / _CURRENT)
            sync_folder(self.path)
        if newest:
            self._name()
        for number in self._numbers():
            if number != newest:
                _remove(self.path / str(number))
        _remove(self.path / _MADE)
        asked = self.next / KEY
        if not asked.exists() or _same(asked, self.current / KEY):
            _remove(self.next)

    def _name(self) -> None:
        """Give each file the name that stays; what somebody put there by hand is in a number."""
        for name in NAMES:
            target = f"{_CURRENT}/{name}"
            link = self.path / name
            if link.is_symlink() and str(link.readlink()) == target:
                continue
            temporary = self.path / _TEMPORARY
            with suppress(FileNotFoundError):
                temporary.unlink()
            temporary.symlink_to(target)
            temporary.replace(link)
        sync_folder(self.path)

    def _numbers(self) -> list[int]:
        return [
            int(each.name)
            for each in self.path.iterdir()
            if each.name.isascii() and each.name.isdecimal() and not each.is_symlink()
        ]


def read_file(path: Path) -> bytes:
    """A small file whole, or its first ``LARGEST_FILE`` bytes and one more.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(LARGEST_FILE + 1)


def _copy_private(source: Path, target: Path) -> None:
    data = read_file(source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(target, flags, _PRIVATE), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _same(one: Path, other: Path) -> bool:
    try:
        return read_file(one) == read_file(other)
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    """Delete a folder of files; it may be gone already, or half gone."""
    try:
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()
    except FileNotFoundError:
        return


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{error.filename or path}: {error.strerror or error}",
            remedy="check free space and that the folder belongs to the service user",
        ) from error
