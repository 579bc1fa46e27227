# SPDX-License-Identifier: Apache-2.0
"""The child that checks: a real process, bounded in time, that may die at any point."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.trusted import AGENT, SigningPlant, a_release

from fedmill_agent.trust import child
from fedmill_agent.trust.child import Asked, run_child
from fedmill_agent.trust.verified import read_verified
from fedmill_shared.errors import TrustError


@pytest.fixture
def plant(tmp_path: Path) -> SigningPlant:
    """A plant that has signed a release, which the agent has been told."""
    plant = SigningPlant(tmp_path)
    plant.keeper().vouch(a_release())
    plant.deliver()
    return plant


def asked(plant: SigningPlant) -> Asked:
    """The plant's agent."""
    return Asked(plant.state, plant.root, AGENT)


class TestChild:
    def test_says_what_is_signed(self, plant: SigningPlant) -> None:
        """As a process of its own."""
        found = run_child(asked(plant))
        assert set(found.targets) == {"releases/press/1.json"}
        assert found == read_verified(plant.places.verified)

    def test_a_root_that_is_none_is_told(self, plant: SigningPlant) -> None:
        """With what to do about it."""
        plant.root.write_bytes(b"{}")
        found = run_child(asked(plant))
        assert found.word == "refused"
        assert "is no root that can be trusted" in found.error

    def test_nothing_is_imported_from_where_the_daemon_runs(
        self, plant: SigningPlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A person may have started it in a folder that others write to."""
        for name in ("tuf", "msgspec", "fedmill_agent"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')\n")
        monkeypatch.chdir(tmp_path)
        assert set(run_child(asked(plant)).targets) == {"releases/press/1.json"}

    def test_one_that_takes_too_long_is_ended(
        self, plant: SigningPlant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And what was signed before stays."""
        before = run_child(asked(plant))
        slow = plant.folder / "slow"
        slow.write_text("#!/bin/sh\nexec sleep 60\n")
        slow.chmod(0o700)
        monkeypatch.setattr(child.sys, "executable", str(slow))  # type: ignore[attr-defined]
        with pytest.raises(TrustError, match=r"not checked within 0\.1 s"):
            run_child(asked(plant), seconds=0.1)
        monkeypatch.setattr(child.sys, "executable", "/nowhere/python")  # type: ignore[attr-defined]
        with pytest.raises(TrustError, match="cannot be started"):
            run_child(asked(plant))
        assert read_verified(plant.places.verified) == before

    @pytest.mark.parametrize("call", range(1, 12))
    def test_one_that_is_killed_leaves_what_was_signed_before(
        self, plant: SigningPlant, call: int
    ) -> None:
        """Before each rename on its way; the next one gets there."""
        before = read_verified(plant.places.verified)
        killer = plant.folder / "killer.py"
        killer.write_text(
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "count = 0\n"
            "def hook(event, arguments):\n"
            "    global count\n"
            "    if event == 'os.rename':\n"
            "        count += 1\n"
            f"        if count == {call}: os.kill(os.getpid(), signal.SIGKILL)\n"
            "sys.addaudithook(hook)\n"
            "from fedmill_agent.trust.__main__ import main\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        command = [sys.executable, str(killer), str(plant.state), str(plant.root), AGENT]
        code = subprocess.run(command, check=False).returncode
        found = read_verified(plant.places.verified)
        assert code in (0, -9)
        if code:
            assert found == before
        assert set(run_child(asked(plant)).targets) == {"releases/press/1.json"}
