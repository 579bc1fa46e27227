# SPDX-License-Identifier: Apache-2.0
"""``fedmill serve``: the daemon."""

import faulthandler
import gc
import os
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmill_coordinator.audited import audit_log, note_config
from fedmill_coordinator.backup.applying import finish
from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.counts import AUDIT_LOST
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared import log
from fedmill_shared.audit.trail import Trail
from fedmill_shared.clock import SystemClock
from fedmill_shared.files import state_folder
from fedmill_shared.link.base import Link, Sink
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.notify import notifier
from fedmill_shared.stopping import on_stop
from fedmill_shared.vigil import Vigil

if TYPE_CHECKING:
    from fedmill_coordinator.daemon import Daemon

INFLIGHT = 200


@click.command(name="serve", short_help="Run the coordinator.")
@click.argument("config", type=click.Path(path_type=Path))
def command(config: Path) -> None:
    """Run the coordinator that the file CONFIG describes, until SIGTERM or Ctrl-C."""
    manager = notifier(os.environ)
    if manager.watchdog_seconds:
        faulthandler.enable()  # at the watchdog's SIGABRT: what each thread was doing
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
        trail = Trail(audit_log(settings, SystemClock()), events)
        events.info("audit.head", head=trail.head())
        note_config(config, state, trail)
        daemon = Daemon(
            settings,
            lambda sink: _connect(settings, sink),
            store,
            SystemClock(),
            events,
            audit=trail,
            vigil=Vigil(manager, SystemClock(), events),
        )
        trail.count(partial(daemon.counts.add, AUDIT_LOST))
        on_stop(daemon.stop)
        try:
            with _reported(settings, daemon):
                daemon.run()
        finally:
            events.info("audit.head", head=trail.head())
            gc.freeze()  # the last collection would walk all of torch and take a second


def _reported(settings: CoordinatorConfig, daemon: "Daemon") -> AbstractContextManager[object]:
    """What tells Prometheus of ``daemon`` while it runs, if that is wanted.

    Raises:
        FedmillError: the address cannot be listened on.
    """
    if settings.metrics is None:
        return nullcontext()
    from fedmill_coordinator.exposition.metric import Live  # noqa: PLC0415  few want it
    from fedmill_coordinator.exposition.report import Report  # noqa: PLC0415

    started_ns = SystemClock().now_ns()
    return Report(
        settings,
        lambda: Live(started_ns, daemon.connected, daemon.counts.copy()),
        SystemClock(),
        log.get_logger(),
    )


def _connect(settings: CoordinatorConfig, sink: Sink) -> Link:
    from fedmill_coordinator.daemon import SUBSCRIPTIONS  # noqa: PLC0415

    endpoint = Endpoint(
        host=settings.broker.host,
        port=settings.broker.port,
        client_id=settings.coordinator.id,
        subscriptions=SUBSCRIPTIONS,
        inflight=INFLIGHT,
        tls=settings.broker.tls,
    )
    return MqttLink(endpoint, sink)
