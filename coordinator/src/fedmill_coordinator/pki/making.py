# SPDX-License-Identifier: Apache-2.0
"""Puts together what a coordinator with a certificate authority needs."""

from pathlib import Path

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.pki.desk import IdentityDesk
from fedmill_coordinator.pki.door import Door, Post
from fedmill_coordinator.pki.keyfile import load_authority
from fedmill_coordinator.pki.register import Register
from fedmill_coordinator.store.base import Store
from fedmill_shared.audit import Audit
from fedmill_shared.clock import Clock
from fedmill_shared.log import Logger


def make_register(config: CoordinatorConfig, store: Store, clock: Clock) -> Register | None:
    """The register of the authority in ``config``; None where it has no ``[pki]``.

    Raises:
        IdentityError: the authority's files are missing, damaged, or open to others.
    """
    section = config.pki
    if section is None:
        return None
    return Register(
        load_authority(section),
        store,
        clock,
        days=section.certificate_days,
        crl=Path(section.crl),
        coordinator=config.coordinator.id,
    )


def make_door(
    config: CoordinatorConfig,
    store: Store,
    clock: Clock,
    *,
    voice: Post,
    audit: Audit,
    log: Logger,
) -> Door | None:
    """The door of the daemon; None where there is no authority, and everybody is heard.

    Raises:
        IdentityError: as `make_register`.
    """
    register = make_register(config, store, clock)
    if register is None:
        return None
    desk = IdentityDesk(register, store, clock, audit, log)
    return Door(register, desk, store=store, clock=clock, voice=voice, log=log)
