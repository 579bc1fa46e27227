# SPDX-License-Identifier: Apache-2.0
"""``fedmill models watch``: a release as it goes on, live on a terminal, as events otherwise."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedmill_coordinator.cli.listing import chosen_job, config_argument, job_option, opened
from fedmill_coordinator.cli.reported import agent_rows, chosen_release, headline, release_row
from fedmill_coordinator.cli.table import Row
from fedmill_coordinator.registry.rollout.progress import FAILED
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_releases import ReleaseRecord
from fedmill_coordinator.store.rules_releases import GOING
from fedmill_shared import log
from fedmill_shared.errors import FedmillError, Interrupted, UsageError
from fedmill_shared.printable import printable

POLL_SECONDS = 0.5
MOST_SHOWN = 30
"""Agents that the live view has room for; those that are done make room for the others."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A release and its agents at one moment."""

    release: Row
    agents: list[Row]


@click.command(name="watch")
@config_argument
@job_option
def watch(config: Path, job: str | None) -> None:
    """Follow the newest release until it is over; Ctrl-C ends the watching, not the release.

    What comes after it, such as the way back from one that was aborted, is a release of its own.
    """
    with opened(config) as store:
        name = chosen_job(store, job)
        release = chosen_release(store, name, None)
        if release is None:
            raise UsageError(
                f"job {name}: no release to watch", remedy="begin one with `fedmill models promote`"
            )
        try:
            with _view() as update:
                last = _follow(store, release, update)
        except KeyboardInterrupt as error:
            raise Interrupted("no longer watched; the release goes on") from error
    told = headline(last.release)
    if last.release["state"] != "done":
        raise FedmillError(f"{told}: {last.release['reason']}", remedy="see `fedmill models show`")
    click.echo(told)


def _follow(store: Store, release: ReleaseRecord, update: Callable[[Snapshot], None]) -> Snapshot:
    """Show every change of ``release`` until it is over; what there was to see last."""
    while True:
        found = store.release(release.job, release.release) or release
        snapshot = Snapshot(release_row(store, found), agent_rows(store, release.job, found))
        update(snapshot)
        if found.state not in GOING:
            return snapshot
        time.sleep(POLL_SECONDS)


@contextmanager
def _view() -> Iterator[Callable[[Snapshot], None]]:
    if not sys.stderr.isatty():
        yield Events().update
        return
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda snapshot: live.update(picture(snapshot), refresh=True)


class Events:
    """One event for each agent that has moved, and one for each change of the release."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        log.configure()
        self._log = log.get_logger()
        self._release: tuple[object, ...] = ()
        self._agents: dict[str, object] = {}

    def update(self, snapshot: Snapshot) -> None:
        """Tell what is new."""
        release = snapshot.release
        seen = tuple(release[name] for name in ("release", "state", "opened", "soaks_until"))
        if seen != self._release:
            self._release = seen
            fields = ("release", "number", "state", "opened", "asked", "committed", "failed")
            self._log.info("release.progress", **{name: release[name] for name in fields})
        for row in snapshot.agents:
            agent, state = str(row["agent"]), row["state"]
            if self._agents.get(agent) != (release["release"], state):
                self._agents[agent] = (release["release"], state)
                told = {name: row[name] for name in ("agent", "state", "gate", "reason")}
                self._log.info("release.agent", **told)


def picture(snapshot: Snapshot) -> Group:
    """The release and its agents as the live view shows them: those that are waited for first."""
    release = snapshot.release
    order = {**dict.fromkeys(FAILED, 1), "committed": 3, "not asked": 4}
    rows = sorted(snapshot.agents, key=lambda row: order.get(str(row["state"]), 2))
    table = Table(box=None, pad_edge=False)
    headings = ("agent", "there", "state", "gate", "reason")
    for heading in headings:
        table.add_column(heading)
    for row in rows[:MOST_SHOWN]:
        table.add_row(*(Text(printable(str(row[name]))) for name in headings))
    counts = (
        f"{release['asked']} asked, {release['committed']} committed, "
        f"{release['failed']} failed, {release['waiting']} waited for"
    )
    soaks = release["soaks_until"]
    lines: list[ConsoleRenderable] = [
        Text(headline(release), style="bold"),
        Text(f"{counts}{_soak(soaks)}"),
        table,
    ]
    if len(rows) > MOST_SHOWN:
        lines.append(Text(f"and {len(rows) - MOST_SHOWN} more"))
    return Group(*lines)


def _soak(until: object) -> str:
    return f"; soaks until {until} UTC" if until else ""
