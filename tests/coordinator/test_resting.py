# SPDX-License-Identifier: Apache-2.0
"""A job that the disk has failed rests for a while, and the others go on."""

import pytest
import structlog
from structlog.testing import capture_logs

from fedmill_coordinator.resting import HOLD_SECONDS, Rests
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import FrameError, StoreError


@pytest.fixture
def clock() -> ManualClock:
    """The test's own time."""
    return ManualClock()


@pytest.fixture
def rests(clock: ManualClock) -> Rests:
    """No job rests; a disk that fails is a reason to."""
    return Rests(clock, structlog.get_logger(), StoreError)


def fail(rests: Rests, job: str, error: Exception) -> None:
    """Work for ``job`` that ends with ``error``."""
    with rests.after_failure(job):
        raise error


class TestRests:
    def test_work_that_succeeds(self, rests: Rests) -> None:
        """Nobody rests from it."""
        with rests.after_failure("rig"):
            pass
        assert rests.over("rig")

    def test_one_rests_and_the_other_does_not(self, rests: Rests, clock: ManualClock) -> None:
        """For as long as is promised, and not a moment longer."""
        fail(rests, "rig", StoreError("the disk is away"))
        assert (rests.over("rig"), rests.over("press")) == (False, True)
        clock.advance(HOLD_SECONDS - 0.001)
        assert not rests.over("rig")
        clock.advance(0.001)
        assert rests.over("rig")

    def test_it_rests_anew_after_each_failure(self, rests: Rests, clock: ManualClock) -> None:
        """From the last one on."""
        fail(rests, "rig", StoreError("the disk is away"))
        clock.advance(HOLD_SECONDS / 2)
        fail(rests, "rig", StoreError("the disk is away"))
        clock.advance(HOLD_SECONDS / 2)
        assert not rests.over("rig")

    def test_it_is_told(self, rests: Rests) -> None:
        """The event names the job and what the disk said."""
        with capture_logs() as logs:
            fail(rests, "rig", StoreError("the disk is away"))
        assert logs == [
            {
                "event": "store.failed",
                "log_level": "error",
                "job": "rig",
                "error": "the disk is away",
            }
        ]

    def test_other_errors_are_not_for_it(self, rests: Rests) -> None:
        """What no rest mends goes on to whoever can deal with it."""
        with pytest.raises(FrameError):
            fail(rests, "rig", FrameError("no frame"))
        assert rests.over("rig")

    def test_more_than_one_kind(self, clock: ManualClock) -> None:
        """Blocks are held up by a blob that is cut off as by a disk that is away."""
        rests = Rests(clock, structlog.get_logger(), StoreError, FrameError)
        fail(rests, "rig", FrameError("cut off"))
        assert not rests.over("rig")
