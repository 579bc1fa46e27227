# SPDX-License-Identifier: Apache-2.0
"""What a daemon is started with."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.coordinator.plant import Plant

from fedmill_coordinator.jobs import enter
from fedmill_shared.errors import JobError
from fedmill_shared.job_check import load_job

pytestmark = pytest.mark.usefixtures("exported_once")


class TestJobs:
    """What it is started with."""

    def test_the_same_file_again(self, make_plant: Callable[..., Plant]) -> None:
        """A restart continues the job."""
        plant = make_plant()
        plant.running()
        plant.daemon = plant.make()
        plant.link.start()
        plant.work()
        record = plant.store.job("tiny")
        assert record is not None
        assert record.state == "running"
        plant.update("a")
        assert [receipt.fate for receipt in plant.take("a", "receipt")] == ["received"]

    def test_a_changed_file(self, make_plant: Callable[..., Plant]) -> None:
        """A job does not change under its agents; the error says what to do."""
        plant = make_plant()
        path = Path(plant.config.coordinator.jobs[0])
        path.write_text(path.read_text().replace("rounds = 2", "rounds = 3"))
        with pytest.raises(JobError, match=r"changed: federation .*new name"):
            plant.make()

    def test_a_changed_file_of_a_finished_job(self, make_plant: Callable[..., Plant]) -> None:
        """It is over: agents still get its model, as it was run."""
        plant = make_plant()
        plant.store.update_job("tiny", updated_ns=1, state="stopped")
        path = Path(plant.config.coordinator.jobs[0])
        path.write_text(path.read_text().replace("rounds = 2", "rounds = 3"))
        plant.make()

    def test_golden_windows_of_a_finished_job(self, make_plant: Callable[..., Plant]) -> None:
        """They may be gone; those of a job that goes on may not."""
        plant = make_plant()
        path = Path(plant.config.coordinator.jobs[0])
        text = path.read_text().replace('name = "tiny"', 'name = "guarded"')
        path.write_text(text.replace('rule = "mean"', 'rule = "trust"'))
        with pytest.raises(JobError, match="no golden windows of this job"):
            plant.make()
        assert plant.store.job("guarded") is None  # so its file may still be changed
        enter(plant.store, load_job(path), 1)
        with pytest.raises(JobError, match="no golden windows of this job"):
            plant.make()
        plant.store.update_job("guarded", updated_ns=2, state="stopped")
        plant.make()

    def test_two_files_of_one_name(self, make_plant: Callable[..., Plant]) -> None:
        """Both are named, and nothing is started with either."""
        plant = make_plant()
        first = Path(plant.config.coordinator.jobs[0])
        second = first.with_name("twin.toml")
        second.write_text(first.read_text())
        section = msgspec.structs.replace(plant.config.coordinator, jobs=[str(first), str(second)])
        plant.config = msgspec.structs.replace(plant.config, coordinator=section)
        with pytest.raises(JobError, match=r"twin\.toml are both named 'tiny'"):
            plant.make()

    def test_a_broken_file(self, make_plant: Callable[..., Plant]) -> None:
        """Nothing starts with half of the jobs."""
        plant = make_plant()
        Path(plant.config.coordinator.jobs[0]).write_text("[job]\n")
        with pytest.raises(JobError):
            plant.make()
