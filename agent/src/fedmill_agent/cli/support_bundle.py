# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent support-bundle``: what others need to help, without secrets and data."""

import argparse
from pathlib import Path

from fedmill_agent.cli.identity import optional_config
from fedmill_agent.config import load
from fedmill_agent.status import read_status
from fedmill_shared.clock import SystemClock
from fedmill_shared.support.parts import common

UNIT = "fedmill-agent.service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    optional_config(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")


def run(options: argparse.Namespace) -> int:
    """Write it, while the daemon runs or not, and also where the configuration is wrong.

    Raises:
        StoreError: the file cannot be written.
    """
    parts, state = common(options.config, "agent", UNIT)
    parts.add("status.json", lambda: read_status(state))
    parts.add("check.txt", lambda: _check(options.config))
    parts.write(options.out, SystemClock())
    print(f"{options.out}: {len(parts.files)} parts; look at it before you send it")
    for name, reason in parts.missing.items():
        print(f"missing: {name}: {reason}")
    return 0


def _check(config: Path) -> str:
    return f"{config}: configuration of agent {load(config).agent.id} is well formed\n"
