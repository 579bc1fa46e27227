# SPDX-License-Identifier: Apache-2.0
"""The coordinator's configuration file: its broker, its state folder and its jobs."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from fedmill_coordinator.pki.options import PkiSection, pki_faults, settled_pki
from fedmill_coordinator.trust.options import TrustSection, settled_trust
from fedmill_shared import toml
from fedmill_shared.audit import MAX_BYTES
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.options import TlsSection, settled, tls_faults


class CoordinatorSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Identity and place.

    Attributes:
        id: MQTT client id, fixed so that the broker keeps the session.
        state: folder for the database and the blobs; relative to the configuration file.
        jobs: job files to run; relative to the configuration file.
        golden: files of golden windows by the name of the job, for ``robustness.rule = "trust"``;
            relative to the configuration file.
        log_level: smallest level that is logged.
        audit_max_bytes: size of the audit log; past it its oldest records go, and a record says so.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}\Z")] = "coordinator"
    state: str = "state"
    jobs: list[str] = []
    golden: dict[str, str] = {}
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    audit_max_bytes: Annotated[int, Meta(ge=1_000_000)] = MAX_BYTES


class BrokerSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The MQTT broker.

    Attributes:
        host: name or address of the broker.
        port: its TCP port.
        connect_seconds: give up (exit code 20) when the broker has not answered for this long
            after the start; 0 waits for ever. A later loss is always waited out.
        tls: how the two prove who they are, as ``[broker.tls]``; none for a link in the clear.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    connect_seconds: Annotated[float, Meta(ge=0)] = 10.0
    tls: TlsSection | None = None


class MetricsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A listener that tells Prometheus how the fleet fares; without this section there is none.

    Attributes:
        host: address to listen on; what is told names agents and jobs, so ``127.0.0.1`` unless the
            network is for monitoring alone.
        port: its TCP port; 0 for any that is free.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464


class CoordinatorConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration file of a coordinator."""

    coordinator: CoordinatorSection = CoordinatorSection()
    broker: BrokerSection = BrokerSection()
    pki: PkiSection | None = None
    trust: TrustSection | None = None
    metrics: MetricsSection | None = None

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return Path(self.coordinator.state) / "fedmill.sqlite"

    @property
    def blobs(self) -> Path:
        """The folder of content-addressed blobs."""
        return Path(self.coordinator.state) / "blobs"

    @property
    def spool(self) -> Path:
        """The folder of updates that have arrived in part."""
        return Path(self.coordinator.state) / "spool"


def load(path: Path) -> CoordinatorConfig:
    """Read and check ``path``; relative paths in it become absolute.

    Raises:
        ConfigError: naming file, line, field, value and what is allowed.
    """
    text = toml.read(path, ConfigError)
    config = toml.decode(text, CoordinatorConfig, path=str(path), error=ConfigError)
    for fault in (*tls_faults(config.broker.tls), *pki_faults(config.pki)):
        raise toml.fault_error(fault, text, str(path), ConfigError)
    folder = path.resolve().parent
    section = structs.replace(
        config.coordinator,
        state=str(folder / config.coordinator.state),
        jobs=[str(folder / job) for job in config.coordinator.jobs],
        golden={job: str(folder / path) for job, path in config.coordinator.golden.items()},
    )
    tls = settled(config.broker.tls, folder, Path(section.state))
    pki = settled_pki(config.pki, folder, Path(section.state))
    broker = structs.replace(config.broker, tls=tls)
    trust = settled_trust(config.trust, folder)
    return structs.replace(config, coordinator=section, broker=broker, pki=pki, trust=trust)
