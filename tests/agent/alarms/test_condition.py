# SPDX-License-Identifier: Apache-2.0
"""What one prediction is to an alarm."""

import numpy as np
import pytest

from fedmill_agent.alarms.condition import Verdict, verdicts
from fedmill_shared.job import Alarm

ON, OFF, BETWEEN = Verdict.ON, Verdict.OFF, Verdict.BETWEEN


def of_number(value: float, **fields: float) -> Verdict:
    """What a number says."""
    alarm = Alarm(name="a", **fields)
    [found] = verdicts(alarm, [], np.array([[value]], np.float32), [None])
    return found


class TestNumbers:
    @pytest.mark.parametrize(
        ("fields", "numbers", "expected"),
        [
            ({"above": 5.0}, [4, 5, 6], [OFF, OFF, ON]),
            ({"below": 5.0}, [4, 5, 6], [ON, OFF, OFF]),
            ({"above": 5.0, "clear": 3.0}, [2, 3, 4, 5, 6], [OFF, OFF, BETWEEN, BETWEEN, ON]),
            ({"below": 5.0, "clear": 7.0}, [4, 5, 6, 7, 8], [ON, BETWEEN, BETWEEN, OFF, OFF]),
            ({"above": 5.0, "below": 1.0}, [0, 1, 3, 5, 6], [ON, OFF, OFF, OFF, ON]),
        ],
    )
    def test_limits(
        self, fields: dict[str, float], numbers: list[float], expected: list[Verdict]
    ) -> None:
        """The limit itself raises nothing; between it and ``clear`` nothing begins or ends."""
        assert [of_number(number, **fields) for number in numbers] == expected

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_says_nothing(self, value: float) -> None:
        """Neither that it is an alarm nor that it is none."""
        assert of_number(value, above=1.0) == BETWEEN


class TestClasses:
    LOGITS = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3]], np.float32)
    CLASSES = ("good", "worn", "broken")

    def test_the_predicted_class_counts(self) -> None:
        """Where it is one of the alarm's."""
        alarm = Alarm(name="a", classes=["broken", "worn"])
        assert verdicts(alarm, self.CLASSES, self.LOGITS, [0.9] * 3) == [OFF, ON, ON]

    def test_from_a_probability_on(self) -> None:
        """An unsure one is no alarm, and counts as none."""
        alarm = Alarm(name="a", classes=["broken", "worn"], least_confidence=0.8)
        assert verdicts(alarm, self.CLASSES, self.LOGITS, [0.9, 0.79, 0.8]) == [OFF, OFF, ON]

    def test_one_that_is_not_known_is_not_sure(self) -> None:
        """Without a limit it counts all the same."""
        sure = Alarm(name="a", classes=["worn"], least_confidence=0.1)
        any_of = Alarm(name="a", classes=["worn"])
        assert verdicts(sure, self.CLASSES, self.LOGITS, [None] * 3)[1] == OFF
        assert verdicts(any_of, self.CLASSES, self.LOGITS, [None] * 3)[1] == ON

    def test_logits_that_are_no_numbers(self) -> None:
        """They say nothing."""
        alarm = Alarm(name="a", classes=["good"])
        broken = np.full((1, 3), np.nan, np.float32)
        assert verdicts(alarm, self.CLASSES, broken, [None]) == [BETWEEN]
