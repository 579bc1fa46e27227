# SPDX-License-Identifier: Apache-2.0
"""Which versions of the protocol this software speaks, and which one two sides have in common.

Each side tells the oldest and the newest version that it speaks. Version N interoperates with N-1,
so that a fleet can be upgraded one machine at a time; software further apart refuses each other
with a ``ProtocolError`` before it exchanges anything else.

======= ===========================================================================================
1       The first. Updates come whole behind their offer; a round that closes without an update has
        refused it.
2       Updates are asked for block by block, refused with a reason code, and may be used by a later
        round. Round notices tell time as seconds that are left, and may ask some agents only.
======= ===========================================================================================
"""

from fedmill_shared.errors import ProtocolError

OLDEST = 1
NEWEST = 2

MOST_AHEAD = 1 << 20
"""Releases by which one may be ahead of the newest that is known: of an agent that missed some, or
of a database that was restored from a backup. Numbers only go up, so one that is forged must not
leave all later ones behind: an agent passes over what is farther ahead, and the coordinator goes on
above whatever an agent may have taken on."""


def common(oldest: int, newest: int, *, who: str) -> int:
    """The newest version that we share with ``who``, which speaks ``oldest`` to ``newest``.

    Software of version 1 tells no newest; 0 stands for that.

    Raises:
        ProtocolError: there is none.
    """
    theirs = max(oldest, newest)
    shared = min(theirs, NEWEST)
    if shared < max(oldest, OLDEST):
        spoken = f"{oldest}" if theirs == oldest else f"{oldest} to {theirs}"
        older = "this side" if oldest > NEWEST else who
        raise ProtocolError(
            f"{who} speaks protocol {spoken}, this side {OLDEST} to {NEWEST}",
            remedy=f"upgrade {older}; neighbouring versions work together",
        )
    return shared
