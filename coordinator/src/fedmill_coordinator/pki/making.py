# SPDX-License-Identifier: Apache-2.0
"""Puts together what a coordinator with a certificate authority needs."""

from pathlib import Path

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.pki.desk import IdentityDesk
from fedmill_coordinator.pki.door import Door
from fedmill_coordinator.pki.keyfile import load_authority
from fedmill_coordinator.pki.register import Register
from fedmill_coordinator.services import Services
from fedmill_coordinator.store.base import Store
from fedmill_shared.clock import Clock


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


def make_door(config: CoordinatorConfig, services: Services) -> Door | None:
    """The door of the daemon; None where there is no authority, and everybody is heard.

    Raises:
        IdentityError: as `make_register`.
    """
    register = make_register(config, services.store, services.clock)
    if register is None:
        return None
    desk = IdentityDesk(register, services.store, services.clock, services.audit, services.log)
    return Door(
        register,
        desk,
        store=services.store,
        clock=services.clock,
        voice=services.voice,
        counts=services.counts,
        log=services.log,
    )
