# SPDX-License-Identifier: Apache-2.0
"""Agents that are set up wrongly: each says once what is wrong, and the others go on."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from msgspec import json
from tests.system.fleet import Fleet, Source, a_job, a_plant, federation, recording

from fedmill_coordinator.demo.recipes.plan import Plant

pytestmark = [pytest.mark.system, pytest.mark.drill]

GOOD = ["agent-1", "agent-2"]
COLUMN = {"missing-signal": "temperature", "no-number": "vibration", "no-row": "vibration"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a finished federation with misfits left to look at."""

    fleet: Fleet
    refusals: dict[str, str]


def misfits(folder: str) -> dict[str, list[Source]]:
    """Sources of agents that cannot take part, by what is wrong with them."""
    files: dict[str, list[Source]] = {
        name: [{"kind": "csv", "name": "export", "path": f"{folder}/{name}.csv"}] for name in COLUMN
    }
    return files | {
        "wrong-unit": [recording("a", units={"vibration": "degC"})],
        "foreign-label": [recording(name, label="cracked") for name in "ab"],
        "no-source": [],
    }


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Two good agents finish the job beside all the others."""
    folder = tmp_path_factory.mktemp("misfits")
    rows = {"missing-signal": "20.5\n" * 3000, "no-number": "nan\n" * 3000, "no-row": ""}
    for name, column in COLUMN.items():
        (folder / f"{name}.csv").write_text(f"{column}\n{rows[name]}")
    bad = [Plant(name, sources) for name, sources in misfits(str(folder)).items()]
    job = a_job(rounds=3, minimum=2, goal=0, deadline_seconds=120.0)
    with federation(folder / "fleet", job, [a_plant(1), a_plant(2), *bad]) as fleet:
        fleet.wait("end of the job", fleet.finished)
        told = fleet.run("fedmill_coordinator", "fleet", fleet.layout.coordinator, "--json")
        refusals = {row["agent"]: row["last_refusal"] for row in json.decode(told.stdout)}
        yield Seen(fleet, refusals)


class TestGoodAgents:
    def test_finish_the_job_without_the_others(self, seen: Seen) -> None:
        """Every round has the two, no round waited for its deadline, and they have no trouble."""
        assert [record.included for record in seen.fleet.rounds()] == [GOOD] * 3
        assert [seen.refusals[agent] for agent in GOOD] == ["", ""]
        for agent in GOOD:
            assert {event["level"] for event in seen.fleet.events(agent)} == {"info"}


class TestMisfit:
    @pytest.mark.parametrize(
        ("agent", "cause", "remedy"),
        [
            ("missing-signal", "no tag 'vibration'", "map the signal"),
            ("wrong-unit", '"degC"', "g converts from"),
            ("no-number", "all 12 are bad (vibration: missing 12)", "fedmill-agent check"),
            ("no-row", "no whole window came", "fedmill-agent check"),
            ("foreign-label", "cracked", "correct the label"),
            ("no-source", "no [[sources]]", "add one"),
        ],
    )
    def test_says_once_what_is_wrong_and_what_to_do(
        self, seen: Seen, agent: str, cause: str, remedy: str
    ) -> None:
        """One error in its log, the cause in the fleet's listing; it runs on, without a trainer."""
        (error,) = seen.fleet.events(agent, level="error")
        line = " ".join(error.values())
        assert cause in line
        assert remedy in line
        assert cause in seen.refusals[agent]
        assert seen.fleet.process(agent).is_running()
        assert seen.fleet.process(agent).children() == []
