# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is to be sent blocks: one window for each agent, round and round."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fedmill_shared.link.blocks import TRANSFER_WINDOW

EVERYBODY = ""
"""Stands for all agents at once; no agent is called so."""
BLOBS_PER_AGENT = 8


@dataclass(frozen=True, slots=True)
class Turn:
    """Blocks ``indices`` of ``blob`` that ``agent`` is to be sent now."""

    agent: str
    blob: str
    indices: list[int]


class Turns:
    """Owns what agents wait for: of each agent at most ``BLOBS_PER_AGENT`` blobs, oldest first."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: dict[str, dict[str, list[int]]] = {}

    def ask(self, agent: str, blob: str, indices: Sequence[int]) -> None:
        """``agent`` lacks these blocks of ``blob``; what it lacked of it before is forgotten.

        One blob too many takes the place of the one that was asked for first.
        """
        mine = self._waiting.get(agent, {})
        if not indices:
            return
        if blob not in mine and len(mine) >= BLOBS_PER_AGENT:
            del mine[next(iter(mine))]
        mine[blob] = list(indices)
        self._waiting[agent] = mine

    def keep(self, blobs: Collection[str]) -> None:
        """Forget all that is asked for of other blobs."""
        kept = {
            agent: {blob: indices for blob, indices in mine.items() if blob in blobs}
            for agent, mine in self._waiting.items()
        }
        self._waiting = {agent: mine for agent, mine in kept.items() if mine}

    def next(self, limit: int) -> Turn | None:
        """The next turn, of a window and at most ``limit`` blocks; None if nobody waits."""
        if not self._waiting or limit < 1:
            return None
        agent = next(iter(self._waiting))
        mine = self._waiting.pop(agent)
        blob = next(iter(mine))
        indices, end = mine.pop(blob), min(limit, TRANSFER_WINDOW)
        if indices[end:]:
            mine[blob] = indices[end:]
        if mine:
            self._waiting[agent] = mine
        return Turn(agent, blob, indices[:end])
