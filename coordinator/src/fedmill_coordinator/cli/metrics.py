# SPDX-License-Identifier: Apache-2.0
"""``fedmill metrics``: how the fleet fares, for Prometheus or a look by hand."""

from pathlib import Path

import click

from fedmill_coordinator.cli.listing import config_argument, opened
from fedmill_coordinator.config import load
from fedmill_coordinator.exposition.collector import stored_exposition
from fedmill_shared.clock import SystemClock
from fedmill_shared.files import write_atomic


@click.command(name="metrics", short_help="Print metrics for Prometheus.")
@config_argument
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write this file whole instead of printing."
)
def command(config: Path, out: Path | None) -> None:
    """Print metrics of the fleet of the coordinator with the configuration CONFIG for Prometheus.

    They are what the coordinator tells on the listener of [metrics] too, but for what only the
    running one knows; what it counts is at most half a minute old here.
    """
    with opened(config) as store:
        text = stored_exposition(load(config), store, SystemClock().now_ns())
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomic(out, text)
