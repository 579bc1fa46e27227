# SPDX-License-Identifier: Apache-2.0
"""What has come and nobody has checked: few files, each of bounded size, with names of ours."""

from contextlib import suppress
from pathlib import Path

from fedmill_agent.trust.places import TrustPlaces
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.log import Logger
from fedmill_shared.trust import (
    CONFIG_LIMIT,
    EVERYBODY,
    METADATA_LIMIT,
    MOST_ROOTS,
    config_of,
    config_path,
    file_name,
    in_folder,
    is_told,
    version_in,
)

KEPT = 4
"""Versions of a role that are kept: whoever sends a thousand fills no disk."""
TOLD_SECONDS = 60.0
WAITING_BYTES = 16 * METADATA_LIMIT
"""What may wait for the disk at once: all that a plant has, and no flood."""


class Arrivals:
    """Owns what came and is not on the disk yet: of each file the newest, and of all not much."""

    def __init__(self, clock: Clock, log: Logger) -> None:
        """Nothing waits."""
        self._clock = clock
        self._log = log
        self._waiting: dict[str, bytes] = {}
        self._bytes = 0
        self._taken = False
        self._told_due = 0.0

    def add(self, name: str, place: str, payload: bytes) -> bool:
        """Let what came as ``name`` wait for its ``place``; False, and told, if too much waits."""
        size = self._bytes - len(self._waiting.get(place, b"")) + len(payload)
        if size <= WAITING_BYTES:
            self._waiting[place], self._bytes = payload, size
            return True
        now = self._clock.monotonic()
        if now >= self._told_due:
            self._told_due = now + TOLD_SECONDS
            self._log.warning("trust.crowded", file=name)
        return False

    def take(self) -> tuple[str, bytes] | None:
        """What has waited longest, with its place; None if nothing waits, or one is not done."""
        if self._taken or not self._waiting:
            return None
        place = next(iter(self._waiting))
        payload = self._waiting.pop(place)
        self._bytes -= len(payload)
        self._taken = True
        return place, payload

    def done(self) -> None:
        """What was taken is written, or cannot be."""
        self._taken = False


def place_of(name: str, payload: bytes, agent: str) -> str:
    """Where below ``incoming`` what came as ``name`` belongs; empty where it is for others.

    Raises:
        FrameError: the name is none of ours, or it is too large or no metadata.
    """
    whose = config_of(name)
    if whose:
        if len(payload) > CONFIG_LIMIT:
            raise FrameError(f"{name} of {len(payload)} bytes exceeds {CONFIG_LIMIT}")
        mine = whose in (agent, EVERYBODY)
        return f"targets/{in_folder(config_path(whose), sha256(payload))}" if mine else ""
    if not is_told(name):
        raise FrameError(f"no metadata is called {name[:80]!r}")
    version = version_in(payload)
    if name.endswith(".root.json") and name != f"{version}.root.json":
        raise FrameError(f"{name} says that it is version {version}")
    return f"metadata/{file_name(name, version)}"


def keep(places: TrustPlaces, place: str, payload: bytes) -> None:
    """Put ``payload`` where it belongs, and let go of what is long outdated.

    Raises:
        StoreError: the disk fails.
    """
    path = places.incoming / place
    with suppress(OSError):
        if path.read_bytes() == payload:
            return
    make_folder(path.parent)
    write_atomic(path, payload)
    kind = path.name.partition(".")[2]
    alike = [each for each in path.parent.iterdir() if each.name.partition(".")[2] == kind]
    most = MOST_ROOTS if kind == "root.json" else KEPT
    for old in sorted(alike, key=_age)[most:]:
        with suppress(OSError):
            old.unlink()


def keep_all(places: TrustPlaces, folder: Path, agent: str) -> None:
    """Take in the metadata and configurations of a bundle.

    Raises:
        StoreError: the disk fails.
    """
    wanted = [*sorted(folder.glob("metadata/*.json"))]
    wanted += [
        path for who in (EVERYBODY, agent) for path in folder.glob(f"targets/config/*.{who}.toml")
    ]
    for path in wanted:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
        keep(places, str(path.relative_to(folder)), data)


def forget_roots(places: TrustPlaces, version: int) -> None:
    """Remove roots above ``version``: a false one would stand in the way of the true one."""
    for path in places.incoming.glob("metadata/*.root.json"):
        number = path.name.split(".")[0]
        if number.isdecimal() and int(number) > version:
            with suppress(OSError):
                path.unlink()


def _age(path: Path) -> float:
    with suppress(OSError):
        return -path.stat().st_mtime
    return 0.0
