# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent run``: the daemon."""

import argparse
import fcntl
import os
import signal
from pathlib import Path
from types import FrameType

from fedmill_agent.cli import config_argument
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.daemon import Daemon, subscriptions
from fedmill_agent.memory import use_little_memory
from fedmill_shared import log
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import StoreError
from fedmill_shared.files import make_folder
from fedmill_shared.link.base import Link, Message, Sink
from fedmill_shared.link.mqtt import Endpoint, MqttLink


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the state folder cannot be used, or another agent uses it.
    """
    use_little_memory()
    config = load(options.config)
    log.configure(level=config.agent.log_level)
    lock = _lock(Path(config.agent.state))
    daemon = Daemon(
        config,
        lambda sink, will: _connect(config, sink, will),
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
        os.close(lock)
    return 0


def _connect(config: AgentConfig, sink: Sink, will: Message) -> Link:
    endpoint = Endpoint(
        host=config.broker.host,
        port=config.broker.port,
        client_id=config.agent.id,
        subscriptions=subscriptions(config.agent.id),
        will=will,
    )
    return MqttLink(endpoint, sink)


def _lock(state: Path) -> int:
    """Hold the state folder, so that two daemons never write the same files."""
    handle = os.open(make_folder(state) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StoreError(
            f"{state}: another agent is running with this state folder",
            remedy="stop it, or give this one a folder of its own",
        ) from error
    return handle
