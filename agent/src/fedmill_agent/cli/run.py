# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent run``: the daemon."""

import faulthandler
import os
import signal
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from fedmill_agent.audited import AuditDesk
from fedmill_agent.cli import config_argument
from fedmill_agent.config import AgentConfig, AgentSection, load
from fedmill_agent.daemon import Daemon
from fedmill_agent.line import subscriptions
from fedmill_agent.memory import use_little_memory
from fedmill_agent.reloading import ConfigFile
from fedmill_agent.service import Service
from fedmill_agent.starts import Starts
from fedmill_shared import log
from fedmill_shared.clock import SystemClock
from fedmill_shared.files import state_folder
from fedmill_shared.link.base import Link, Message, Sink
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.notify import notifier
from fedmill_shared.stopping import on_stop

if TYPE_CHECKING:
    import argparse

    from fedmill_agent.safe import SafeDaemon


def add_arguments(parser: "argparse.ArgumentParser") -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument(
        "--safe-mode",
        action="store_true",
        help="connect, say how it is, keep the certificate: no sources, no training, no installs",
    )


def run(options: "argparse.Namespace") -> int:
    """Run until SIGTERM or Ctrl-C; read the configuration again at SIGHUP.

    After five starts in a row that failed, and with ``--safe-mode``, in safe mode.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the state folder cannot be used, or another agent uses it.
    """
    use_little_memory()
    manager = notifier(os.environ)
    if manager.watchdog_seconds:
        faulthandler.enable()  # at the watchdog's SIGABRT: what each thread was doing
    bare = load(options.config, bare=True)
    log.configure(level=bare.agent.log_level)
    folder = Path(bare.agent.state)
    forced = getattr(options, "safe_mode", False)
    asked = Event()
    on_stop(asked.set)  # who is asked to end before there is a daemon has not failed to start
    with (
        state_folder(folder, "agent"),
        Starts(folder, options.config, log.get_logger(), forced=forced) as starts,
    ):
        service = Service(SystemClock(), log.get_logger(), notifier=manager, starts=starts)
        daemon = (
            _safe(bare, starts, service)
            if starts.safe
            else _full(options.config, bare.agent, service)
        )
        on_stop(daemon.stop)
        if asked.is_set():
            daemon.stop()
        signal.signal(signal.SIGHUP, lambda _number, _frame: daemon.reload())
        daemon.run()
    return 0


def _full(path: Path, section: AgentSection, service: Service) -> Daemon:
    """The agent as it is configured."""
    audit = AuditDesk(section, SystemClock(), log.get_logger())
    file = ConfigFile(path, audit)
    config = file.load()
    daemon = Daemon(
        config,
        lambda sink, will: _connect(config, sink, will),
        SystemClock(),
        log.get_logger(),
        file=file,
        service=service,
        audit=audit,
    )
    file.begin(config.agent.state, log.get_logger())
    return daemon


def _safe(config: AgentConfig, starts: Starts, service: Service) -> "SafeDaemon":
    """The agent with nothing that could have ended the starts before."""
    from fedmill_agent.safe import SafeDaemon  # noqa: PLC0415  hardly ever

    return SafeDaemon(
        config,
        lambda sink, will: _connect(config, sink, will),
        SystemClock(),
        log.get_logger(),
        starts=starts,
        service=service,
    )


def _connect(config: AgentConfig, sink: Sink, will: Message) -> Link:
    endpoint = Endpoint(
        host=config.broker.host,
        port=config.broker.port,
        client_id=config.agent.id,
        subscriptions=subscriptions(config.agent.id),
        will=will,
        tls=config.broker.tls,
        patient=True,  # scoring needs no broker, and enrolment no restart
    )
    return MqttLink(endpoint, sink)
