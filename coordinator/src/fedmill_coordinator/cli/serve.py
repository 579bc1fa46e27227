# SPDX-License-Identifier: Apache-2.0
"""``fedmill serve``: the daemon."""

import fcntl
import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_coordinator.daemon import SUBSCRIPTIONS, Daemon
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared import log
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder
from fedmill_shared.link.base import Link, Sink
from fedmill_shared.link.mqtt import Endpoint, MqttLink

INFLIGHT = 200


@click.command(name="serve", short_help="Run the coordinator.")
@click.argument("config", type=click.Path(path_type=Path))
def command(config: Path) -> None:
    """Run the coordinator that the file CONFIG describes, until SIGTERM or Ctrl-C."""
    settings = load(config)
    log.configure(level=settings.coordinator.log_level)
    state = make_folder(Path(settings.coordinator.state))
    with _locked(state), SqlStore(f"sqlite:///{settings.database}") as store:
        daemon = Daemon(
            settings,
            lambda sink: _connect(settings, sink),
            store,
            SystemClock(),
            log.get_logger(),
        )

        def stop(_signal: int, _frame: FrameType | None) -> None:
            daemon.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            daemon.run()
        finally:
            gc.freeze()  # the last collection would walk all of torch and take a second


def _connect(settings: CoordinatorConfig, sink: Sink) -> Link:
    endpoint = Endpoint(
        host=settings.broker.host,
        port=settings.broker.port,
        client_id=settings.coordinator.id,
        subscriptions=SUBSCRIPTIONS,
        inflight=INFLIGHT,
    )
    return MqttLink(endpoint, sink)


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Hold the state folder, so that two coordinators never write the same database."""
    handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StoreError(
            f"{state}: another coordinator is running with this state folder",
            remedy="stop it, or give this one a folder of its own",
        ) from error
    try:
        yield
    finally:
        os.close(handle)
