# SPDX-License-Identifier: Apache-2.0
"""``fedmill support-bundle``: what others need to help, without secrets and data."""

from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.listing import opened
from fedmill_coordinator.cli.place import config_option
from fedmill_shared.clock import SystemClock
from fedmill_shared.support.parts import common

UNIT = "fedmill-coordinator.service"
ROUNDS = 50


@click.command(name="support-bundle", short_help="Write what others need to help.")
@config_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
def command(config: Path, *, out: Path) -> None:
    """Write configuration, logs and state of rounds and agents, without secrets and models."""
    parts, _state = common(config, "coordinator", UNIT)
    parts.add("fleet.json", lambda: _fleet(config))
    parts.add("rounds.json", lambda: _rounds(config))
    parts.write(out, SystemClock())
    click.echo(f"{out}: {len(parts.files)} parts; look at it before you send it")
    for name, reason in parts.missing.items():
        click.echo(f"missing: {name}: {reason}")


def _fleet(config: Path) -> object:
    with opened(config) as store:
        return store.agents()


def _rounds(config: Path) -> object:
    with opened(config) as store:
        return {
            job.name: {
                "state": job.state,
                "paused": job.paused,
                "sha256": job.sha256,
                "rounds": [msgspec.to_builtins(r) for r in store.rounds(job.name)[-ROUNDS:]],
            }
            for job in store.jobs()
        }
