# SPDX-License-Identifier: Apache-2.0
"""A process that is killed at any step of an installation: the old model serves, or the new one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agent.inference.installing import installation
from tests.agent.inference.installing.installation import DEAD, WINDOWS
from tests.agent.inference.installing.rig import Rig, near
from tests.agent.kit import Versions

from fedmill_shared.job_check import canonical
from fedmill_shared.messages import ReleaseNotice, encode

STEPS = 6
"""Offered, downloaded, verified, shadowing, soaking, committed."""


class Machine:
    """A folder with version 0 in service and all blobs of a release, good or bad."""

    def __init__(self, folder: Path, *, good: bool = True) -> None:
        versions = Versions()
        rig = Rig(folder, versions)
        self.folder, self.old = folder, rig.follow().version
        vector = near(versions.newest.vector)
        notice = rig.version(vector)
        if not good:
            vector[0] = float("nan")
            notice = rig.version(vector)
        self.new = notice.version
        for blob in versions.blobs.values():
            rig.shelf.put(blob)
        (folder / "job.json").write_bytes(canonical(rig.versions.job))
        release = ReleaseNotice(job="press", release=1, notice=notice)
        (folder / "release.msgpack").write_bytes(encode(release))

    def run(self, action: str, death: int = -1) -> dict[str, Any] | None:
        """Start a process; what it said, or None if it was killed."""
        words = [sys.executable, installation.__file__, str(self.folder), action, str(death)]
        done = subprocess.run(words, capture_output=True, check=False, timeout=60)
        if done.returncode == DEAD:
            return None
        assert done.returncode == 0, done.stderr.decode()
        said: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
        assert said["scored"] == 4 * WINDOWS
        return said


@pytest.mark.parametrize("death", range(2 * STEPS))
def test_a_release_is_served_in_the_end(tmp_path: Path, death: int) -> None:
    """Before or behind each write; the next start has a whole model at once, and goes on."""
    machine = Machine(tmp_path)
    assert machine.run("begin", death) is None
    said = machine.run("resume" if death else "begin")
    assert said is not None
    in_place = death > 2 * 4  # "soaking" is on disk: it was put in place right behind that
    assert said["first"] == (machine.new if in_place else machine.old)
    assert (said["last"], said["state"]) == (machine.new, "committed")


@pytest.mark.parametrize("death", [1, 4])
def test_a_poisoned_one_never_is(tmp_path: Path, death: int) -> None:
    """It is refused after the restart as it would have been before, once and for all."""
    machine = Machine(tmp_path, good=False)
    assert machine.run("begin", death) is None
    for action in ("resume", "begin"):
        said = machine.run(action)
        assert said is not None
        assert said["shown"] == [machine.old]
        assert said["state"] == "rejected"


def test_it_dies_twice(tmp_path: Path) -> None:
    """At a later step of what it went on with."""
    machine = Machine(tmp_path)
    for action, death in (("begin", 5), ("resume", 3), ("resume", 5)):
        assert machine.run(action, death) is None
    said = machine.run("resume")
    assert said is not None
    assert said["first"] in (machine.old, machine.new)
    assert (said["last"], said["state"]) == (machine.new, "committed")
    again = machine.run("begin")
    assert again is not None
    assert again["shown"] == [machine.new]
