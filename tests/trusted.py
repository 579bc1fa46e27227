# SPDX-License-Identifier: Apache-2.0
"""A plant that signs, for tests of both sides: keys in a folder, a repository, and an agent's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import json
from tuf.api.metadata import Metadata

from fedmill_agent.trust.__main__ import check
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import Verified
from fedmill_coordinator.trust.founding import Founded, found
from fedmill_coordinator.trust.keeper import Keeper
from fedmill_coordinator.trust.keys import read_online, read_signer
from fedmill_coordinator.trust.operator import Operator
from fedmill_coordinator.trust.repository import Repository
from fedmill_shared.clock import SystemClock
from fedmill_shared.files import make_folder
from fedmill_shared.log import get_logger
from fedmill_shared.messages import BlobName, ReleaseNotice, VersionNotice
from fedmill_shared.trust import TrustRole

AGENT = "press-1"
JOB_FILE = """
[job]
name = "press"
[[signals]]
name = "vibration"
unit = "g"
rate_hz = 12000
[window]
length = 256
[labels]
classes = ["normal", "outer"]
[rollout]
release = "last"
"""


class Shifted(SystemClock):
    """The time, so many seconds from now; metadata has to be good by the true one."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        return super().now_ns() + round(self.seconds * 1e9)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return super().monotonic() + self.seconds


class SigningPlant:
    """Owns a repository with its keys, and the folders of one agent that trusts its first root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Shifted()
        self.repository = Repository(folder / "trust")
        self.online = folder / "keys"
        self.made: Founded = found(self.repository, folder / "sticks", self.online, self.clock)
        self.state = make_folder(folder / "agent")
        self.places = TrustPlaces(self.state)
        self.root = folder / "root.json"
        self.root.write_bytes(self.made.root.read_bytes())
        self.told: dict[str, bytes] = {}
        self.order: list[str] = []

    def key(self, name: str) -> Any:
        """The private key called so."""
        return read_signer(self.made.keys[name])

    def operator(self, name: str = "targets") -> Operator:
        """Who has this key."""
        return Operator(self.repository, self.key(name), self.clock)

    def keeper(self) -> Keeper:
        """The daemon's part; what it tells is in ``told``, and the names in ``order``."""

        def publish(name: str, data: bytes) -> None:
            self.order.append(name)
            self.told[name] = data
            if not data:
                del self.told[name]

        folders = self.repository.folder, self.online
        return Keeper(*folders, publish, self.clock, get_logger())

    def refresh(self) -> None:
        """Sign what is due with the daemon's keys."""
        with self.repository.alone():
            self.repository.refresh(read_online(self.online), self.clock)

    def sign_job(self, text: str = JOB_FILE) -> Path:
        """Sign a job file."""
        path = self.folder / "press.toml"
        path.write_text(text)
        self.operator().add_job(path, {})
        return path

    def deliver(self, change: Callable[[str, bytes], bytes] | None = None) -> None:
        """Bring all of the repository to the agent, each file after ``change``."""
        for path in sorted(self.repository.folder.rglob("*")):
            inside = path.relative_to(self.repository.folder)
            if path.is_file() and inside.parts[0] in ("metadata", "targets"):
                data = path.read_bytes()
                place = self.places.incoming / inside
                make_folder(place.parent)
                place.write_bytes(change(str(inside), data) if change is not None else data)

    def check(self) -> Verified:
        """What the agent's child says."""
        return check(self.state, self.root, AGENT)

    def checked(self) -> Verified:
        """What the agent's child says of all there is now."""
        self.refresh()
        self.deliver()
        return self.check()

    def forge(self, role: str, version: int, change: Callable[[Any], None], *keys: Any) -> None:
        """Write metadata of ``role`` into what came, changed and signed by ``keys``."""
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        newest = self.repository.raw(TrustRole(role))
        metadata: Metadata[Any] = Metadata.from_bytes(newest)
        metadata.signed.version = version
        change(metadata.signed)
        metadata.signatures.clear()
        for key in keys:
            metadata.sign(key, append=True)
        place = self.places.incoming / "metadata" / name
        make_folder(place.parent)
        place.write_bytes(metadata.to_bytes())


def digest_of(letter: str) -> str:
    """A digest that is easy to tell from others."""
    return letter * 64


def a_release(number: int = 1, *, job: str = "press", **fields: Any) -> ReleaseNotice:
    """A release of a version made of nothing much."""
    blob = BlobName(sha256=digest_of("b"), size=10)
    told: Mapping[str, Any] = {
        "job": job,
        "number": number,
        "version": digest_of("a"),
        "manifest": blob,
        "template": blob,
        "canary_inputs": blob,
        "canary_outputs": b"outputs",
        "snapshot": blob,
    }
    notice = VersionNotice(**{**told, **fields})
    return ReleaseNotice(job=job, release=number, notice=notice)


def content(path: Path) -> dict[str, Any]:
    """A metadata file as plain tables."""
    found: dict[str, Any] = json.decode(path.read_bytes())
    return found
