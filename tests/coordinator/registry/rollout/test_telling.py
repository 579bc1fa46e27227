# SPDX-License-Identifier: Apache-2.0
"""What agents are told of a release again, and whom it is for while it is held."""

import pytest
from tests.coordinator.registry.rollout.rig import Rig


@pytest.fixture
def rig() -> Rig:
    """Ten agents that serve version 0."""
    rig = Rig('release = "manual"')
    rig.stable(0)
    return rig


class TestAgain:
    def test_to_an_agent_that_says_nothing(self, rig: Rig) -> None:
        """A broker may have lost it; less often each time, and never to those who have answered."""
        rig.promote()
        assert len(rig.said) == 1
        rig.wait(9)
        assert len(rig.said) == 1
        rig.wait(2)
        assert (len(rig.said), rig.said[-1]) == (2, rig.said[0])
        rig.wait(15)
        assert len(rig.said) == 2
        rig.wait(6)
        assert len(rig.said) == 3
        for agent in rig.asked():
            rig.say(agent, "downloaded")
        rig.wait(600)
        rig.wait(600)
        assert len(rig.said) == 3

    def test_soon_where_there_is_something_new(self, rig: Rig) -> None:
        """Patience begins anew with each release."""
        rig.promote(2)
        for _ in range(6):
            rig.wait(100)
        rig.promote(1)
        told = len(rig.said)
        rig.wait(11)
        assert len(rig.said) == told + 1


class TestHeld:
    def test_newcomers_wait(self, rig: Rig) -> None:
        """Also where the ring of the whole fleet is open; once it goes on they are asked."""
        rig.promote()
        everybody = sorted(rig.online)
        assert rig.said[-1].agents is None
        rig.rollout.hold(paused=True, by="anna")
        rig.wait()
        assert rig.said[-1].agents == everybody
        rig.come("late")
        rig.wait()
        assert "late" not in rig.installs
        rig.rollout.hold(paused=False, by="anna")
        rig.wait()
        assert rig.said[-1].agents is None
        assert rig.installs["late"].state == "asked"
