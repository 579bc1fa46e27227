# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent status``: what the daemon last said of itself."""

import argparse
import time
from pathlib import Path

import msgspec

from fedmill_agent.cli import config_argument
from fedmill_agent.config import load
from fedmill_agent.status import is_alive, read_status

NOT_RUNNING = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the status; exit code 3 if the daemon is not running.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the agent never ran.
    """
    config = load(options.config)
    status = read_status(Path(config.agent.state))
    running = is_alive(status)
    if options.json:
        body = msgspec.to_builtins(status) | {"agent": config.agent.id, "running": running}
        print(msgspec.json.encode(body).decode())
        return 0 if running else NOT_RUNNING
    age = (time.time_ns() - status.state.sent_ns) / 1e9
    print(f"agent      {config.agent.id}")
    print(
        f"daemon     {'running' if running else 'not running'}, pid {status.pid}, {age:.0f} s ago"
    )
    print(f"broker     {'connected' if status.connected and running else 'not connected'}")
    trainer = f"pid {status.trainer_pid}" if status.trainer_pid and running else "not running"
    print(f"trainer    {trainer}")
    print(f"memory     {status.state.resident_bytes / 2**20:.0f} MiB")
    for name, job in status.state.jobs.items():
        windows = ", ".join(f"{count} {split}" for split, count in job.windows.items())
        print(f"job        {name}: {job.phase}, model {job.version[:12] or 'none yet'}")
        print(f"           windows {windows}; scored {job.windows_scored}, bad {job.windows_bad}")
    return 0 if running else NOT_RUNNING
