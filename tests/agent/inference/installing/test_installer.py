# SPDX-License-Identifier: Apache-2.0
"""Which version scores: what is followed, what is released, and what this agent has made."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.agent.inference.installing.rig import Later, Rig, learned, near

from fedmill_agent.inference.assembly import Assembly
from fedmill_agent.inference.bringing import RETRY_SECONDS
from fedmill_agent.inference.installing import states
from fedmill_agent.inference.installing.around import Proposal
from fedmill_agent.inference.shelf import KEPT_VERSIONS
from fedmill_shared.errors import ModelError, StoreError
from fedmill_shared.job import Serving as Wanted
from fedmill_shared.messages import ReleaseNotice, VersionNotice
from fedmill_shared.models.manifest import vector_bytes, version_of


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Version 0 is followed and serves, at once."""
    rig = Rig(tmp_path)
    rig.follow()
    return rig


class TestAlong:
    def test_what_is_followed_serves_at_once(self, rig: Rig) -> None:
        """By default: no gate takes time, nothing more is written, and nobody hurries."""
        files = sorted(path.name for path in rig.shelf.folder.iterdir())
        assert "slots.msgpack" not in files
        for seed in range(3):
            rig.versions.advance(seed=seed)
            notice = rig.follow()
            assert rig.scores_with(notice)
            assert (rig.told, rig.report.release) == (("committed", ""), 0)
        assert not (rig.shelf.folder / "slots.msgpack").exists()
        assert rig.hurried == 0
        rig.start()
        assert rig.scores_with(notice)
        assert (rig.told, rig.report.release) == (("committed", ""), 0)

    def test_one_that_is_not_to_serve_is_only_followed(self, rig: Rig) -> None:
        """Rounds go on from it; what scores stays, also after a restart."""
        first = rig.deployment.followed
        assert first is not None
        rig.release(first)
        rig.versions.advance()
        second = rig.follow(serve=False)
        assert rig.deployment.followed == second
        assert rig.deployment.weights_path().endswith(f"{second.version}.blob")
        assert rig.scores_with(first)
        assert [fields["number"] for fields in rig.journal.of("version.followed")] == [1]
        rig.start()
        assert rig.deployment.followed == second
        assert rig.scores_with(first)

    def test_what_serves_stays_where_the_next_is_not_to(self, rig: Rig) -> None:
        """The job serves releases from now on: what served is put down before it is left."""
        first = rig.deployment.followed
        rig.versions.advance()
        second = rig.follow(serve=False)
        rig.start()
        assert rig.scores_with(first)
        assert rig.deployment.followed == second
        third = structs.replace(second, serve=True)
        rig.deployment.announce(third, retained=True)
        assert rig.scores_with(third)
        rig.start()
        assert rig.scores_with(third)

    def test_without_a_release_nothing_serves(self, tmp_path: Path) -> None:
        """A job that serves releases only trains until there is one."""
        rig = Rig(tmp_path)
        notice = rig.follow(serve=False)
        assert rig.deployment.followed == notice
        assert rig.live() == []
        assert rig.installer.report() is None
        rig.release(notice)
        assert rig.scores_with(notice)

    def test_a_useless_version_is_neither(self, rig: Rig) -> None:
        """It is told, and not fetched again, not even after a restart."""
        first = rig.deployment.followed
        vector = learned(rig.versions, 1)
        vector[0] = np.nan
        poisoned = rig.version(vector)
        for serve in (True, False):
            notice = structs.replace(poisoned, serve=serve)
            rig.deployment.announce(notice, retained=True)
            rig.answer()
            assert rig.deployment.followed == first
        assert rig.told == ("rejected", "numbers")
        assert "no finite numbers" in rig.report.reason
        rig.start()
        rig.deployment.announce(poisoned, retained=True)
        assert rig.asked == []
        assert rig.told == ("rejected", "numbers")


class TestReleases:
    def test_goes_through_all_states(self, rig: Rig) -> None:
        """Each is told at once; the model is another from the next window on."""
        rig.versions.advance()
        notice = rig.versions.notice()
        before = rig.live(seed=1)
        rig.journal.entries.clear()
        rig.release(notice)
        assert rig.states() == ["offered", "downloaded", "verified", "committed"]
        assert rig.hurried == 4
        assert rig.scores_with(notice)
        assert rig.live(seed=1)[0].outputs.tolist() != before[0].outputs.tolist()
        assert rig.report.release == 1

    def test_numbers_only_go_up(self, rig: Rig) -> None:
        """A lower one, or another version under the same number, changes nothing."""
        first, vectors = rig.deployment.followed, [learned(rig.versions, seed) for seed in (1, 2)]
        one, other = (rig.version(vector) for vector in vectors)
        rig.release(one, 5)
        rig.release(other, 4)
        rig.release(other, 5)
        assert rig.scores_with(one)
        assert len(rig.journal.of("release.ignored")) == 1
        rig.release(other, 6)
        assert rig.scores_with(other)
        assert first is not None
        rig.release(first, 7)  # the coordinator goes back
        assert rig.scores_with(first)

    def test_the_same_again_is_nothing_new(self, rig: Rig) -> None:
        """Another ring was opened, or the broker has kept it."""
        notice = rig.version(learned(rig.versions, 1))
        rig.release(notice)
        rig.states()
        rig.release(notice, agents=["a", "b"])
        rig.start()
        rig.release(notice)
        assert rig.states() == []
        assert rig.scores_with(notice)

    def test_of_what_serves_needs_nothing(self, rig: Rig) -> None:
        """The very bytes: committed at once, without a session or a measurement."""
        first = rig.deployment.followed
        assert first is not None
        rig.release(first, 3)
        assert (rig.told, rig.report.release) == (("committed", ""), 3)

    def test_its_delta_is_enough(self, rig: Rig) -> None:
        """On a base that is here; otherwise it is fetched whole, which is no reason to refuse."""
        rig.versions.advance()
        notice = rig.versions.notice()
        rig.deployment.release(release_of(notice, 1), retained=True)
        assert [request.blob for request in rig.asked] == [notice.delta.sha256]
        rig.answer()
        rig.versions.advance(seed=1)
        rig.versions.advance(seed=2)
        later = rig.versions.notice()
        rig.deployment.release(release_of(later, 2), retained=True)
        assert [request.blob for request in rig.asked] == [later.snapshot.sha256]
        rig.answer()
        assert rig.scores_with(later)

    def test_a_newer_one_ends_what_is_on_its_way(self, tmp_path: Path) -> None:
        """What was being measured comes too late."""
        later = Later()
        rig = Rig(tmp_path, background=later)
        rig.follow()
        later.finish()
        one, other = (rig.version(learned(rig.versions, seed)) for seed in (1, 2))
        rig.release(one, 1)
        rig.release(other, 2)
        later.finish()
        assert rig.scores_with(other)
        assert rig.report.release == 2

    def test_both_wait_for_the_same_broadcast(self, rig: Rig) -> None:
        """A version that is followed and released at once is not asked for twice."""
        rig.versions.advance()
        notice = structs.replace(rig.versions.notice(), serve=False)
        rig.deployment.announce(notice, retained=False)
        rig.deployment.release(release_of(notice, 1), retained=False)
        assert rig.asked == []
        rig.clock.advance(1.0)
        rig.deployment.tick()
        rig.answer()
        assert rig.deployment.followed == notice
        assert rig.scores_with(notice)

    def test_the_shelf_keeps_what_serves(self, rig: Rig) -> None:
        """However many versions are followed meanwhile."""
        notice = rig.version(learned(rig.versions, 1))
        rig.release(notice)
        for seed in range(KEPT_VERSIONS + 3):
            rig.versions.advance(seed=seed)
            rig.follow(serve=False)
        rig.start()
        assert rig.scores_with(notice)

    def test_what_served_and_is_lost_is_fetched_again(self, rig: Rig) -> None:
        """The model before it serves meanwhile."""
        first = rig.deployment.followed
        assert first is not None
        notice = rig.version(learned(rig.versions, 1))
        rig.release(notice)
        rig.shelf.path(notice.version).write_bytes(b"rust")
        rig.start()
        assert rig.scores_with(first)
        rig.answer()
        assert rig.scores_with(notice)

    def test_a_damaged_book_is_forgotten(self, rig: Rig) -> None:
        """The next release tells what is to be served."""
        notice = rig.version(learned(rig.versions, 1))
        rig.release(notice)
        (rig.shelf.folder / states.SLOTS_FILE).write_bytes(b"rust")
        rig.start()
        assert len(rig.journal.of("install.forgotten")) == 1
        assert rig.scores_with(rig.deployment.followed)
        rig.release(notice)
        assert rig.scores_with(notice)

    def test_a_release_is_not_undone_by_what_was_followed(self, rig: Rig) -> None:
        """Neither what served along, nor what waited, comes back with a restart."""
        poisoned = rig.version(np.full(61, np.nan, np.float32))
        rig.deployment.announce(poisoned, retained=True)
        rig.answer()
        rig.versions.advance()
        rig.follow()
        notice = rig.version(learned(rig.versions, 1))
        rig.release(notice)
        rig.start()
        assert rig.scores_with(notice)

    def test_a_refused_start_forgets_nothing(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Newer software cannot use what is followed: what serves serves on."""
        notice = rig.version(learned(rig.versions, 1))
        rig.release(notice)
        rig.versions.advance()
        rig.follow(serve=False)

        def fail(*_: object) -> None:
            raise ModelError("not with this software")

        with monkeypatch.context() as software:
            software.setattr(Assembly, "sound", fail)
            rig.start()
        assert rig.deployment.followed is None
        assert rig.scores_with(notice)
        rig.start()
        assert rig.scores_with(notice)
        assert rig.report.release == 1

    def test_a_full_disk_delays_a_step(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """What serves serves on; the step is taken once there is room."""

        def full(*_: object) -> None:
            raise StoreError("the disk is full") from OSError(28, "No space left on device")

        first = rig.deployment.followed
        notice = rig.version(learned(rig.versions, 1))
        with monkeypatch.context() as disk:
            disk.setattr(states, "write_atomic", full)
            rig.release(notice)
            rig.clock.advance(RETRY_SECONDS)
            rig.deployment.tick()
            assert rig.scores_with(first)
        assert len(rig.journal.of("install.delayed")) == 2
        rig.clock.advance(RETRY_SECONDS)
        rig.deployment.tick()
        rig.answer()
        assert rig.scores_with(notice)


def release_of(notice: VersionNotice, number: int) -> ReleaseNotice:
    """A release for everybody."""
    return ReleaseNotice(job="press", release=number, notice=notice)


class TestOwn:
    def proposal(self, rig: Rig, seed: int = 1) -> Proposal:
        """A model that this agent has made."""
        return Proposal("feedback", learned(rig.versions, seed), "40 corrections")

    def test_passes_the_same_gates(self, rig: Rig) -> None:
        """It serves, also after a restart; the coordinator goes on hearing of its own version."""
        first = rig.deployment.followed
        proposal = self.proposal(rig)
        assert rig.installer.propose(proposal)
        assert rig.scorer.version == rig.deployment.served.version != first.version
        assert rig.report.version == first.version
        assert rig.report.serving == rig.deployment.served.version
        before = rig.live(seed=1)[0].outputs
        rig.start()
        assert rig.live(seed=1)[0].outputs.tolist() == before.tolist()
        assert rig.asked == []

    def test_makes_way_for_the_next_version(self, rig: Rig) -> None:
        """What is followed next serves again, with nothing more to write from then on."""
        assert rig.installer.propose(self.proposal(rig))
        rig.versions.advance()
        notice = rig.follow()
        assert rig.scores_with(notice)
        rig.start()
        assert rig.scores_with(notice)

    def test_that_has_no_numbers_is_refused(self, rig: Rig) -> None:
        """What serves stays, and the same is not tried again."""
        first, proposal = rig.deployment.followed, self.proposal(rig)
        proposal.vector[3] = np.inf
        assert rig.installer.propose(proposal)
        assert rig.scores_with(first)
        [told] = rig.journal.of("install.rejected")
        assert (told["gate"], told["origin"]) == ("numbers", "feedback")
        assert not rig.installer.propose(proposal)

    def test_not_before_there_is_a_model_and_not_the_same(self, tmp_path: Path) -> None:
        """Nor while something else is on its way."""
        later = Later()
        rig = Rig(tmp_path, background=later)
        assert not rig.installer.propose(self.proposal(rig))
        rig.follow()
        later.finish()
        same = Proposal("feedback", rig.versions.newest.vector, "")
        assert not rig.installer.propose(same)
        rig.release(rig.version(learned(rig.versions, 2)))
        assert not rig.installer.propose(self.proposal(rig))

    def test_is_gone_back_from(self, rig: Rig) -> None:
        """As when the data has changed: to what served before, once."""
        first = rig.deployment.followed
        assert rig.installer.propose(self.proposal(rig))
        assert rig.installer.roll_back("the spectrum has moved", {"distance": 3.0})
        assert rig.scores_with(first)
        [told] = rig.journal.of("install.rolled_back")
        assert (told["gate"], told["reason"]) == ("drift", "the spectrum has moved")
        assert not rig.installer.roll_back("again")
        rig.start()
        assert rig.scores_with(first)

    def test_is_in_the_audit_log(self, rig: Rig) -> None:
        """What scored before and what scores now, and why it was gone back from; once."""
        first = rig.audit[-1].after
        assert rig.installer.propose(self.proposal(rig))
        served = rig.audit[-1]
        assert (served.what, served.before) == ("model.served", first)
        rig.installer.roll_back("the spectrum has moved", {"distance": 3.0})
        (restored,) = rig.audit.of("model.restored")
        assert (restored.before, restored.after) == (served.after, first)
        (why,) = rig.audit.of("install.rolled_back")
        assert why.after == "drift: the spectrum has moved"
        known = len(rig.audit)
        rig.start()
        assert len(rig.audit) == known


class TestGoingBack:
    def test_a_followed_version_too(self, rig: Rig) -> None:
        """It is trained from and not served, until there is a newer one."""
        first = rig.deployment.followed
        rig.versions.advance()
        second = rig.follow()
        assert rig.installer.roll_back("drift", {"p_value": 0.001})
        assert rig.scores_with(first)
        assert rig.deployment.followed == second
        assert rig.told == ("rolled_back", "drift")
        assert rig.report.evidence == {"p_value": 0.001}
        rig.start()
        assert rig.scores_with(first)
        assert rig.deployment.followed == second
        rig.versions.advance(seed=1)
        assert rig.scores_with(rig.follow())
        rig.follow(1)
        assert rig.deployment.followed.version == second.version
        assert not rig.scores_with(second)

    @pytest.mark.parametrize(
        "wanted",
        [
            {"min_labels": 10, "error_slack": 0.0},
            {"shadow_windows": 20, "least_agreement": 0.9},
            {"soak_windows": 20, "least_agreement": 0.9},
            {"budget_ms": 1e-9},
        ],
        ids=["error", "shadow", "soak", "budget"],
    )
    def test_what_the_coordinator_goes_back_to_is_taken(
        self, tmp_path: Path, wanted: dict[str, float]
    ) -> None:
        """Two versions ago or fetched anew: to differ from what serves is the point of it."""
        rig = Rig(tmp_path)
        first = rig.follow()
        rig.hold_out(learned(rig.versions, 1))
        rig.release(rig.version(learned(rig.versions, 2)), 1)
        serving = rig.version(learned(rig.versions, 1))
        rig.release(serving, 2)
        assert rig.scores_with(serving)
        rig.job = structs.replace(rig.versions.job, serving=Wanted(**wanted))
        rig.start()
        rig.release(first, 3)
        rig.live(20)
        assert rig.scores_with(serving)
        rig.release(first, 4, back=True)
        assert rig.scores_with(first)
        assert rig.told == ("committed", "")
        rig.live(20)
        assert rig.told == ("committed", "")
        assert not rig.installer.roll_back("drift")  # what it came from is never gone back to
        rig.start()
        assert rig.scores_with(first)

    def test_a_restart_on_the_way_back(self, tmp_path: Path) -> None:
        """It is known as one also by the process that installs it."""
        rig = Rig(tmp_path, shadow_windows=20, least_agreement=0.9)
        first = rig.follow()
        back = rig.version(learned(rig.versions, 1))
        rig.deployment.release(
            ReleaseNotice(job="press", release=1, notice=back, back=True), retained=True
        )
        assert rig.told == ("offered", "")
        rig.start()
        assert rig.scores_with(first)
        rig.answer()
        assert rig.scores_with(back)

    def test_one_that_has_no_numbers_is_refused_all_the_same(self, rig: Rig) -> None:
        """Back or not: what scores must be sound."""
        first, vector = rig.deployment.followed, learned(rig.versions, 1)
        notice = rig.version(vector)
        vector[3] = np.nan
        broken = structs.replace(
            notice, version=version_of(vector), snapshot=rig.versions.put(vector_bytes(vector))
        )
        rig.release(broken, 1, back=True)
        assert rig.told == ("rejected", "numbers")
        assert rig.scores_with(first)

    def test_nothing_to_go_back_to(self, rig: Rig) -> None:
        """The first model stays."""
        assert not rig.installer.roll_back("drift")
        assert rig.scores_with(rig.deployment.followed)


class TestSoak:
    def test_commits_after_so_many_windows(self, tmp_path: Path) -> None:
        """The new one serves from the first of them on; nothing is dropped."""
        rig = Rig(tmp_path, soak_windows=5)
        rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice)
        assert rig.told == ("soaking", "")
        assert rig.scores_with(notice)
        rig.live(4)
        assert rig.told == ("soaking", "")
        rig.live(1)
        assert rig.told == ("committed", "")
        assert rig.report.evidence["soak_windows"] == 5.0
        assert rig.report.evidence["soak_agreement"] == 1.0

    def test_falls_back_where_it_disagrees(self, tmp_path: Path) -> None:
        """At the end of a short one; with the figures, and for good."""
        rig = Rig(tmp_path, soak_windows=10, least_agreement=0.95)
        first = rig.follow()
        vector = -rig.versions.newest.vector
        vector[rig.versions.architecture.learned :] = rig.versions.newest.vector[
            rig.versions.architecture.learned :
        ]
        notice = rig.version(vector)
        rig.release(notice)
        assert rig.scores_with(notice)
        rig.live(10)
        assert rig.scores_with(first)
        assert rig.told == ("rolled_back", "soak")
        assert "serving.least_agreement is 0.95" in rig.report.reason
        rig.start()
        rig.release(notice)
        assert rig.scores_with(first)
        rig.release(notice, 2)
        assert rig.scores_with(notice)

    def test_a_window_that_cannot_be_scored_ends_it(self, tmp_path: Path) -> None:
        """At once."""
        rig = Rig(tmp_path, soak_windows=100)
        first = rig.follow()
        rig.release(rig.version(near(rig.versions.newest.vector)))
        rig.installer.faulted(StoreError("of no concern"))
        rig.installer.faulted(ModelError("the runtime fails"))
        assert rig.scores_with(first)
        assert (rig.told, rig.report.reason) == (("rolled_back", "soak"), "the runtime fails")
        rig.installer.faulted(ModelError("again"))
        assert rig.scores_with(first)

    def test_begins_anew_after_a_restart(self, tmp_path: Path) -> None:
        """With the model before at hand."""
        rig = Rig(tmp_path, soak_windows=5)
        first = rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice)
        rig.live(3)
        rig.start()
        assert rig.scores_with(notice)
        rig.live(4)
        assert rig.told == ("soaking", "")
        assert rig.installer.roll_back("drift")
        assert rig.scores_with(first)

    def test_versions_wait_for_it_and_releases_do_not(self, tmp_path: Path) -> None:
        """The newest that has waited comes next; a release falls back to what was committed."""
        rig = Rig(tmp_path, soak_windows=3)
        first = rig.follow()
        rig.versions.advance(scale=1e-4)
        second = rig.follow()
        assert rig.told == ("soaking", "")
        for seed in (1, 2):
            rig.versions.advance(seed=seed, scale=1e-4)
            newest = rig.follow()
        assert rig.scores_with(second)
        assert rig.deployment.followed == newest
        rig.live(3)
        assert rig.scores_with(newest)
        assert rig.told == ("soaking", "")
        rig.release(rig.version(near(rig.versions.newest.vector, 7)))
        assert rig.report.release == 1
        assert rig.installer.roll_back("drift")
        assert rig.scores_with(second)
        assert first.version != second.version

    def test_what_waited_does_not_undo_a_release(self, tmp_path: Path) -> None:
        """It was followed before the release came, and comes back with no restart."""
        rig = Rig(tmp_path, soak_windows=3)
        rig.follow()
        for seed in (1, 2):
            rig.versions.advance(seed=seed, scale=1e-4)
            rig.follow()
        notice = rig.version(near(rig.versions.newest.vector, 7))
        rig.release(notice)
        rig.live(3)
        assert (rig.told, rig.report.release) == (("committed", ""), 1)
        rig.start()
        rig.live(3)
        assert rig.scores_with(notice)
        assert rig.deployment.followed.number == 2


class TestShadow:
    def test_serves_only_after_its_windows(self, tmp_path: Path) -> None:
        """The old one serves all of them."""
        rig = Rig(tmp_path, shadow_windows=6)
        first = rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice)
        rig.live(5)
        assert rig.told == ("shadowing", "")
        assert rig.scores_with(first)
        rig.live(1)
        assert rig.scores_with(notice)
        assert {each.version for each in rig.predictions} == {first.version}
        assert rig.report.evidence["shadow_windows"] == 6.0

    def test_worse_weights_never_serve_a_window(self, tmp_path: Path) -> None:
        """They name other classes."""
        rig = Rig(tmp_path, shadow_windows=20, least_agreement=0.9)
        first = rig.follow()
        vector = rig.versions.newest.vector.copy()
        size = rig.versions.architecture.learned
        vector[:size] = -vector[:size]
        rig.release(rig.version(vector))
        rig.live(20)
        assert rig.told == ("rejected", "shadow")
        assert rig.report.evidence["shadow_agreement"] < 0.9
        assert {each.version for each in rig.predictions} == {first.version}

    def test_windows_that_do_not_come(self, tmp_path: Path) -> None:
        """It is not for ever at the door; after a restart it has all the time again."""
        rig = Rig(tmp_path, shadow_windows=6, shadow_seconds=60.0)
        first = rig.follow()
        rig.release(rig.version(near(rig.versions.newest.vector)))
        rig.live(3)
        rig.clock.advance(59.0)
        rig.start()
        rig.clock.advance(59.0)
        rig.deployment.tick()
        assert rig.told == ("shadowing", "")
        rig.clock.advance(1.0)
        rig.deployment.tick()
        assert rig.told == ("rejected", "shadow")
        assert "0 of 6 windows came" in rig.report.reason
        assert rig.scores_with(first)

    def test_the_second_model_never_holds_up_the_first(self, tmp_path: Path) -> None:
        """While it is at work windows are scored, and only so many of them wait for it."""
        later = Later()
        rig = Rig(tmp_path, background=later, shadow_windows=40)
        first = rig.follow()
        later.finish()
        rig.release(rig.version(near(rig.versions.newest.vector)))
        later.finish()
        rig.live(60)
        assert len(later.waiting) == 1
        later.work()
        later.work()
        assert rig.scores_with(first)
        assert not later.waiting
        rig.live(40)
        later.finish()
        assert rig.told == ("shadowing", "")  # 1 + 16 + 1 + 16 of 40

    def test_what_served_before_is_not_compared_again(self, tmp_path: Path) -> None:
        """The coordinator goes back, and must not wait for the bad one to agree."""
        rig = Rig(tmp_path, shadow_windows=5)
        first = rig.follow()
        notice = rig.version(learned(rig.versions, 1))
        rig.release(notice, 1)
        rig.live(5)
        assert rig.scores_with(notice)
        rig.release(first, 2)
        assert rig.scores_with(first)
        assert rig.told == ("committed", "")
