# SPDX-License-Identifier: Apache-2.0
"""Bundles: software along with the rest, twice the same, and what an agent lays down of them."""

from pathlib import Path

import pytest
from tests.trusted import AGENT, SigningPlant

from fedmill_agent.trust.bundle import check
from fedmill_agent.trust.handover import hand_over
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.trust.bundle import Bundled, write_bundle
from fedmill_shared.errors import TrustError


class Rig(SigningPlant):
    """A plant that has signed a job, a configuration and a wheel."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sign_job()
        overlay = folder / "overlay.toml"
        overlay.write_text("[training]\nnice = 5\n")
        self.operator().set_config("all", overlay)
        wheel = folder / "fedmill-1.0-py3-none-any.whl"
        wheel.write_bytes(b"wheel" * 1000)
        self.operator("software").add_software(wheel)
        self.refresh()

    def write(self, name: str = "stick", **options: bool) -> Bundled:
        """Write a bundle."""
        blobs = Blobs(self.folder / "blobs")
        return write_bundle(self.repository, MemoryStore(), blobs, self.folder / name, **options)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A plant with something to carry."""
    return Rig(tmp_path)


class TestSoftware:
    def test_goes_along_if_asked(self, rig: Rig) -> None:
        """And is checked on the other side, where it lies."""
        assert rig.write().software == []
        assert rig.write("full", software=True).software == [
            "software/fedmill-1.0-py3-none-any.whl"
        ]
        checked = check(rig.folder / "full", rig.state, rig.root, AGENT)
        (path,) = checked.software
        assert path.read_bytes() == b"wheel" * 1000
        path.write_bytes(b"wheel" * 999 + b"weevi")
        with pytest.raises(TrustError, match="was changed"):
            check(rig.folder / "full", rig.state, rig.root, AGENT)


class TestHandingOver:
    def test_the_same_one_twice_is_one(self, rig: Rig) -> None:
        """It has the name of what it says."""
        rig.write()
        first = hand_over(check(rig.folder / "stick", rig.state, rig.root, AGENT), rig.state)
        again = hand_over(check(rig.folder / "stick", rig.state, rig.root, AGENT), rig.state)
        assert first == again
        assert [path.name for path in rig.places.imports.iterdir()] == [first.name]
        assert not (first / "targets" / "software").exists()

    def test_one_that_is_older_than_what_is_known_is_refused(self, rig: Rig) -> None:
        """A stick that was lying about for a while."""
        rig.write()
        rig.clock.seconds = 7200
        rig.checked()
        with pytest.raises(TrustError, match="version"):
            check(rig.folder / "stick", rig.state, rig.root, AGENT)

    def test_nothing_is_written_over(self, rig: Rig) -> None:
        """A stick may have other things on it."""
        rig.write()
        with pytest.raises(TrustError, match="is not empty"):
            rig.write()
