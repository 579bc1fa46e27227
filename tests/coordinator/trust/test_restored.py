# SPDX-License-Identifier: Apache-2.0
"""A repository from a backup: agents that saw what came after it follow all the same."""

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.trusted import SigningPlant, a_release

from fedmill_coordinator.trust.repository import LEAP, LEAP_FILE
from fedmill_shared.errors import StoreError
from fedmill_shared.trust import TrustRole


class Restored(SigningPlant):
    """A plant that released three times, with the folder as it was after the first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        keeper, self.saved = self.keeper(), folder / "saved"
        for number in (1, 2, 3):
            keeper.vouch(a_release(number))
            if number == 1:
                shutil.copytree(self.repository.folder, self.saved)
        assert self.checked().word == ""
        self.put_back()

    def put_back(self) -> None:
        """As it was after the first."""
        shutil.rmtree(self.repository.folder)
        shutil.copytree(self.saved, self.repository.folder)


class TestRestored:
    def test_agents_refuse_what_is_older(self, tmp_path: Path) -> None:
        """As they must: nobody can tell it from an attack."""
        plant = Restored(tmp_path)
        plant.keeper().vouch(a_release(4))
        assert plant.checked().word == "refused"

    def test_versions_leap_once(self, tmp_path: Path) -> None:
        """A restore leaves word: those of the daemon pass whatever agents have seen."""
        plant = Restored(tmp_path)
        (plant.repository.folder / LEAP_FILE).touch()
        plant.keeper().tick()
        found = plant.checked()
        assert found.word == ""
        assert {role for role, version in found.versions.items() if version > LEAP} == {
            "timestamp",
            "snapshot",
            "models",
        }
        plant.keeper().vouch(a_release(4))
        leapt, found = found.versions["snapshot"], plant.checked()
        assert (found.word, "releases/press/4.json" in found.targets) == ("", True)
        assert plant.repository.version(TrustRole.SNAPSHOT) == leapt + 1

    def test_a_word_that_cannot_be_taken_away(self, tmp_path: Path) -> None:
        """An error that is told, and nothing that ends; what was signed is good."""
        plant = Restored(tmp_path)
        word = plant.repository.folder / LEAP_FILE
        word.mkdir()
        with capture_logs() as logs:
            plant.keeper().tick()
        assert [each["event"] for each in logs] == ["trust.failed"]
        assert "leap: cannot be removed" in logs[0]["error"]
        word.rmdir()
        assert plant.checked().word == ""

    def test_nor_does_it_drive_versions_up(self, tmp_path: Path) -> None:
        """A million at each try would soon be more than agents take; releases go on."""
        plant = Restored(tmp_path)
        word = plant.repository.folder / LEAP_FILE
        word.mkdir()
        keeper = plant.keeper()
        with pytest.raises(StoreError, match="leap: cannot be removed"):
            keeper.vouch(a_release(4))
        leapt = plant.repository.version(TrustRole.MODELS)
        for number in (4, 5, 6):
            keeper.vouch(a_release(number))
        assert plant.repository.version(TrustRole.MODELS) == leapt + 2
        word.rmdir()
        found = plant.checked()
        assert (found.word, "releases/press/6.json" in found.targets) == ("", True)

    def test_the_same_backup_once_more(self, tmp_path: Path) -> None:
        """What agents saw since the first restore is passed, too."""
        plant = Restored(tmp_path)
        (plant.repository.folder / LEAP_FILE).touch()
        for number in (4, 5, 6):
            plant.keeper().vouch(a_release(number))
        assert plant.checked().word == ""
        plant.clock.seconds += 600
        plant.put_back()
        (plant.repository.folder / LEAP_FILE).touch()
        plant.keeper().vouch(a_release(7))
        found = plant.checked()
        assert (found.word, "releases/press/7.json" in found.targets) == ("", True)

    def test_a_clock_that_is_behind(self, tmp_path: Path) -> None:
        """As of a machine that was just set up, with a backup from after a restore."""
        plant = Restored(tmp_path)
        (plant.repository.folder / LEAP_FILE).touch()
        plant.keeper().tick()
        shutil.rmtree(plant.saved)
        shutil.copytree(plant.repository.folder, plant.saved)
        plant.keeper().vouch(a_release(4))
        assert plant.checked().word == ""
        plant.clock.seconds = -3600
        plant.put_back()
        (plant.repository.folder / LEAP_FILE).touch()
        plant.keeper().vouch(a_release(5))
        found = plant.checked()
        assert (found.word, "releases/press/5.json" in found.targets) == ("", True)
