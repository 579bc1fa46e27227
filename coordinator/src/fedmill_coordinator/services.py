# SPDX-License-Identifier: Apache-2.0
"""What all jobs of a coordinator share; made once, by the daemon."""

from dataclasses import dataclass, field
from pathlib import Path

from fedmill_coordinator.anchors import Anchors
from fedmill_coordinator.counts import Counts
from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.traffic import Traffic
from fedmill_coordinator.trust.vouching import Nobody, Vouching
from fedmill_coordinator.voice import Voice
from fedmill_shared.audit import Audit, NoAudit
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Where things are kept, who is there, and how to speak to them.

    Attributes:
        store: rows.
        blobs: files by their content.
        spool: folder of updates that have arrived in part.
        fleet: what agents last said of themselves.
        traffic: bytes by job and agent.
        voice: speaks to agents.
        clock: what time it is.
        log: where events go; each job has one that names it.
        signed: whether updates count only with their agent's signature.
        counts: what happened that no row remembers.
        audit: where steering actions are recorded; it raises nothing.
        trust: who signs releases, before agents are told of them.
        anchors: how far the audit logs of agents have come; None where nobody keeps that.
    """

    store: Store
    blobs: Blobs
    spool: Path
    fleet: Fleet
    traffic: Traffic
    voice: Voice
    clock: Clock
    log: Logger
    signed: bool = False
    counts: Counts = field(default_factory=Counts)
    audit: Audit = field(default_factory=NoAudit)
    anchors: Anchors | None = None
    trust: Vouching = field(default_factory=Nobody)
