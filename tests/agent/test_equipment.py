# SPDX-License-Identifier: Apache-2.0
"""What a job has beside its scoring, in a whole agent."""

import subprocess
import sys
from types import SimpleNamespace

from tests.agent.kit import a_job
from tests.agent.whole import ONLY_TRAIN, Plant, joined

from fedmill_shared.errors import StoreError

ROOMS = (
    "alarms",
    "drift.watch",
    "explaining",
    "feedback",
    "inference.int8",
    "monitoring",
    "publishing",
    "uncertainty",
)


class TestEquipment:
    def test_what_fails_in_one_part_holds_up_no_other(self, plant: Plant) -> None:
        """A disk that one of them cannot read is told; the others go on."""
        agent, _ = joined(plant, job=a_job(evaluation=ONLY_TRAIN))
        equipment, ticked = agent.seat()._work.equipment, []

        def fails() -> None:
            raise StoreError("the disk is away")

        equipment.drift = SimpleNamespace(tick=fails)
        equipment.tellers = [SimpleNamespace(tick=lambda: ticked.append(1))]
        agent.journal.entries.clear()
        equipment.tick()
        equipment.drift, equipment.tellers = None, []
        assert ticked == [1]
        [told] = agent.journal.of("event.failed")
        assert told["error"] == "the disk is away"

    def test_nothing_is_imported_that_no_job_asks_for(self) -> None:
        """Most gateways have no room for it."""
        code = (
            "import sys, fedmill_agent.daemon, fedmill_agent.work;"
            "print(*(name for name in sys.modules if name.startswith('fedmill_agent.')))"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        names = ran.stdout.decode().split()
        assert "fedmill_agent.equipment" in names
        rooms = tuple(f"fedmill_agent.{room}" for room in ROOMS)
        assert [name for name in names if name.startswith(rooms)] == []
