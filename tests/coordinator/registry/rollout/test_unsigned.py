# SPDX-License-Identifier: Apache-2.0
"""A release that cannot be signed waits; nothing else of its job does."""

import pytest
from tests.coordinator.registry.rollout.rig import Rig

from fedmill_coordinator.registry.rollout.telling import SIGN_SECONDS


@pytest.fixture
def rig() -> Rig:
    """Agents that serve version 0, and a disk on which nothing can be signed."""
    rig = Rig()
    rig.stable(0)
    rig.signing.fails = "metadata: No space left on device"
    return rig


class TestUnsigned:
    def test_nobody_is_told_and_no_step_fails(self, rig: Rig) -> None:
        """Which is what rounds of the same job would have waited for."""
        rig.said.clear()
        release = rig.promote()
        rig.wait()
        assert rig.said == []
        assert release.state == "open"
        assert rig.events().count("release.unsent") == 1

    def test_it_is_tried_every_now_and_then(self, rig: Rig) -> None:
        """Not with each step: a signature costs writes to the disk."""
        rig.promote()
        asked = rig.signing.asked
        for _ in range(20):
            rig.wait()
        assert rig.signing.asked == asked
        rig.wait(SIGN_SECONDS)
        assert rig.signing.asked == asked + 1

    def test_agents_hear_of_it_once_it_is_signed(self, rig: Rig) -> None:
        """And take it as if nothing had been."""
        rig.promote()
        rig.said.clear()
        rig.signing.fails = ""
        rig.wait(SIGN_SECONDS)
        assert [each.release for each in rig.said] == [1]
        for _ in range(3):
            rig.commit()
        assert rig.release.state == "done"

    def test_a_restart_tries_at_once(self, rig: Rig) -> None:
        """What is stored says that it is open."""
        rig.promote()
        rig.said.clear()
        rig.signing.fails = ""
        rig.start()
        assert [each.release for each in rig.said] == [1]

    def test_a_later_release_takes_its_place(self, rig: Rig) -> None:
        """Whatever was wrong with the one before."""
        rig.promote(1)
        rig.said.clear()
        rig.signing.fails = ""
        rig.promote(2)
        rig.wait(SIGN_SECONDS)
        assert {each.release for each in rig.said} == {2}

    def test_it_may_be_taken_back_meanwhile(self, rig: Rig) -> None:
        """A person need not wait for the disk."""
        rig.promote()
        rig.rollout.hold(paused=True, by="anna")
        rig.wait()
        assert rig.release.state == "paused"
        rig.signing.fails = ""
        rig.wait(SIGN_SECONDS)
        assert rig.said[-1].release == 1
