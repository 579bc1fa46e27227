# SPDX-License-Identifier: Apache-2.0
"""What the listing commands share: the store they read, and tables or JSON."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

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

Row = Mapping[str, object]
WIDE = 200
"""Columns of a table that goes into a file or a pipe."""


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
    with SqlStore.in_file(settings.database) as store:
        yield store


def chosen_job(store: Store, name: str | None) -> str:
    """The job that is meant.

    Raises:
        UsageError: there is none of that name, or none was named and there are several.
    """
    names = [job.name for job in store.jobs()]
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise UsageError(
            f"--job is {name!r}" if name else "--job is missing",
            remedy=f"jobs: {', '.join(names) or 'none'}",
        )
    return str(name)


def show(title: str, rows: Sequence[Row], *, as_json: bool, only_json: Sequence[str] = ()) -> None:
    """Print ``rows`` as a table without the columns ``only_json``, or as one JSON array."""
    if as_json:
        click.echo(msgspec.json.encode(list(rows)).decode())
        return
    if not rows:
        click.echo(f"{title}: none yet")
        return
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  slow to import, and not needed for JSON
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    columns = [name for name in rows[0] if name not in only_json]
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(
            name.removesuffix("_bytes").replace("_", " "), justify="right" if numeric else "left"
        )
    for row in rows:
        table.add_row(*(Text(_text(name, row.get(name))) for name in columns))
    console = Console()
    console.width = console.width if console.is_terminal else WIDE
    console.print(table)


def when(moment_ns: int | None) -> str:
    """A time for people, UTC."""
    if moment_ns is None:
        return ""
    return datetime.fromtimestamp(moment_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 1e6:.2f} MB"
    if isinstance(value, float):
        return f"{value:.4g}"
    # Some of it was said by agents: nothing in it may steer the terminal.
    return "".join(c if c.isprintable() else " " for c in str(value))
