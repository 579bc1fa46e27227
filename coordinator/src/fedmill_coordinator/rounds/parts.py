# SPDX-License-Identifier: Apache-2.0
"""What one job is made of: made once, by the conductor, and worked with by desk and herald too."""

from dataclasses import dataclass

from fedmill_coordinator.registry.golden import GoldenSet
from fedmill_coordinator.registry.newest import Versions
from fedmill_coordinator.registry.rollout.rollout import Rollout
from fedmill_coordinator.rounds.attendance import Attendance
from fedmill_coordinator.rounds.book import Rounds
from fedmill_coordinator.rounds.means import Means
from fedmill_coordinator.rounds.past import RECENT_ROUNDS, RECENT_UPDATES
from fedmill_coordinator.rounds.reception import Reception
from fedmill_coordinator.rounds.stage import Stage
from fedmill_coordinator.rounds.statistics import Statistics
from fedmill_coordinator.rounds.wishes import Wishes
from fedmill_coordinator.services import Services
from fedmill_shared.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one job, and the services that it shares with others."""

    job: Job
    services: Services
    stage: Stage
    agents: Attendance
    reception: Reception
    versions: Versions
    rollout: Rollout
    rounds: Rounds
    statistics: Statistics
    wishes: Wishes


def parts_of(job: Job, services: Services, golden: GoldenSet | None) -> Parts:
    """The parts of ``job`` as the store left them; ``golden`` is for the rule ``trust``.

    Raises:
        StoreError: something that the job goes on from is gone.
    """
    store, blobs, clock = services.store, services.blobs, services.clock
    versions = Versions(job, store, blobs, services.voice, clock)
    stage = Stage(job.name, store, clock)
    stopped_later = stage.state == "stopped" and store.versions(job.name)
    if stage.state in ("running", "finished") or stopped_later:
        versions.restore()
    agents = Attendance(job.name, services.fleet)
    recent = store.recent_updates(job.name, RECENT_UPDATES)
    agents.learn(store.rounds(job.name, last=RECENT_ROUNDS), reversed(recent))
    means = Means(job=job, services=services, versions=versions, golden=golden)
    return Parts(
        job=job,
        services=services,
        stage=stage,
        agents=agents,
        reception=Reception(
            job.name,
            services.spool / job.name,
            store=store,
            blobs=blobs,
            clock=clock,
            log=services.log,
            signed=services.signed,
        ),
        versions=versions,
        rollout=Rollout(job, services, versions, agents.present),
        rounds=Rounds(means, stage),
        statistics=Statistics(job, store, clock),
        wishes=Wishes(job, services, stage, agents),
    )
