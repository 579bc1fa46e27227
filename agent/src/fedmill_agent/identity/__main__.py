# SPDX-License-Identifier: Apache-2.0
"""Entry point of the daemon's children that work with keys and certificates.

::

    python -m fedmill_agent.identity ask|take|look FOLDER AGENT
    python -m fedmill_agent.identity look-at FOLDER AGENT CERTIFICATE KEY CA

``take`` reads a certificate (PEM) from its standard input. Each writes one ``Outcome`` to its
standard output and ends.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fedmill_agent.identity.children import Outcome
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.operations import (
    ask_for_renewal,
    authority,
    install,
    look,
    look_at,
)
from fedmill_shared.crypto.validity import LARGEST_CERTIFICATE_FILE
from fedmill_shared.errors import FedmillError, StoreError, UsageError


def outcome_of(arguments: Sequence[str], given: bytes, now_ns: int) -> Outcome:
    """Do what ``arguments`` ask for with what was ``given``; what went wrong is an outcome too."""
    try:
        return _done(arguments, given, now_ns)
    except FedmillError as error:
        disk = isinstance(error, StoreError)
        return Outcome(error=error.message, remedy=error.remedy, disk=disk)


def _done(arguments: Sequence[str], given: bytes, now_ns: int) -> Outcome:
    match arguments:
        case ["ask", path, agent]:
            return Outcome(payload=ask_for_renewal(IdentityFolder(Path(path)), agent))
        case ["take", path, agent]:
            folder = IdentityFolder(Path(path))
            facts, changed = install(folder, agent, given, authority(folder), now_ns)
            return Outcome(facts=facts, changed=changed)
        case ["look", path, agent]:
            return Outcome(facts=look(IdentityFolder(Path(path)), agent))
        case ["look-at", _, _, certificate, key, ca]:
            return Outcome(facts=look_at(Path(certificate), Path(key), Path(ca)))
    raise UsageError(f"these arguments are of no use: {list(arguments)}")


def main() -> int:
    """Do one thing; the exit code tells nothing that the outcome does not."""
    given = sys.stdin.buffer.read(LARGEST_CERTIFICATE_FILE + 1)
    outcome = outcome_of(sys.argv[1:], given, time.time_ns())
    sys.stdout.buffer.write(msgspec.msgpack.encode(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
