# SPDX-License-Identifier: Apache-2.0
"""Children that work with keys and certificates, so that the daemon never loads what that takes.

Each does one thing with a fixed command line and ends; what it found comes back as one message.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from fedmill_agent.identity.facts import Facts
from fedmill_shared.errors import IdentityError, StoreError
from fedmill_shared.messages import UNREADABLE

PATIENCE_SECONDS = 120.0
"""A gateway under load takes seconds to import cryptography; longer than this it never takes."""


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a child has to say.

    Attributes:
        facts: of the identity that is in use now.
        changed: whether that is another than before.
        payload: what is to be sent.
        error: what went wrong.
        remedy: what to do about it.
        disk: whether it was the disk.
    """

    facts: Facts | None = None
    changed: bool = False
    payload: bytes = b""
    error: str = ""
    remedy: str = ""
    disk: bool = False


class Children:
    """Starts them, one at a time; each call waits for its child, so none is for the loop."""

    def __init__(self, folder: Path, agent: str) -> None:
        """For the identity of ``agent`` in ``folder``."""
        self._place = (str(folder), agent)

    def ask(self) -> bytes:
        """A message that asks for a new certificate, signed with the key in use.

        Raises:
            IdentityError, StoreError: it cannot be made.
        """
        return self._run("ask").payload

    def take(self, certificate: bytes) -> Outcome:
        """Have ``certificate`` (PEM) checked and used.

        Raises:
            IdentityError: it is of no use.
            StoreError: the disk fails.
        """
        return self._run("take", given=certificate)

    def look(self) -> Facts | None:
        """What is in the folder; files that were put there by hand are taken over.

        Raises:
            IdentityError, StoreError: they are of no use.
        """
        return self._run("look").facts

    def look_at(self, certificate: Path, key: Path, ca: Path) -> Facts | None:
        """What is in files that somebody else cares for.

        Raises:
            IdentityError: they are of no use.
        """
        return self._run("look-at", str(certificate), str(key), str(ca)).facts

    def _run(self, verb: str, *more: str, given: bytes = b"") -> Outcome:
        # -P: nothing is imported from the folder that the daemon happens to run in
        command = [sys.executable, "-P", "-m", "fedmill_agent.identity"]
        outcome = read_outcome(_output([*command, verb, *self._place, *more], given))
        if outcome.error:
            kind = StoreError if outcome.disk else IdentityError
            raise kind(outcome.error, remedy=outcome.remedy)
        return outcome


def read_outcome(data: bytes) -> Outcome:
    """What a child wrote.

    Raises:
        IdentityError: it is nothing of that kind.
    """
    try:
        return msgspec.msgpack.decode(data, type=Outcome)
    except UNREADABLE as error:
        raise IdentityError(
            "the process that works with the certificate ended without a word",
            remedy="see what it wrote to this log",
        ) from error


def _output(command: Sequence[str], given: bytes) -> bytes:
    try:
        return subprocess.run(
            command, input=given, stdout=subprocess.PIPE, timeout=PATIENCE_SECONDS, check=False
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise IdentityError(
            f"the process that works with the certificate took over {PATIENCE_SECONDS:.0f} s",
            remedy="look what keeps this machine busy; it is tried again",
        ) from error
    except OSError as error:
        raise IdentityError(
            f"no process can be started to work with the certificate: {error.strerror}",
            remedy="look for free memory; it is tried again",
        ) from error
