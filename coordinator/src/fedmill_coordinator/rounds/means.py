# SPDX-License-Identifier: Apache-2.0
"""What a round of one job is held with."""

from dataclasses import dataclass

from fedmill_coordinator.registry.golden import GoldenSet
from fedmill_coordinator.registry.newest import Versions
from fedmill_coordinator.services import Services
from fedmill_shared.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The job, what it shares with others, and the model that its rounds move.

    Attributes:
        job: names the rules.
        services: where rounds and updates are kept.
        versions: those that rounds make.
        golden: what the rule ``trust`` measures by.
    """

    job: Job
    services: Services
    versions: Versions
    golden: GoldenSet | None = None
