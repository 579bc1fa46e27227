# SPDX-License-Identifier: Apache-2.0
"""The folder of one demo: configuration files, state, logs and what it leaves to look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import tomli_w

from fedmill_coordinator.clusters.offspring import job_file
from fedmill_coordinator.demo.recipes import Plan
from fedmill_shared.files import make_folder, write_atomic


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths inside the folder of a demo."""

    folder: Path
    job: Path
    coordinator: Path
    agents: dict[str, Path]
    logs: Path

    @classmethod
    def write(cls, folder: Path, plan: Plan, port: int) -> Self:
        """Write the configuration files of ``plan`` for a broker on ``port``.

        Raises:
            StoreError: the folder cannot be written.
        """
        job = make_folder(folder) / "job.toml"
        write_atomic(job, job_file(plan.job))
        coordinator = folder / "coordinator.toml"
        broker = {"host": "127.0.0.1", "port": port}
        section = {"state": "coordinator", "jobs": ["job.toml"]}
        write_atomic(coordinator, _toml({"coordinator": section, "broker": broker}))
        agents = {}
        for plant in plan.plants:
            path = make_folder(folder / "agents" / plant.agent) / "agent.toml"
            body = {"agent": {"id": plant.agent}, "broker": broker, "sources": plant.sources}
            if plant.labels:
                body["labels"] = plant.labels
            write_atomic(path, _toml(body))
            agents[plant.agent] = path
        return cls(folder, job, coordinator, agents, make_folder(folder / "logs"))


def _toml(body: Mapping[str, object]) -> bytes:
    return tomli_w.dumps(body).encode()
