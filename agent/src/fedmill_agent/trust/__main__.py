# SPDX-License-Identifier: Apache-2.0
"""The child: ``python -m fedmill_agent.trust STATE ROOT AGENT`` checks what has come, and ends.

What is signed goes into ``<state>/trust/verified.json``, or why it stays as it was. The exit code
is 0 where that could be written, whatever it says.
"""

import sys
from pathlib import Path

from msgspec import structs

from fedmill_agent.trust.checking import Check, Expired, Incomplete, now_ns
from fedmill_agent.trust.incoming import forget_roots
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import Verified, Word, read_verified, write_verified
from fedmill_shared.errors import FedmillError, TrustError


def check(state: Path, root: Path, agent: str) -> Verified:
    """Check what has come, and leave what is signed.

    Raises:
        StoreError: the disk fails; everything is as before.
    """
    places, now = TrustPlaces(state), now_ns()
    before = read_verified(places.verified)
    try:
        found = Check(root, places.metadata, places.incoming).run(before, agent, now)
    except TrustError as error:
        told = str(error)[:2000]
        if _word(error) == "refused":
            forget_roots(places, before.versions.get("root", 1))
        found = structs.replace(before, word=_word(error), error=told, attempted_ns=now)
    write_verified(places.verified, found)
    return found


def _word(error: TrustError) -> Word:
    if isinstance(error, Incomplete):
        return "incomplete"
    return "expired" if isinstance(error, Expired) else "refused"


def main(arguments: list[str]) -> int:
    """Check, and return the exit code."""
    state, root, agent = arguments
    try:
        check(Path(state), Path(root), agent)
    except FedmillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
