# SPDX-License-Identifier: Apache-2.0
"""What the status says of alarms, and of how sure predictions are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.agent.cli.test_status import START, store
from tests.agent.kit import a_job

from fedmill_agent.alarms.book import FILE, Book, Entry, Page
from fedmill_agent.alarms.machine import Standing
from fedmill_agent.alarms.record import AlarmRecord
from fedmill_agent.cli import main
from fedmill_agent.places import job_folder, windows_file
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock

Configure = Callable[..., Path]
RECORD = AlarmRecord(
    number=1,
    alarm="bearing-damage",
    severity="critical",
    state="raised",
    unit="fan-3",
    run="fan-3",
    since_ns=START,
    start_ns=START,
    end_ns=START,
    told_ns=START,
    version="ab" * 32,
    predicted="worn",
    confidence=0.934,
    cause="vibration at 2.2-3.4 kHz carries 78 % of it",
    remedy="Plan a change of the bearing.",
)


def raise_alarms(folder: Path, *units: str) -> None:
    """Leave what the daemon leaves when alarms are raised, and of one that has ended."""
    book = Book(job_folder(str(folder), "press") / FILE, Page(), ["bearing-damage"])
    for unit in units:
        record = msgspec.structs.replace(RECORD, unit=unit)
        book.put("bearing-damage", unit, Entry(Standing(raised=True, heard=True), record))
    book.put("bearing-damage", "well", Entry(Standing(told=(START,))))
    book.save()


def lines(config: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed, without the margin; only a path may be too long for the screen."""
    assert main(["status", str(config)]) == 0
    found = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 or FILE in line for line in found)
    return [line[11:] for line in found]


def in_json(config: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The same for other programs."""
    assert main(["status", str(config), "--json"]) == 0
    return msgspec.json.decode(capsys.readouterr().out)


class TestAlarms:
    def test_what_is_raised_is_shown(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With its cause and what to do; one that has ended is not."""
        config = configure()
        folder = config.parent / "a-state"
        store(folder, a_job(), [(0.0, 9.0)])
        raise_alarms(folder, "fan-3")
        found = lines(config, capsys)
        first = next(n for n, line in enumerate(found) if line.startswith("ALARM"))
        said = " ".join(found[first : first + 4])
        assert said.startswith(
            "ALARM bearing-damage (critical), fan-3, since 2024-01-01T00:00:00.000Z: worn (93.4 %)"
            " because vibration at 2.2-3.4 kHz carries 78 % of it to do: Plan a change"
        )
        [record] = in_json(config, capsys)["alarms"]["press"]
        assert (record["unit"], record["class"]) == ("fan-3", "worn")

    def test_many_are_counted(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """People see five, other programs a hundred."""
        config = configure()
        folder = config.parent / "a-state"
        store(folder, a_job(), [(0.0, 9.0)])
        raise_alarms(folder, *(f"fan-{n}" for n in range(120)))
        found = lines(config, capsys)
        assert sum(line.startswith("ALARM") for line in found) == 5
        assert "and 115 alarms more" in found
        assert len(in_json(config, capsys)["alarms"]["press"]) == 100

    def test_a_job_without_alarms(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Has no line about them."""
        config = configure()
        store(config.parent / "a-state", a_job(), [(0.0, 9.0)])
        assert not any("alarm" in line.lower() for line in lines(config, capsys))
        assert in_json(config, capsys)["alarms"] == {"press": []}

    def test_a_damaged_file(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """It is told, and hides nothing else."""
        config = configure()
        folder = config.parent / "a-state"
        store(folder, a_job(), [(0.0, 9.0)])
        (job_folder(str(folder), "press") / FILE).write_bytes(b"nonsense")
        found = lines(config, capsys)
        assert any(line.startswith("alarms unknown:") for line in found)
        assert any(line.startswith("predictions 1 stored") for line in found)
        assert in_json(config, capsys)["alarms"]["press"].endswith(
            "(alarms that go on are raised again)"
        )


class TestCertainty:
    def test_an_interval_is_shown(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Behind the number."""
        config = configure()
        folder, job = config.parent / "a-state", a_job(task="regression")
        store(folder, job, [(5.0,)])
        output = np.array([42.25], np.float32)
        sure = {"confidence": 0.9, "low": 38.0, "high": 46.5}
        clock = ManualClock()
        path = windows_file(str(folder), job)
        with WindowStore(path, clock=clock, max_bytes=10**7, max_age_seconds=1e9) as windows:
            windows.add_predictions([Prediction("r2", START, "cd" * 32, output, START, **sure)])
        assert any("42.25 h (38 to 46.5)" in line for line in lines(config, capsys))
        last = in_json(config, capsys)["predictions"]["press"]["last"][-1]
        assert (last["low"], last["high"]) == (38.0, 46.5)

    def test_the_calibrated_probability_is_shown(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """And not what the logits would say."""
        config = configure()
        folder, job = config.parent / "a-state", a_job()
        store(folder, job, [(0.0, 9.0)])
        output = np.array([0.0, 9.0], np.float32)
        path = windows_file(str(folder), job)
        with WindowStore(
            path, clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9
        ) as windows:
            windows.add_predictions(
                [Prediction("r2", START, "cd" * 32, output, START, confidence=0.815)]
            )
        assert any("81.5 %" in line for line in lines(config, capsys))
