# SPDX-License-Identifier: Apache-2.0
"""Files of an identity change together or not at all, whenever the process is killed."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.agent.identity.scenarios import NEW, OLD, SCENARIOS, facts, marks, put

from fedmill_agent.identity.folder import CA, CERTIFICATE, FACTS, KEY, NAMES, IdentityFolder
from fedmill_shared.errors import IdentityError, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    """An identity folder that is not there yet."""
    return IdentityFolder(tmp_path / "identity")


class TestUse:
    def test_before_the_first(self, folder: IdentityFolder) -> None:
        """Nothing is known, and nothing is made by asking."""
        assert folder.number == 0
        assert folder.facts() is None
        assert not folder.by_hand
        assert not folder.path.exists()

    def test_one_follows_the_other(self, folder: IdentityFolder) -> None:
        """All files under the names that stay are of the newest; of those before nothing is left.

        The key can be read by its owner alone.
        """
        for number, mark in enumerate((OLD, NEW), start=1):
            put(folder, mark)
            assert folder.number == number
            assert folder.facts() == facts(mark)
            assert marks(folder.path) == {mark}
        names = {each.name for each in folder.path.iterdir()}
        assert names == {*NAMES, "current", "lock", "2"}
        assert stat.S_IMODE((folder.path / KEY).stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.current.stat().st_mode) == 0o700

    def test_another_request_survives(self, folder: IdentityFolder) -> None:
        """A key that waits for a certificate is not the one that got it: it goes on waiting."""
        put(folder, OLD)
        with folder.held():
            (folder.begin() / KEY).write_text("waiting")
            folder.put(folder.current / KEY, b"again", b"again", facts(NEW))
        assert (folder.path / KEY).read_text() == OLD
        assert (folder.path / CERTIFICATE).read_text() == "again"
        assert (folder.next / KEY).read_text() == "waiting"

    def test_a_link_that_points_nowhere(self, folder: IdentityFolder) -> None:
        """A folder that came back from a backup without its link, or with another, is put right."""
        put(folder, OLD)
        for target in ("7", "../elsewhere", ""):
            (folder.path / "current").unlink()
            if target:
                (folder.path / "current").symlink_to(target)
            with folder.held():
                assert folder.number == 1
            assert marks(folder.path) == {OLD}

    def test_damaged_facts(self, folder: IdentityFolder) -> None:
        """They are named."""
        put(folder, OLD)
        (folder.current / FACTS).write_text("{}")
        with pytest.raises(IdentityError, match=r"facts.json: damaged: .*agent"):
            folder.facts()


class TestByHand:
    def test_plain_files(self, folder: IdentityFolder) -> None:
        """All three are an identity, two are none; links of ours are no plain files."""
        folder.path.mkdir()
        for name in (KEY, CERTIFICATE):
            (folder.path / name).write_text(NEW)
            assert not folder.by_hand
        (folder.path / CA).write_text(NEW)
        assert folder.by_hand
        with folder.held():
            folder.put(folder.path / KEY, NEW.encode(), NEW.encode(), facts())
        assert not folder.by_hand
        assert marks(folder.path) == {NEW}
        assert (folder.path / KEY).is_symlink()


class TestFaults:
    def test_a_folder_of_somebody_else(
        self, folder: IdentityFolder, as_nobody: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """It is told, and whose it should be."""
        put(folder, OLD)
        told = "service user"
        with as_nobody(), pytest.raises(StoreError, match=told), folder.held():
            pass

    def test_a_lock_that_is_a_link(self, folder: IdentityFolder, tmp_path: Path) -> None:
        """Nobody has us open a file elsewhere."""
        folder.path.mkdir()
        (folder.path / "lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="lock"), folder.held():
            pass
        assert not (tmp_path / "elsewhere").exists()

    def test_a_full_disk(self, folder: IdentityFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was in use still is, and it works again once there is room."""
        put(folder, OLD)

        def full(_handle: int) -> None:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch, folder.held():
            (folder.begin() / KEY).write_text(NEW)
            patch.setattr(os, "fsync", full)
            with pytest.raises(StoreError, match="No space left"):
                folder.put(folder.next / KEY, NEW.encode(), NEW.encode(), facts(NEW))
        assert marks(folder.path) == {OLD}
        put(folder, NEW)
        assert marks(folder.path) == {NEW}


class TestKilled:
    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_at_each_step(self, scenario: str, tmp_path: Path) -> None:
        """What is found afterwards is one identity, and doing it again ends well.

        Real processes are killed by SIGKILL before each change that they make to the disk.
        """
        done = subprocess.run(
            [sys.executable, "-m", "tests.agent.identity.killing", scenario, str(tmp_path / "id")],
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert int(done.stdout) > 7
