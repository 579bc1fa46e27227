# SPDX-License-Identifier: Apache-2.0
"""A slow disk: what is written comes into force later, and what comes meanwhile has its turn."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.agent.inference.installing.rig import Later, Rig, learned, near

from fedmill_agent.inference.installing.around import Proposal
from fedmill_agent.inference.installing.states import SlotsFile
from fedmill_shared.errors import ModelError, StoreError


@pytest.fixture
def disk() -> Later:
    """It writes when it is told to."""
    return Later()


@pytest.fixture
def rig(tmp_path: Path, disk: Later) -> Rig:
    """Version 0 serves."""
    rig = Rig(tmp_path, disk=disk)
    rig.follow()
    settle(rig)
    return rig


def settle(rig: Rig) -> None:
    """The disk comes to rest, and the coordinator answers what is asked."""
    disk, turns = rig.disk, 0
    assert isinstance(disk, Later)
    while disk.waiting or rig.asked:
        disk.finish()
        rig.answer()
        turns += 1
        assert turns < 1000, "it never comes to rest"


def written(rig: Rig) -> str:
    """State of what came last, as a restart would find it."""
    slots = SlotsFile(rig.shelf.folder).peek()
    return str(slots.new.state) if slots is not None and slots.new is not None else ""


class TestReleases:
    def test_windows_are_scored_while_each_step_is_written(self, rig: Rig, disk: Later) -> None:
        """Only what is on disk is told, and the swap comes with the last write."""
        first, notice = rig.deployment.followed, rig.version(learned(rig.versions, 1))
        rig.release(notice)
        told = []
        while disk.waiting or rig.asked:
            assert len(rig.live()) == 1
            told.append(str(rig.report.state))
            assert told[-1] == (written(rig) or "committed")
            assert rig.scores_with(
                notice if rig.report.release and told[-1] == "committed" else first
            )
            if disk.waiting:
                disk.work()
            rig.answer()
        assert [*dict.fromkeys(told)] == ["committed", "offered", "downloaded", "verified"]
        assert rig.scores_with(notice)
        assert rig.told == ("committed", "")

    def test_the_newest_wins_whatever_is_being_written(self, rig: Rig, disk: Later) -> None:
        """Three come in one moment; the first two go no further than their turn."""
        notices = [rig.version(learned(rig.versions, seed)) for seed in range(3)]
        for number, notice in enumerate(notices, 1):
            rig.release(notice, number)
        settle(rig)
        assert rig.scores_with(notices[-1])
        assert rig.report.release == 3
        rig.release(notices[0], 1)
        settle(rig)
        assert rig.report.release == 3

    def test_a_reminder_changes_nothing(self, rig: Rig, disk: Later) -> None:
        """The broker has retained it, and sends it again while it is begun with."""
        notice = rig.version(learned(rig.versions, 1))
        for _ in range(3):
            rig.release(notice)
        settle(rig)
        assert rig.scores_with(notice)
        assert rig.states().count("offered") == 1

    def test_a_flood_waits_nowhere(self, rig: Rig) -> None:
        """Behind a disk that hangs, all but a few are passed over, and that is told."""
        for number in range(1, 200):
            rig.release(rig.versions.notice(0), number)
        ignored = rig.journal.of("release.ignored")
        assert 100 < len(ignored) < 200
        assert "disk is slow" in ignored[0]["reason"]
        settle(rig)
        assert rig.report.state == "committed"

    def test_what_was_refused_is_not_the_one_behind_it(self, tmp_path: Path, disk: Later) -> None:
        """The verdict on one comes while the next is written: the next goes on."""
        later = Later()
        rig = Rig(tmp_path, background=later, disk=disk)
        rig.follow()
        while later.waiting or disk.waiting or rig.asked:
            later.finish()
            settle(rig)
        rig.release(rig.version(np.full_like(rig.versions.newest.vector, np.nan)), 1)
        settle(rig)
        assert len(later.waiting) == 1
        good = rig.version(learned(rig.versions, 2))
        rig.release(good, 2)
        later.work()  # its numbers are none, and release 2 is not on disk yet
        while later.waiting or disk.waiting or rig.asked:
            settle(rig)
            later.finish()
        assert rig.scores_with(good)
        assert rig.told == ("committed", "")


class TestTrial:
    def test_what_fails_in_its_trial_is_gone_back_from_once(
        self, tmp_path: Path, disk: Later
    ) -> None:
        """Every batch fails until the old one is back; that is one reason, and one end."""
        rig = Rig(tmp_path, disk=disk, soak_windows=50)
        first = rig.follow()
        settle(rig)
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice)
        settle(rig)
        assert rig.scores_with(notice)
        for _ in range(3):
            rig.installer.faulted(ModelError("a node fails"))
        settle(rig)
        assert rig.scores_with(first)
        assert rig.told == ("rolled_back", "soak")
        assert len(rig.journal.of("install.rolled_back")) == 1

    def test_one_that_is_going_back_commits_no_more(self, tmp_path: Path, disk: Later) -> None:
        """Its last window is good, and then one fails before that is written."""
        rig = Rig(tmp_path, disk=disk, soak_windows=5)
        rig.follow()
        settle(rig)
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice)
        settle(rig)
        rig.live(5)
        assert disk.waiting
        rig.installer.faulted(ModelError("a node fails"))
        settle(rig)
        assert rig.told in {("rolled_back", "soak"), ("committed", "")}
        assert written(rig) == rig.report.state
        assert rig.scores_with(notice) == (rig.report.state == "committed")


class TestRefresh:
    def test_the_old_one_scores_until_the_new_is_made(self, rig: Rig, disk: Later) -> None:
        """And whoever asked for it hears when it is."""
        session = rig.installer._stage.scoring.session
        done: list[int] = []
        rig.deployment.refresh(lambda: done.append(rig.live()[0].number))
        assert (rig.live()[0].number, done) == (0, [])
        settle(rig)
        assert done == [0]
        assert rig.installer._stage.scoring.session is not session

    def test_one_behind_another_version_is_of_that(self, rig: Rig, disk: Later) -> None:
        """What the trainer left is put into what serves by then."""
        rig.versions.advance()
        notice = rig.follow()
        rig.deployment.refresh()
        settle(rig)
        assert rig.scores_with(notice)

    def test_one_that_cannot_be_made_is_told(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What scored goes on, and whoever asked hears that it is over."""

        def no_room(_: object) -> None:
            raise MemoryError

        done: list[int] = []
        monkeypatch.setattr(rig.deployment.serving, "scoring", no_room)
        rig.deployment.refresh(lambda: done.append(rig.live()[0].number))
        settle(rig)
        assert done == [0]
        [told] = rig.journal.of("served.refused")
        assert "too little memory" in told["error"]

    def test_without_a_model_nothing_is_made(self, tmp_path: Path) -> None:
        """Who asked hears all the same."""
        done: list[int] = []
        Rig(tmp_path).deployment.refresh(lambda: done.append(1))
        assert done == [1]


class TestProposals:
    def test_waits_while_something_is_written(self, rig: Rig) -> None:
        """Whoever proposes is told so, and tries again."""
        vector = near(rig.versions.newest.vector)
        rig.release(rig.version(learned(rig.versions, 1)))
        assert not rig.installer.propose(Proposal("feedback", vector, "why"))
        assert not rig.installer.roll_back("why")
        settle(rig)
        assert rig.installer.propose(Proposal("feedback", vector, "why"))
        settle(rig)
        assert rig.deployment.served.version != rig.versions.notice().version

    def test_a_full_disk_delays_it(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """What serves goes on, and it is taken on once there is room."""

        def full(*_: object) -> None:
            raise StoreError("the disk is full")

        first = rig.deployment.served
        with monkeypatch.context() as fault:
            fault.setattr(rig.shelf, "put", full)
            proposal = Proposal("feedback", near(rig.versions.newest.vector), "why")
            assert rig.installer.propose(proposal)
            settle(rig)
        assert rig.scores_with(first)
        assert len(rig.journal.of("install.delayed")) == 1
        rig.clock.advance(10.0)
        rig.deployment.tick()
        settle(rig)
        assert not rig.scores_with(first)


class TestFollowing:
    def test_the_one_that_came_last_is_followed(self, tmp_path: Path, disk: Later) -> None:
        """Whatever is still with the disk of the one before."""
        rig = Rig(tmp_path, disk=disk)
        rig.follow()
        settle(rig)
        for seed in range(4):
            rig.versions.advance(seed=seed)
            rig.follow(serve=bool(seed % 2))
            if disk.waiting:
                disk.work()
        settle(rig)
        assert rig.deployment.followed.number == 4
        rig.start()
        settle(rig)
        assert rig.deployment.followed.number == 4

    def test_told_again_it_is_not_taken_twice(self, rig: Rig) -> None:
        """A reminder comes while it is written: what it says of evaluation counts."""
        rig.versions.advance()
        rig.follow()
        rig.follow(evaluate=True)
        settle(rig)
        assert rig.deployment.followed.evaluate
        assert len(rig.journal.of("version.installed")) == 2  # version 0 was one

    @given(data=st.data())
    @settings(max_examples=25)
    def test_whatever_comes_in_whatever_order_it_ends_in_order(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        """Versions, releases, faults and the disk: one serves, and a restart finds the same."""
        disk = Later()
        rig = Rig(tmp_path_factory.mktemp("rig"), disk=disk, soak_windows=2)
        rig.follow()
        release = 0
        for _ in range(data.draw(st.integers(3, 12))):
            match data.draw(st.sampled_from(["version", "release", "fault", "windows", "disk"])):
                case "version":
                    rig.versions.advance(seed=data.draw(st.integers(0, 5)))
                    rig.follow()
                case "release":
                    release += 1
                    seed = data.draw(st.integers(0, 2))
                    rig.release(rig.version(learned(rig.versions, seed)), release)
                case "fault":
                    rig.installer.faulted(ModelError("a node fails"))
                case "windows":
                    rig.live(2)
                case "disk" if disk.waiting:
                    disk.work()
        for _ in range(4):
            settle(rig)
            rig.live(4)
        settle(rig)
        served = rig.deployment.served
        assert served is not None
        assert rig.scores_with(served)
        assert rig.report.release in (0, release)
        assert rig.report.state in ("committed", "rolled_back", "rejected")
        before = structs.asdict(rig.installer._ledger.slots)
        rig.start()
        settle(rig)
        assert rig.scores_with(served)
        after = structs.asdict(rig.installer._ledger.slots)
        assert {name: after[name] for name in ("current", "release", "broken")} == {
            name: before[name] for name in ("current", "release", "broken")
        }
