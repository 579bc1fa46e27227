# SPDX-License-Identifier: Apache-2.0
"""What the listing commands share: the store they read, and tables or JSON."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.table import Column, Row, show_table
from fedmill_coordinator.config import load
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import StoreError, UsageError

config_argument = click.argument("config", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
job_option = click.option("--job", help="Name of the job; not needed if there is only one.")
last_option = click.option(
    "--last", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0 for all."
)


class ListingGroup(click.Group):
    """A group whose command ``list`` need not be named."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` before anything that is neither a command nor a plea for help.

        A listing takes one argument, a file: what another one follows was meant for a command.
        """
        words = [each for each in args[:2] if not each.startswith("-")]
        unknown = len(words) == 2 and not words[0].endswith(".toml")
        if args and args[0] not in (*self.commands, "--help") and not unknown:
            args = ["list", *args]
        return super().parse_args(context, args)


@contextmanager
def opened(config: Path) -> Iterator[Store]:
    """The store of the coordinator with this configuration.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the coordinator never ran.
    """
    settings = load(config)
    try:
        settings.database.stat()
    except FileNotFoundError as error:
        raise StoreError(
            f"{settings.database}: no such database", remedy="run `fedmill serve` first"
        ) from error
    except OSError as error:
        raise StoreError(
            f"{settings.database}: {error.strerror}", remedy="run this as the coordinator's user"
        ) from error
    if not os.access(settings.database, os.W_OK):  # readers of SQLite's log write beside it
        raise StoreError(
            f"{settings.database}: this user may not write it, and so not read it",
            remedy="run this as the coordinator's user",
        )
    with SqlStore.in_file(settings.database) as store:
        yield store


def chosen_job(store: Store, name: str | None, given_as: str = "--job") -> str:
    """The job that is meant; errors call its name ``given_as``, as the command line does.

    Raises:
        UsageError: there is none of that name, or none was named and there are several.
    """
    names = [job.name for job in store.jobs()]
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise UsageError(
            f"{given_as} is {name!r}" if name else f"{given_as} is missing",
            remedy=f"jobs: {', '.join(names) or 'none'}",
        )
    return str(name)


def show(title: str, rows: Sequence[Row], columns: Sequence[Column], *, as_json: bool) -> None:
    """Print ``rows`` whole as one JSON array, or what ``columns`` say of them as a table."""
    if as_json:
        click.echo(msgspec.json.encode(list(rows)).decode())
    elif rows:
        show_table(title, columns, rows)
    else:
        click.echo(f"{title}: none yet")


def when(moment_ns: int | None) -> str:
    """A time for people, UTC."""
    if moment_ns is None:
        return ""
    return datetime.fromtimestamp(moment_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
