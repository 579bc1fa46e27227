# SPDX-License-Identifier: Apache-2.0
"""A short storm; ``python -m tests.bench chaos`` is the long one."""

from pathlib import Path

import pytest
from tests.bench.chaos import QUIET_ROUNDS, Memory, audit, begin, chaos_plan, come_to_rest, hurt
from tests.faults.mayhem import Mayhem
from tests.faults.replay import replay

pytestmark = [pytest.mark.system, pytest.mark.drill]

SECONDS = 20.0
SEED = 3


def test_books_balance_after_a_storm(tmp_path: Path) -> None:
    """No update is lost or used twice, and the weights are those of a run without a fault."""
    plan = chaos_plan(agents=4, goal=3)
    with Mayhem(tmp_path / "fleet", plan, seed=SEED, spared=["agent-4"]) as mayhem:
        begin(mayhem)
        hurt(mayhem, SECONDS, Memory(), every=2.0)
        mayhem.calm()
        come_to_rest(mayhem)
        fleet = mayhem.fleet
        books = audit(fleet)
        outcome = replay(fleet.store, fleet.blobs, fleet.job.name)
    assert (books.lost, books.twice, books.fates.get("received", 0)) == (0, 0, 0)
    assert (outcome.wrong, outcome.final) == ([], True)
    assert outcome.updates == books.fates["included"] > QUIET_ROUNDS
    assert mayhem.done.total() >= SECONDS / 4
