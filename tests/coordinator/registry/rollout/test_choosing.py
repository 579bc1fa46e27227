# SPDX-License-Identifier: Apache-2.0
"""Which differences between two versions are more than chance."""

import numpy as np
import pytest
from msgspec import msgpack
from tests.coordinator.registry.rollout.rig import NAME, Rig, version

from fedmill_coordinator.registry.rollout.choosing import (
    CLEAR_ERRORS,
    better_version,
    clearly_worse,
)
from fedmill_coordinator.store.records import EvaluationRecord
from fedmill_shared.metrics import RegressionStatistic

WINDOWS = 200


def evaluate(rig: Rig, number: int, rmse: float) -> None:
    """An agent finds this error (in the label's unit) under version ``number``."""
    squares = WINDOWS * rmse**2
    statistic = RegressionStatistic(WINDOWS, squares, 0.0, 0.0, 0.0, 0.0)
    rig.store.save_evaluation(
        EvaluationRecord(
            job=NAME,
            version=version(number),
            agent="gw-0",
            split="test",
            statistic=msgpack.encode(statistic),
            windows=WINDOWS,
            received_ns=1,
        )
    )


def worse(rmse: float) -> bool:
    """Whether a version with this error is clearly worse than one with an error of 1."""
    rig = Rig(agents=0)
    evaluate(rig, 0, 1.0)
    evaluate(rig, 2, rmse)
    found = rig.store.version(NAME, version(2))
    assert found is not None
    return bool(clearly_worse(rig.store, NAME, found, version(0)))


@pytest.mark.parametrize(("rmse", "expected"), [(0.8, False), (1.1, False), (1.25, True)])
def test_numbers(rmse: float, *, expected: bool) -> None:
    """The error of 200 windows is known to a twentieth: a quarter more is no chance."""
    assert worse(rmse) == expected


def test_as_often_as_two_standard_errors_say() -> None:
    """Of versions that are equally good, one in forty seems clearly worse, and not one in 10,000.

    The bound between the two is looked for, and then compared with errors that are drawn.
    """
    low, high = 1.0, 2.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if worse(middle) else (middle, high)
    drawn = np.random.default_rng(7).standard_normal((2, 4000, WINDOWS))
    old, new = np.sqrt((drawn**2).mean(2))
    share = float((new / old > high).mean())
    assert 0.01 < share < 0.04
    assert pytest.approx(2.0) == CLEAR_ERRORS


def test_as_many_agents_as_a_round_needs() -> None:
    """Fewer than ``federation.minimum`` that evaluated both versions make none of them better."""
    rig = Rig(agents=0)
    rig.evaluate(0, 5)
    rig.evaluate(2, 9, "gw-0", "somebody-else")
    assert better_version(rig.store, NAME, version(0), 2) is None
    rig.evaluate(2, 9, "gw-1")
    found = better_version(rig.store, NAME, version(0), 2)
    assert found is not None
    assert found.version == version(2)
