# SPDX-License-Identifier: Apache-2.0
"""How far the audit logs of agents have come: kept here, where who steals a gateway has no hand.

An agent tells the head of its log with its state. A head that goes back, or is another one at the
same number, means that somebody has shortened that log or written it anew. Whether a longer log is
the same one, a head does not tell: earlier ones are kept too, and show it in a copy of that log.
"""

from pathlib import Path

from fedmill_shared.audit import Audit, NoAudit
from fedmill_shared.audit.entry import Head, parse_head
from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import StoreError, UsageError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.log import Logger

FOLDER = "audit-heads"
MOST_HEADS = 512
"""Heads of one agent that are kept; past that every second one of the older half goes."""
TOLD_SECONDS = 3600.0


class Anchors:
    """Owns a folder with one small file for each agent."""

    def __init__(
        self, folder: Path, log: Logger, audit: Audit | None = None, clock: Clock | None = None
    ) -> None:
        """``folder`` is made with the first head."""
        self._folder = folder
        self._log = log
        self._audit: Audit = NoAudit() if audit is None else audit
        self._known: dict[str, Head] = {}
        self._clock = clock or SystemClock()
        self._quiet: dict[str, float] = {}

    def hear(self, agent: str, told: str) -> None:
        """Take in what ``agent`` says of its log, ``N:HASH`` or nothing; a step back is an alarm.

        It is told once an hour at most: who goes back and forth all the time pushes nothing out of
        our own log by that.

        Raises:
            StoreError: it cannot be kept; the agent tells it again.
        """
        if not told:
            return
        head, known = parse_head(told), self._known.get(agent)
        if head == known:
            return
        heads = self.heads(agent)
        known = heads[-1] if heads else None
        if known is None or head.n > known.n:
            make_folder(self._folder)
            lines = [f"{each}\n" for each in _thinned([*heads, head])]
            write_atomic(self._folder / agent, "".join(lines).encode())
            known = head
        elif head != known and self._clock.monotonic() >= self._quiet.get(agent, 0.0):
            self._quiet[agent] = self._clock.monotonic() + TOLD_SECONDS
            self._log.error("audit.shortened", agent=agent, kept=str(known), told=told)
            self._audit.record(
                who=agent, what="audit.shortened", subject=agent, before=str(known), after=told
            )
        self._known[agent] = known

    def kept(self, agent: str) -> Head | None:
        """The furthest head that ``agent`` has told; None before the first.

        Raises:
            StoreError: it cannot be read.
        """
        heads = self.heads(agent)
        return heads[-1] if heads else None

    def heads(self, agent: str) -> list[Head]:
        """Heads that ``agent`` has told, oldest first; the last is the furthest.

        Raises:
            StoreError: they cannot be read.
        """
        path = self._folder / agent
        try:
            return [parse_head(line) for line in path.read_text(encoding="ascii").splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError, UsageError) as error:
            raise StoreError(
                f"{path}: cannot be read: {error}", remedy="restore it from a backup, or delete it"
            ) from error

    def forget(self, agent: str) -> None:
        """Begin anew with the next head of ``agent``, as after its disk was replaced."""
        (self._folder / agent).unlink(missing_ok=True)


def _thinned(heads: list[Head]) -> list[Head]:
    half = MOST_HEADS // 2
    return heads if len(heads) <= MOST_HEADS else [*heads[:-half:2], *heads[-half:]]
