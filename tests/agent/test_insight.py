# SPDX-License-Identifier: Apache-2.0
"""How sure predictions are, and alarms, in a whole agent."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.agent.kit import LENGTH, a_job, classes_of, two_classes, write_csv
from tests.agent.whole import ONLY_TRAIN, Agent, Plant, joined

from fedmill_agent.alarms.record import AlarmRecord
from fedmill_agent.cli.alarm_report import alarm_lines, read_alarms
from fedmill_agent.probabilities import probabilities
from fedmill_agent.sources.csv import CsvOptions
from fedmill_shared.job import Alarm, Job
from fedmill_shared.signals.windows import Window

ALARMED: Job = msgspec.structs.replace(
    a_job(evaluation=ONLY_TRAIN),
    alarms=[
        Alarm(name="is-good", classes=["good"], windows=3, remedy="be glad"),
        Alarm(name="is-worn", classes=["worn"], windows=3, remedy="change it"),
    ],
)


def aside(plant: Plant) -> CsvOptions:
    """A recording that is kept aside for choices: forty windows with their classes."""
    values = two_classes(runs=4, windows=10, seed=5)
    path = write_csv(plant.folder / "aside.csv", values, classes_of(values))
    return CsvOptions(
        name="aside", path=str(path), run_column="run", label_column="label", split="validation"
    )


def windows(count: int, *, level: float = 1.0) -> list[Window]:
    """Windows that are all the same, for which the model says the same."""
    values = np.full((1, LENGTH), level, np.float32)
    return [Window("r", "m1", n, n + 7, values, 1.0, n) for n in range(count)]


def said(agent: Agent) -> list[AlarmRecord]:
    """Alarms in the window store."""
    rows = agent.seat()._work.store.alarms()
    return [msgspec.json.decode(row.record, type=AlarmRecord) for row in rows]


class TestCertainty:
    def test_predictions_say_how_sure_they_are(self, plant: Plant) -> None:
        """First the plain probability; once the version is calibrated, plausible classes too."""
        agent, _ = joined(plant, plant.recording(), aside(plant), job=a_job(evaluation=ONLY_TRAIN))
        work = agent.seat()._work
        agent.until(lambda: agent.journal.of("certainty.calibrated"))
        [told] = agent.journal.of("certainty.calibrated")
        assert told["windows"] == 40
        [prediction] = work.scorer.score(windows(1))
        plain = probabilities(prediction.outputs[None], told["temperature"]).max()
        assert prediction.confidence == pytest.approx(plain, abs=1e-3)
        assert set(prediction.plausible) <= {"good", "worn"}
        assert prediction.plausible

    def test_a_restart_calibrates_nothing_again(self, plant: Plant) -> None:
        """What was known is on the disk."""
        sources = (plant.recording(), aside(plant))
        agent, _ = joined(plant, *sources, job=a_job(evaluation=ONLY_TRAIN))
        agent.until(lambda: agent.journal.of("certainty.calibrated"))
        [before] = agent.seat()._work.scorer.score(windows(1))
        plant.stop(agent)
        again = plant.agent(*sources)
        again.run()
        assert again.journal.of("certainty.calibrated") == []
        [after] = again.seat()._work.scorer.score(windows(1))
        assert (after.confidence, after.plausible) == (before.confidence, before.plausible)

    def test_without_windows_kept_aside(self, plant: Plant) -> None:
        """The plain probability of the class, and no class is ruled out."""
        agent, _ = joined(plant, job=a_job(evaluation=ONLY_TRAIN))
        agent.run()
        [prediction] = agent.seat()._work.scorer.score(windows(1))
        assert prediction.confidence == pytest.approx(
            float(probabilities(prediction.outputs[None]).max())
        )
        assert prediction.plausible is None


class TestAlarms:
    def test_one_is_raised_and_shown(self, plant: Plant) -> None:
        """In the log, in the window store, and by ``status``, with what to do."""
        agent, versions = joined(plant, job=ALARMED)
        work = agent.seat()._work
        work.scorer.score(windows(2))
        assert said(agent) == []
        work.scorer.score(windows(1))
        [record] = said(agent)
        assert (record.state, record.unit) == ("raised", "m1")
        assert record.version == versions.newest.version
        assert record.remedy == {"good": "be glad", "worn": "change it"}[record.predicted]
        assert record.cause, "the fleet's mean is what it is compared with"
        found = read_alarms(str(agent.state), "press")
        lines = list(alarm_lines(found))
        assert lines[0].startswith(f"ALARM {record.alarm} (warning), m1, since 1970-01-01")
        assert lines[-1] == f"to do: {record.remedy}"
        assert [each["alarm"] for each in agent.journal.of("alarm.raised")] == [record.alarm]

    def test_a_restart_tells_nothing_twice(self, plant: Plant) -> None:
        """And ends what was raised before it."""
        agent, _ = joined(plant, job=ALARMED)
        levels = np.linspace(-8.0, 8.0, 33)
        scorer = agent.seat()._work.scorer
        outputs = [scorer.run(windows(1, level=x)[0].values[None])[0].argmax() for x in levels]
        first, other = levels[outputs.index(0)], levels[outputs.index(1)]
        scorer.score(windows(3, level=first))
        plant.stop(agent)
        again = plant.agent(plant.recording())
        scorer = again.seat()._work.scorer
        scorer.score(windows(3, level=first))
        assert [record.state for record in said(again)] == ["raised"]
        scorer.score(windows(3, level=other))
        assert [(record.alarm, record.state) for record in said(again)] == [
            ("is-good", "raised"),
            ("is-good", "cleared"),
            ("is-worn", "raised"),
        ]

    def test_damage_is_told_by_status(self, tmp_path: Path) -> None:
        """It hides nothing else."""
        folder = tmp_path / "jobs" / "press"
        folder.mkdir(parents=True)
        (folder / "alarms.msgpack").write_bytes(b"nonsense")
        [line] = alarm_lines(read_alarms(str(tmp_path), "press"))
        assert line.startswith("alarms unknown: ")


def test_many_alarms_are_shown_in_few_lines() -> None:
    """With their number."""
    record: dict[str, Any] = {
        "number": 1,
        "severity": "critical",
        "state": "raised",
        "run": "r",
        "since_ns": 0,
        "start_ns": 0,
        "end_ns": 0,
        "told_ns": 0,
        "version": "v",
    }
    many = [
        AlarmRecord(
            alarm="short", unit=f"m{n}", value=9.5, value_unit="h", low=8, high=11, **record
        )
        for n in range(30)
    ]
    lines = list(alarm_lines(many))
    assert lines[0].endswith("9.5 h (8 to 11)")
    assert lines[-1] == "and 25 alarms more"
    assert len(lines) == 6
