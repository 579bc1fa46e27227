# SPDX-License-Identifier: Apache-2.0
"""Where the commands of an operator find the coordinator, unless they are told."""

from pathlib import Path

import click

DEFAULT_CONFIG = "/etc/fedmill/coordinator.toml"
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="FEDMILL_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    show_envvar=True,
    help="Configuration file of the coordinator.",
)
