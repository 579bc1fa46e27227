# SPDX-License-Identifier: Apache-2.0
"""Puts together what all jobs of a coordinator share."""

from pathlib import Path

from fedmill_coordinator.anchors import FOLDER, Anchors
from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.counts import load_counts
from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.traffic import Traffic
from fedmill_coordinator.trust.vouching import make_vouching
from fedmill_coordinator.voice import LinkVoice
from fedmill_shared.audit import Audit
from fedmill_shared.clock import Clock
from fedmill_shared.link.base import Link
from fedmill_shared.log import Logger


def assemble(
    config: CoordinatorConfig, store: Store, link: Link, clock: Clock, log: Logger, *, audit: Audit
) -> Services:
    """The services of a daemon with this ``config``, which speak over ``link``.

    Raises:
        StoreError: the state folder cannot be used.
        TrustError: keys of ``[trust]`` are missing or wrong.
    """
    state = Path(config.coordinator.state)
    fleet, traffic = Fleet(store, clock), Traffic()
    voice = LinkVoice(link, fleet, traffic, clock, log)
    return Services(
        store=store,
        blobs=Blobs(config.blobs),
        spool=config.spool,
        fleet=fleet,
        traffic=traffic,
        voice=voice,
        clock=clock,
        log=log,
        signed=config.pki is not None,
        counts=load_counts(state),
        audit=audit,
        anchors=Anchors(state / FOLDER, log, audit, clock),
        trust=make_vouching(config.trust, voice, clock, log, audit),
    )
