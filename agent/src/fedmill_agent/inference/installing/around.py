# SPDX-License-Identifier: Apache-2.0
"""What installations work with, and the names of what they are given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmill_agent.background import Background
from fedmill_agent.inference.installing.gates import Unsigned, Verifier
from fedmill_shared.audit import Audit, NoAudit
from fedmill_shared.clock import Clock
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.log import Logger
from fedmill_shared.messages import BlobName, VersionNotice
from fedmill_shared.models.manifest import vector_bytes

if TYPE_CHECKING:
    from fedmill_agent.inference.assembly import Checked
    from fedmill_agent.inference.installing.held_out import HeldOut

Refit = Callable[["Checked"], NDArray[np.float32] | None]
"""A version with its last layer fitted to this agent's labels, float32 (size,), as that of what
serves was; None where that was not, or where it is worth nothing. Not on the loop."""


def nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Around:
    """What the installations of one job work with.

    Attributes:
        job: the job.
        clock: the agent's.
        log: with the job bound to it.
        background: the thread for what takes time.
        disk: the thread that waits for a slow disk.
        held_out: validation windows with their truth; None where the agent keeps none aside.
        changed: is called when there is news that others should hear soon.
        verifier: who signed a release.
        audit: where it is recorded what scores; it raises nothing, and holds up nobody.
        refit: fits what is compared with a layer of this agent's own; None where nothing is fitted.
    """

    job: Job
    clock: Clock
    log: Logger
    background: Background = field(default_factory=Background)
    disk: Background = field(default_factory=Background)
    held_out: "HeldOut | None" = None
    changed: Callable[[], None] = nothing
    verifier: Verifier = field(default_factory=Unsigned)
    refit: Refit | None = None
    audit: Audit = field(default_factory=NoAudit)


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A model that this agent has made itself.

    Attributes:
        origin: how: ``feedback``, ``recalibrated`` or ``personal``, for instance.
        vector: float32 (size,), laid out as the version that serves.
        reason: why, for people.
    """

    origin: str
    vector: NDArray[np.float32]
    reason: str

    def notice(self, served: VersionNotice) -> VersionNotice:
        """It as a version, made of what serves but for its weights; nobody has checked it yet."""
        blob = vector_bytes(self.vector)
        version = sha256(blob)
        return structs.replace(
            served,
            version=version,
            snapshot=BlobName(sha256=version, size=len(blob)),
            delta=None,
            base="",
            canary_outputs=b"",
            evaluate=False,
        )
