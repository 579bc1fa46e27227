# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent run``: the daemon."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from fedmill_agent.cli import config_argument
from fedmill_agent.config import AgentConfig
from fedmill_agent.daemon import Daemon
from fedmill_agent.line import subscriptions
from fedmill_agent.memory import use_little_memory
from fedmill_agent.reloading import ConfigFile
from fedmill_shared import log
from fedmill_shared.clock import SystemClock
from fedmill_shared.files import state_folder
from fedmill_shared.link.base import Link, Message, Sink
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.stopping import on_stop

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Arguments of the command."""
    config_argument(parser)


def run(options: "argparse.Namespace") -> int:
    """Run until SIGTERM or Ctrl-C; read the configuration again at SIGHUP.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the state folder cannot be used, or another agent uses it.
    """
    use_little_memory()
    file = ConfigFile(options.config)
    config = file.load()
    log.configure(level=config.agent.log_level)
    with state_folder(Path(config.agent.state), "agent"):
        daemon = Daemon(
            config,
            lambda sink, will: _connect(config, sink, will),
            SystemClock(),
            log.get_logger(),
            file=file,
        )
        file.keep(config.agent.state, log.get_logger())
        on_stop(daemon.stop)
        signal.signal(signal.SIGHUP, lambda _number, _frame: daemon.reload())
        daemon.run()
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
