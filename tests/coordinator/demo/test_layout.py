# SPDX-License-Identifier: Apache-2.0
"""The folder of a demo: what it writes can be read by those it is written for."""

from collections.abc import Callable
from pathlib import Path

from fedmill_agent.config import load as load_agent
from fedmill_coordinator.config import load
from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.recipes import Plan, Plant, plan_for
from fedmill_shared.job import Job
from fedmill_shared.job_check import load_job


class TestWrite:
    """Configuration files of a whole federation."""

    def test_programs_read_what_was_meant(self, tmp_path: Path) -> None:
        """Job, coordinator and agents: the same job, one broker, every source."""
        plan = plan_for(None, 0)[1]
        layout = Layout.write(tmp_path / "demo", plan, 4711)
        assert load_job(layout.job) == plan.job
        config = load(layout.coordinator)
        assert config.broker.port == 4711
        assert config.coordinator.jobs == [str(layout.job)]
        assert config.database.is_relative_to(layout.folder)
        for plant, (agent, path) in zip(plan.plants, layout.agents.items(), strict=True):
            own = load_agent(path)
            assert (own.agent.id, own.broker.port) == (agent, 4711) == (plant.agent, 4711)
            assert [source.name for source in own.sources] == [s["name"] for s in plant.sources]
            assert Path(own.agent.state).is_relative_to(path.parent)
        assert layout.logs.is_dir()

    def test_any_job(self, tmp_path: Path, tiny_job: Callable[..., Job]) -> None:
        """Every setting survives the way through the file."""
        job = tiny_job(rounds=7, rule="fedavgm", server_momentum=0.3, uplink="fp32", every=0)
        layout = Layout.write(tmp_path, Plan(job, [Plant("a", [])]), 1)
        assert load_job(layout.job) == job
