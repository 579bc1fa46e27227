# SPDX-License-Identifier: Apache-2.0
"""When the daemon's part looks, signs, tells and warns; the clock is set by hand."""

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.trusted import SigningPlant, a_release

from fedmill_coordinator.trust import keeper as daemon
from fedmill_coordinator.trust.founding import found
from fedmill_coordinator.trust.keeper import (
    LOOK_SECONDS,
    RETRY_SECONDS,
    TELL_ALL_SECONDS,
    WARN_DAYS,
    WARN_SECONDS,
    Keeper,
)
from fedmill_coordinator.trust.repository import TIMESTAMP_EVERY, Repository
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.log import get_logger
from fedmill_shared.trust import TrustRole

HOUR = TIMESTAMP_EVERY.total_seconds()
DAY = 86_400.0


class Rig:
    """A keeper whose clock moves only when told to."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.repository = Repository(folder / "trust")
        self.online = folder / "keys"
        self.made = found(self.repository, folder / "sticks", self.online, self.clock)
        self.order: list[str] = []
        self.keeper = Keeper(
            self.repository.folder,
            self.online,
            lambda name, _: self.order.append(name),
            self.clock,
            get_logger(),
        )
        self.keeper.announce()
        self.order.clear()

    def wait(self, seconds: float) -> list[str]:
        """Time passes; what was told at the end of it."""
        self.order.clear()
        self.clock.advance(seconds)
        self.keeper.tick()
        return self.order

    def stamp(self) -> int:
        """Version of the timestamp."""
        return self.repository.timestamp().signed.version


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A keeper that has just told everything."""
    return Rig(tmp_path)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as logs:
        yield logs


def named(events: list[Any], name: str) -> list[Any]:
    """Events of one name."""
    return [each for each in events if each["event"] == name]


class TestLooking:
    def test_is_done_every_now_and_then(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each look reads all metadata from the disk."""
        looks: list[float] = []
        refresh = rig.repository.refresh

        def counted(*arguments: Any) -> bool:
            looks.append(rig.clock.monotonic())
            return refresh(*arguments)

        monkeypatch.setattr(rig.keeper._repository, "refresh", counted)
        for _ in range(100):
            rig.wait(LOOK_SECONDS / 10)
        assert len(looks) == 10

    def test_nothing_is_told_twice(self, rig: Rig) -> None:
        """Retained messages stay where they are."""
        for _ in range(10):
            assert rig.wait(LOOK_SECONDS) == []

    def test_all_is_told_every_hour(self, rig: Rig) -> None:
        """In the order that counts; whoever wrote over it is written over."""
        assert rig.wait(TELL_ALL_SECONDS - LOOK_SECONDS) == []
        told = rig.wait(LOOK_SECONDS)
        assert (told[0], told[-1]) == ("1.root.json", "timestamp.json")
        assert len(told) == 5


class TestSigning:
    def test_a_timestamp_is_signed_every_hour(self, rig: Rig) -> None:
        """Neither earlier nor later."""
        before = rig.stamp()
        rig.wait(HOUR - LOOK_SECONDS)
        assert rig.stamp() == before
        rig.wait(LOOK_SECONDS)
        assert rig.stamp() == before + 1

    def test_a_day_asleep_is_made_up_for_at_once(self, rig: Rig) -> None:
        """With one signature, not one for each hour."""
        before = rig.stamp()
        assert "timestamp.json" in rig.wait(DAY)
        assert rig.stamp() == before + 1

    @pytest.mark.parametrize(("days", "version"), [(3, 1), (4, 2)])
    def test_a_snapshot_is_signed_at_half_of_its_term(
        self, rig: Rig, days: int, version: int
    ) -> None:
        """So that there is time to mend what is wrong."""
        rig.wait(days * DAY)
        assert rig.repository.version(TrustRole.SNAPSHOT) == version

    @pytest.mark.parametrize(("days", "version"), [(44, 1), (46, 2)])
    def test_models_are_signed_at_half_of_their_term(
        self, rig: Rig, days: int, version: int
    ) -> None:
        """A plant that releases nothing for months goes on."""
        rig.wait(days * DAY)
        assert rig.repository.version(TrustRole.MODELS) == version


class TestFailing:
    def broken(self, rig: Rig) -> tuple[Path, bytes]:
        """Metadata that cannot be read, and what was in it."""
        path = rig.repository.path(TrustRole.MODELS, 1)
        data = path.read_bytes()
        path.write_bytes(b"{")
        return path, data

    def test_is_told_once_and_tried_seldom(self, rig: Rig, events: list[Any]) -> None:
        """For as long as it is the same fault."""
        path, data = self.broken(rig)
        for _ in range(5):
            rig.wait(RETRY_SECONDS)
        assert len(named(events, "trust.failed")) == 1
        path.write_bytes(data)
        before = rig.stamp()
        rig.wait(HOUR)
        assert rig.stamp() == before + 1

    def test_is_tried_again_later_only(self, rig: Rig) -> None:
        """A disk that is full is left alone for a while."""
        path, data = self.broken(rig)
        rig.wait(HOUR)
        path.write_bytes(data)
        before = rig.stamp()
        rig.wait(RETRY_SECONDS - 1)
        assert rig.stamp() == before
        rig.wait(1)
        assert rig.stamp() == before + 1

    def test_the_same_fault_after_a_good_time_is_told_again(
        self, rig: Rig, events: list[Any]
    ) -> None:
        """It is news."""
        for _ in range(2):
            path, data = self.broken(rig)
            rig.wait(RETRY_SECONDS)
            path.write_bytes(data)
            rig.wait(RETRY_SECONDS)
        assert len(named(events, "trust.failed")) == 2

    def test_damaged_metadata_of_software_ends_no_daemon(self, rig: Rig, events: list[Any]) -> None:
        """Which it looks at once a day, for its term."""
        rig.repository.path(TrustRole.SOFTWARE, 1).write_bytes(b"{")
        rig.wait(WARN_SECONDS)
        (event,) = named(events, "trust.failed")
        assert "software is damaged" in event["error"]

    def test_a_command_that_hangs_holds_up_nothing(
        self, rig: Rig, events: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody has stopped it with the folder in its hands."""
        monkeypatch.setattr(daemon, "PATIENCE_SECONDS", 0.0)
        with (rig.repository.folder / "lock").open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            rig.wait(LOOK_SECONDS)
            (event,) = named(events, "trust.failed")
            assert "another command holds the folder" in event["error"]
            with pytest.raises(StoreError, match="another command holds the folder"):
                rig.keeper.vouch(a_release())
        rig.keeper.vouch(a_release())


class TestWarning:
    @pytest.mark.parametrize("role", sorted(WARN_DAYS))
    def test_what_people_sign_is_warned_of_daily(
        self, rig: Rig, events: list[Any], role: TrustRole
    ) -> None:
        """From some days before its end on, with the command."""
        life = {TrustRole.TARGETS: 90}.get(role, 365)
        rig.wait((life - WARN_DAYS[role]) * DAY - HOUR)
        assert [each for each in named(events, "trust.expiring") if each["role"] == role] == []
        for _ in range(3):
            rig.wait(WARN_SECONDS)
            rig.wait(LOOK_SECONDS)
        warned = [each for each in named(events, "trust.expiring") if each["role"] == role]
        assert len(warned) == 3
        assert "fedmill trust" in warned[0]["remedy"]

    def test_what_the_daemon_signs_needs_nobody(self, rig: Rig, events: list[Any]) -> None:
        """It signs it itself."""
        for _ in range(80):
            rig.wait(DAY)
        roles = {each["role"] for each in named(events, "trust.expiring")}
        assert roles <= {TrustRole.TARGETS}


class TestOrder:
    def test_a_release_that_is_signed_again_changes_nothing(self, tmp_path: Path) -> None:
        """A restart between signing and telling."""
        plant = SigningPlant(tmp_path)
        plant.keeper().vouch(a_release())
        version = plant.repository.version(TrustRole.MODELS)
        again = plant.keeper()
        again.vouch(a_release())
        assert plant.repository.version(TrustRole.MODELS) == version
        assert plant.order[-1] == "timestamp.json"
