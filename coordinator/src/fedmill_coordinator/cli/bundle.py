# SPDX-License-Identifier: Apache-2.0
"""``fedmill bundle``: what is signed, on a stick, for machines without a network."""

from functools import partial
from pathlib import Path

import click

from fedmill_coordinator.cli.listing import opened
from fedmill_coordinator.cli.trusted import (
    repository_of,
    settings_option,
    settings_with_trust,
    written,
)
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.trust.bundle import write_bundle
from fedmill_coordinator.trust.keys import read_online
from fedmill_shared.clock import SystemClock


@click.command(name="bundle", short_help="Write what is signed to a stick.")
@settings_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--job", "jobs", multiple=True, help="Only this job; may be given several times.")
@click.option("--software", is_flag=True, help="With all that `trust add-software` has signed.")
def command(config: Path, out: Path, jobs: tuple[str, ...], *, software: bool) -> None:
    """Write signed metadata, jobs, configuration and the newest releases to OUT.

    `fedmill-agent import OUT` checks them on the other side. They are good for two days, as long
    as the timestamp in them.
    """
    settings, trust = settings_with_trust(config)
    repository, signers = repository_of(trust), read_online(Path(trust.keys))
    # What the operator has just signed goes along.
    refresh = partial(repository.refresh, signers, SystemClock())
    blobs = Blobs(settings.blobs)
    with opened(config) as store:
        made = write_bundle(
            repository, store, blobs, out, jobs=jobs, software=software, refresh=refresh
        )
    written(settings, "trust.bundled", str(out), after=", ".join(made.jobs))
    told = [f"{job}: release {made.releases.get(job, 'none yet')}" for job in made.jobs]
    click.echo("\n".join([*told, *made.software]) or "nothing is signed that was ever run here")
