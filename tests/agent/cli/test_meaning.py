# SPDX-License-Identifier: Apache-2.0
import pytest

from fedmill_agent.cli.meaning import quantity


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [(12.3456789, "h", "12.3457 h"), (33.354427, "1", "33.3544"), (-1.0, "%", "-1 %")],
)
def test_a_number_for_people(value: float, unit: str, told: str) -> None:
    """With its unit, unless it has none: a distance over its limit is "33.4", not "33.4 1"."""
    assert quantity(value, unit) == told
