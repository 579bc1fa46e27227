# SPDX-License-Identifier: Apache-2.0
"""``fedmill serve``: the daemon."""

import gc
from pathlib import Path

import click

from fedmill_coordinator.backup.applying import finish
from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared import log
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.audit.trail import Trail
from fedmill_shared.clock import SystemClock
from fedmill_shared.files import state_folder
from fedmill_shared.link.base import Link, Sink
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.stopping import on_stop

INFLIGHT = 200


@click.command(name="serve", short_help="Run the coordinator.")
@click.argument("config", type=click.Path(path_type=Path))
def command(config: Path) -> None:
    """Run the coordinator that the file CONFIG describes, until SIGTERM or Ctrl-C."""
    settings = load(config)
    log.configure(level=settings.coordinator.log_level)
    with (
        state_folder(Path(settings.coordinator.state), "coordinator") as state,
        SqlStore(f"sqlite:///{settings.database}") as store,
    ):
        if finish(state):
            log.get_logger().warning("restore.finished", state=str(state))
        # Imports torch, which takes seconds: what is wrong by now is told without it.
        from fedmill_coordinator.daemon import Daemon  # noqa: PLC0415

        events = log.get_logger()
        trail = Trail(AuditLog(Path(settings.coordinator.state) / FILE, SystemClock()), events)
        events.info("audit.head", head=trail.head())
        daemon = Daemon(
            settings,
            lambda sink: _connect(settings, sink),
            store,
            SystemClock(),
            events,
            audit=trail,
        )
        on_stop(daemon.stop)
        try:
            daemon.run()
        finally:
            events.info("audit.head", head=trail.head())
            gc.freeze()  # the last collection would walk all of torch and take a second


def _connect(settings: CoordinatorConfig, sink: Sink) -> Link:
    from fedmill_coordinator.daemon import SUBSCRIPTIONS  # noqa: PLC0415

    endpoint = Endpoint(
        host=settings.broker.host,
        port=settings.broker.port,
        client_id=settings.coordinator.id,
        subscriptions=SUBSCRIPTIONS,
        inflight=INFLIGHT,
    )
    return MqttLink(endpoint, sink)
