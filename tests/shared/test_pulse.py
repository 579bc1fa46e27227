# SPDX-License-Identifier: Apache-2.0
"""Who is late, on a clock of the test's own."""

from math import inf

from fedmill_shared.clock import ManualClock
from fedmill_shared.pulse import Pulse


class TestPulse:
    def test_late_after_its_patience(self) -> None:
        """And in time again with the next beat."""
        clock = ManualClock()
        pulse = Pulse(clock, 60.0)
        pulse.beat()
        clock.advance(60)
        assert pulse.late == 0.0
        clock.advance(5)
        assert round(pulse.late, 3) == 5.0
        pulse.beat()
        assert pulse.late == 0.0

    def test_nothing_is_expected_before_the_first_beat(self) -> None:
        """A thread that was never begun hangs in nothing."""
        clock = ManualClock()
        pulse = Pulse(clock, 60.0)
        clock.advance(10**6)
        assert pulse.late == 0.0

    def test_a_rest_is_granted(self) -> None:
        """Whoever says how long it will wait is late only after that."""
        clock = ManualClock()
        pulse = Pulse(clock, 60.0)
        pulse.beat(rest=30.0)
        clock.advance(89)
        assert pulse.late == 0.0
        clock.advance(2)
        assert pulse.late > 0.0

    def test_a_rest_without_end(self) -> None:
        """What waits for an operator, or is done, is never late."""
        clock = ManualClock()
        pulse = Pulse(clock, 60.0)
        pulse.beat(rest=inf)
        clock.advance(10**6)
        assert pulse.late == 0.0
        pulse.beat()
        pulse.end()
        clock.advance(10**6)
        assert pulse.late == 0.0
