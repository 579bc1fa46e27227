# SPDX-License-Identifier: Apache-2.0
"""How far a version is on its way to serving, on disk: written before each step is taken.

Whatever the moment of a power cut, the file names one version that serves, and the step that is to
be done again.
"""

from contextlib import suppress
from math import isfinite
from pathlib import Path

from msgspec import Struct, structs

from fedmill_agent import sealed
from fedmill_shared.errors import DataError, StoreError
from fedmill_shared.files import sha256, write_atomic
from fedmill_shared.messages import UNREADABLE, Evidence, InstallState, VersionNotice, encode

SLOTS_FILE = "slots.msgpack"
RELEASE = "release"
VERSION = "version"
"""Origins of what the coordinator sends; any other one is of this agent."""
LAST_WORDS = frozenset({InstallState.COMMITTED, InstallState.REJECTED, InstallState.ROLLED_BACK})
MOST_BROKEN = 64
"""Broken versions that are remembered, the newest."""
MOST_EVIDENCE = 16
LONGEST_NAME = 32


class Installation(Struct, frozen=True, kw_only=True):
    """One version on its way to serving.

    Attributes:
        release: number of the release; 0 for a version that comes without one.
        notice: the version, with every blob it is made of.
        origin: ``release``, ``version``, or what on this agent has made it.
        state: how far it is.
        since_ns: when ``state`` began, by the agent's clock.
        gate: where it was refused or gone back from.
        reason: the same for people; of a local one, until then, why it was made.
        evidence: what was measured so far, with units in the names.
        back: whether it is gone back to, and so compared with nothing.
        ended: how often in a row the agent was killed while it was tried.
    """

    release: int
    notice: VersionNotice
    origin: str
    state: InstallState
    since_ns: int
    gate: str = ""
    reason: str = ""
    evidence: Evidence = {}
    back: bool = False
    ended: int = 0

    @property
    def over(self) -> bool:
        """Whether its last word is said."""
        return self.state in LAST_WORDS

    @property
    def local(self) -> bool:
        """Whether it was made on this agent."""
        return self.origin not in (RELEASE, VERSION)

    @property
    def key(self) -> tuple[int, str]:
        """What it is called among those that are broken."""
        return self.release, self.notice.version if self.local else fingerprint(self.notice)

    def to(
        self, state: InstallState, now_ns: int, *, gate: str = "", reason: str = ""
    ) -> "Installation":
        """The same, in ``state`` since ``now_ns``; with a gate, that one has said no."""
        said = {"gate": gate, "reason": reason} if gate else {}
        return structs.replace(self, state=state, since_ns=now_ns, **said)

    def showing(self, evidence: Evidence) -> "Installation":
        """The same with more ``evidence``; what is measured again replaces what was.

        Messages have no place for what is no number.
        """
        told = [
            (name, value)
            for name, value in (self.evidence | evidence).items()
            if isfinite(value) and len(name) <= LONGEST_NAME
        ]
        return structs.replace(self, evidence=dict(told[-MOST_EVIDENCE:]))


class Slots(Struct, frozen=True, kw_only=True):
    """What serves, what is to, and what did.

    Attributes:
        along: whether what is followed serves, so that ``current`` need not be written down.
        current: what serves; None before the first.
        old: what served before it, and is gone back to.
        proven: whether ``current`` is committed, and may be gone back to itself.
        new: what came last, on its way or with its last word.
        told: what came last from the coordinator, if ``new`` is of this agent.
        release: the highest release that was taken on.
        offered: the newest followed version that was to serve as well.
        broken: releases and versions that are never to serve again, the newest last.
        unusable: versions that cannot even be trained from.
    """

    along: bool = True
    current: VersionNotice | None = None
    old: VersionNotice | None = None
    proven: bool = True
    new: Installation | None = None
    told: Installation | None = None
    release: int = 0
    offered: str = ""
    broken: tuple[tuple[int, str], ...] = ()
    unusable: tuple[str, ...] = ()

    @property
    def reported(self) -> Installation | None:
        """What the coordinator wants to know of."""
        return self.told if self.new is not None and self.new.local else self.new

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return self.new is not None and not self.new.over

    def following(self, new: Installation) -> "Slots":
        """``new`` is what is followed, and serves as it came."""
        same = self.current is not None and self.current.version == new.notice.version
        return structs.replace(
            self,
            along=True,
            current=new.notice,
            old=self.old if same else self.current,
            proven=True,
            new=new,
            told=None,
            offered=new.notice.version,
        )

    def offering(self, new: Installation, *, offered: str) -> "Slots":
        """``new`` comes from the coordinator, and is on its way."""
        return structs.replace(
            self, along=False, new=new, told=None, release=new.release, offered=offered
        )

    def proposing(self, new: Installation) -> "Slots":
        """``new`` is of this agent, and on its way."""
        return structs.replace(self, along=False, new=new, told=self.reported)

    def swapped(self, new: Installation, *, known: bool) -> "Slots":
        """``new`` serves; one that is ``known`` was gone back to, and leaves nothing behind it."""
        return structs.replace(
            self,
            along=False,
            current=new.notice,
            old=None if known else self.current if self.proven else self.old,
            proven=new.over,
            new=new,
        )

    def broke(self, installation: Installation) -> "Slots":
        """The same, and ``installation`` is not tried again."""
        others = tuple(each for each in self.broken if each != installation.key)
        return structs.replace(self, broken=(*others, installation.key)[-MOST_BROKEN:])


def fingerprint(notice: VersionNotice) -> str:
    """SHA-256 of a version with all it is made of, whatever the way that its weights come on."""
    bare = structs.replace(notice, delta=None, base="", evaluate=False, serve=True)
    return sha256(encode(bare))


def alike(one: VersionNotice | None, other: VersionNotice) -> bool:
    """Whether both are the same weights in the same graph; a version names its weights alone."""
    return one is not None and fingerprint(one) == fingerprint(other)


class SlotsFile:
    """Owns the file that the slots of one job are kept in."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is that of the versions; nothing is read."""
        self._path = folder / SLOTS_FILE

    def read(self) -> Slots | None:
        """What was written last; None where nothing ever was.

        Raises:
            DataError: it is damaged, and removed: what is followed or released tells what serves.
            StoreError: the disk fails.
        """
        try:
            return self.peek()
        except DataError:
            with suppress(OSError):  # it is read, and found damaged, once more
                self._path.unlink(missing_ok=True)
            raise

    def peek(self) -> Slots | None:
        """The same for whoever does not own the file: it stays, also where it is damaged.

        Raises:
            DataError: it is damaged.
            StoreError: the disk fails.
        """
        try:
            return sealed.opened(self._path, self._path.read_bytes(), Slots)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror}") from error
        except UNREADABLE as error:
            raise DataError(
                f"{self._path}: damaged: {error}",
                remedy="what the coordinator announces next tells again what is to be served",
            ) from error

    def write(self, slots: Slots) -> None:
        """Keep ``slots``.

        Raises:
            StoreError: the disk fails; the file is unchanged.
        """
        write_atomic(self._path, sealed.sealed(slots))
