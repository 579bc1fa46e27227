# SPDX-License-Identifier: Apache-2.0
"""An agent that has its jobs and their models already, as after a restart, and only scores."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.memory import rollup

from fedmill_agent.inference.shelf import VersionShelf
from fedmill_agent.places import job_folder, versions_folder
from fedmill_agent.status import Status, read_status
from fedmill_coordinator.demo.broker import broker
from fedmill_coordinator.demo.processes import Processes, program
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.files import make_folder, sha256
from fedmill_shared.job import Job
from fedmill_shared.job_check import canonical
from fedmill_shared.messages import BlobName, VersionNotice
from fedmill_shared.models.manifest import vector_bytes

AGENT = "agent"
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 120.0
CONFIG = """
[agent]
id = "bench"
state = "state"

[broker]
port = {port}

[training]
enabled = false

[[sources]]
name = "live"
kind = "rig"
split = "live"
seconds = 1.0
speed = 1.0
repeat = true
"""


def prepare(folder: Path, jobs: Sequence[Job], port: int) -> Path:
    """An agent's configuration, and the state of one that has installed a version of each job."""
    make_folder(folder)
    for job in jobs:
        text = canonical(job)
        state = folder / "state"
        (make_folder(job_folder(str(state), job.name)) / "job.json").write_bytes(text)
        shelf = VersionShelf(versions_folder(str(state), job))
        shelf.activate(_first(job, shelf))
    path = folder / "agent.toml"
    path.write_text(CONFIG.format(port=port))
    return path


@contextmanager
def scoring(folder: Path, jobs: Sequence[Job]) -> Iterator[Status]:
    """A daemon of its own process that scores a live stream for all ``jobs``.

    Raises:
        FedmillError: it does not, within two minutes.
    """
    with broker(folder / "broker") as port, Processes(make_folder(folder)) as processes:
        config = prepare(folder / "agent", jobs, port)
        processes.start(AGENT, program("fedmill_agent", "run", config))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (status := _look(config.parent / "state", len(jobs))) is None:
            processes.check()
            if time.monotonic() > deadline:
                raise FedmillError("the agent does not score", remedy=f"see {folder}")
            time.sleep(POLL_SECONDS)
        yield status


def resident(folder: Path, jobs: Sequence[Job], seconds: float) -> float:
    """MiB that a daemon has of which pages are in memory, ``seconds`` after it began to score.

    Raises:
        FedmillError: it does not score.
    """
    with scoring(folder, jobs) as status:
        time.sleep(seconds)
        return rollup(Path(f"/proc/{status.pid}/smaps_rollup").read_text())["Rss"]


def _look(state: Path, jobs: int) -> Status | None:
    """Its last word, once it scores for all of them."""
    try:
        status = read_status(state)
    except StoreError:
        return None
    phases = status.state.jobs.values()
    return status if sum(phase.windows_scored > 0 for phase in phases) == jobs else None


def _first(job: Job, shelf: VersionShelf) -> VersionNotice:
    """The first version of ``job``, on the shelf."""
    from fedmill_coordinator.registry.versions import Architecture
    from fedmill_shared.models.normaliser import identity

    architecture = Architecture.create(job, identity(job))
    made = architecture.first(identity(job))

    def put(blob: bytes) -> BlobName:
        shelf.put(blob)
        return BlobName(sha256=sha256(blob), size=len(blob))

    return VersionNotice(
        job=job.name,
        number=0,
        version=made.version,
        manifest=put(architecture.manifest_blob),
        template=put(architecture.template),
        canary_inputs=put(architecture.canary),
        canary_outputs=made.canary_outputs,
        snapshot=put(vector_bytes(made.vector)),
        base="",
        delta=None,
    )
