# SPDX-License-Identifier: Apache-2.0
"""A stick with a whole bundle on it: metadata, a job, a release with its blobs, configuration."""

from pathlib import Path

from tests.trusted import AGENT, SigningPlant, a_release

from fedmill_agent.trust.bundle import Checked, check
from fedmill_agent.trust.handover import hand_over
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.trust.bundle import write_bundle
from fedmill_shared.files import make_folder, sha256
from fedmill_shared.job_check import canonical, load_job
from fedmill_shared.messages import BlobName, JobNotice, ReleaseNotice, encode

PARTS = {
    "manifest": b"manifest",
    "template": b"template" * 100,
    "canary_inputs": b"inputs" * 50,
    "snapshot": b"weights" * 2000,
}
"""What the release on the stick is made of."""


def notice_of(number: int = 1) -> ReleaseNotice:
    """A release that is made of ``PARTS``."""
    blobs = {name: BlobName(sha256=sha256(data), size=len(data)) for name, data in PARTS.items()}
    return a_release(number, **blobs)


class Stick(SigningPlant):
    """Owns a plant that has signed all this, and a folder with the bundle of it."""

    def __init__(self, folder: Path, *, number: int = 1) -> None:
        super().__init__(folder)
        self.number = number
        self.job = self.sign_job()
        overlay = folder / "overlay.toml"
        overlay.write_text("[training]\nnice = 5\n")
        self.operator().set_config("all", overlay)
        wheel = folder / "fedmill-1.0-py3-none-any.whl"
        wheel.write_bytes(b"wheel" * 1000)
        self.operator("software").add_software(wheel)
        self.keeper().vouch(notice_of(number))
        self.stick = folder / "stick"
        self.write(self.stick)

    def write(self, out: Path, *, software: bool = False) -> None:
        """Write a bundle of all that is signed."""
        self.refresh()
        blobs = Blobs(self.folder / "blobs")
        write_bundle(self.repository, MemoryStore(), blobs, out, software=software)
        text = canonical(load_job(self.job))
        job = JobNotice(job="press", text=text, state="running")
        (out / "notices" / "press.job").write_bytes(encode(job))
        (out / "notices" / "press.release").write_bytes(encode(notice_of(self.number)))
        make_folder(out / "blobs")
        for data in PARTS.values():
            (out / "blobs" / sha256(data)).write_bytes(data)

    def checked(self) -> Checked:  # type: ignore[override]  the stick's, and not the repository's
        """The stick, checked as the agent does."""
        return check(self.stick, self.state, self.root, AGENT)

    def handed_over(self) -> Path:
        """The stick, checked and handed over."""
        return hand_over(self.checked(), self.state)

    def blob(self, part: str) -> Path:
        """Where a part of the release lies on the stick."""
        return self.stick / "blobs" / sha256(PARTS[part])
