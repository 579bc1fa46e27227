# SPDX-License-Identifier: Apache-2.0
"""Where each version is served as it comes: a release by hand lasts until the next version."""

import pytest
from tests.coordinator.registry.rollout.rig import Rig, version

EACH = 'release = "each"'


@pytest.fixture
def rig() -> Rig:
    """Four agents that serve version 2, the newest."""
    return Rig(EACH, agents=4)


def go_on(rig: Rig, number: int = 3) -> None:
    """The job makes another version, which is served as it comes."""
    rig.make(number)
    rig.rollout.versions_changed()
    rig.wait()
    assert rig.rollout.served.newest


class TestOutlived:
    def test_a_newcomer_is_not_told_to_serve_what_was_promoted_before(self, rig: Rig) -> None:
        """It serves the newest version as all others do, also after the next connection."""
        rig.promote(1)
        rig.commit()
        assert (rig.release.state, rig.said[-1].agents) == ("done", None)
        go_on(rig)
        assert (rig.said[-1].release, rig.said[-1].agents) == (1, [])
        rig.start()
        assert rig.said[-1].agents == []
        rig.come("late")
        rig.wait(5)
        assert rig.said[-1].agents == []
        assert "late" not in rig.installs

    def test_one_that_was_under_way_asks_nobody_any_more(self, rig: Rig) -> None:
        """It is superseded, and those who hear of it later leave it alone."""
        rig.promote(1)
        go_on(rig)
        assert (rig.release.state, rig.said[-1].agents) == ("superseded", [])

    def test_the_end_of_the_job_makes_what_is_served_stable(self, rig: Rig) -> None:
        """Of versions as they come the newest; of a promotion that came after it, that."""
        rig.rollout.finish()
        assert rig.alias("stable") == version(2)
        rig.promote(1)
        rig.commit()
        rig.rollout.finish()
        assert (rig.alias("stable"), rig.rollout.served.now()) == (version(1), version(1))


class TestBefore:
    def test_a_promotion_in_place_of_another(self, rig: Rig) -> None:
        """The way back leads to what was served as it came, not to what never came to serve."""
        rig.promote(1)
        rig.promote(0)
        assert rig.release.before == version(2)
        rig.say(rig.asked()[0], "committed")
        rig.say(rig.asked()[1], "rejected")
        rig.wait()
        rig.wait()
        assert (rig.release.version, rig.release.why) == (version(2), "aborted")
        assert rig.promote(1).before == version(2)

    def test_stable_is_older_than_what_was_served(self, rig: Rig) -> None:
        """A job that was finished before has a stable version; the versions since count."""
        rig.stable(0)
        rig.promote(1)
        assert rig.promote(0).before == version(2)

    def test_a_roll_back_is_no_obstacle_once_the_job_has_gone_on(self, rig: Rig) -> None:
        """What it took away is not what is served now."""
        found = rig.store.version("rig", version(1))
        assert found is not None
        rig.rollout.begin(found, "rollback", rings=["fleet"])
        rig.wait()
        rig.commit()
        assert rig.rollout.served.gone_back() is not None
        go_on(rig)
        assert rig.rollout.served.gone_back() is None
