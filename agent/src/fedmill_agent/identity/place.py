# SPDX-License-Identifier: Apache-2.0
"""Which files an agent signs in with, by its configuration."""

from dataclasses import dataclass
from pathlib import Path

from fedmill_agent.config import AgentConfig
from fedmill_agent.identity.folder import CA, CERTIFICATE, KEY
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.options import IDENTITY, TlsSection


@dataclass(frozen=True, slots=True)
class Place:
    """The files that the agent signs in with.

    ``ours``: they are those of the identity folder, so that the agent renews them.
    """

    certificate: Path
    key: Path
    ca: Path
    ours: bool


def identity_folder(state: Path) -> Path:
    """Where in a state folder an identity is."""
    return state / IDENTITY


def place_of(config: AgentConfig) -> Place | None:
    """The files that ``config`` names; None where the agent signs in without any."""
    tls = config.broker.tls
    return None if tls is None else place_named(tls, Path(config.agent.state))


def place_named(tls: TlsSection, state: Path) -> Place:
    """The files that ``tls`` names, whose paths are absolute; ``state`` is the state folder."""
    named = Path(tls.certificate), Path(tls.key), Path(tls.ca)
    folder = identity_folder(state)
    return Place(*named, ours=named == (folder / CERTIFICATE, folder / KEY, folder / CA))


def check_ours(config: AgentConfig, path: Path) -> None:
    """Return if an identity that is enrolled is one that the agent would use.

    Raises:
        ConfigError: the configuration, which is in ``path``, names files elsewhere.
    """
    place = place_of(config)
    if place is not None and not place.ours:
        raise ConfigError(
            f"{path}: [broker.tls] names files of its own, as {place.certificate}",
            remedy="take ca, certificate and key out of it to use what enrolment brings, or renew "
            "those files where they come from",
        )
