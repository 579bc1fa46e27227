# SPDX-License-Identifier: Apache-2.0
"""What the commands share that tell the running coordinator to do something.

An order is a row of the store: the coordinator needs no port for it, and an order that is given
while it is down waits for it.
"""

import getpass
import os
import time
from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.listing import chosen_job, opened
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import REFUSED_ORDER, OrderRecord, Verb
from fedmill_shared.errors import FedmillError

WAIT_SECONDS = 10.0
POLL_SECONDS = 0.1

name_argument = click.argument("name")
order_option = click.option("--json", "as_json", is_flag=True, help="Print the order as JSON.")


def give(config: Path, name: str, verb: Verb, *, as_json: bool) -> None:
    """Order the coordinator with this configuration to ``verb`` job ``name``; say what came of it.

    Raises:
        UsageError: there is no such job.
        StoreError: the order cannot be stored.
        FedmillError: the order was refused, or nobody has dealt with it yet.
    """
    with opened(config) as store:
        job = chosen_job(store, name)
        number = store.give_order(job, verb, operator(), time.time_ns())
        order = _awaited(store, number)
    if as_json:
        click.echo(msgspec.json.encode(order).decode())
    if order.done_ns is None:
        raise FedmillError(
            f"order {number} to {verb} job {job} waits: no coordinator took it in "
            f"{WAIT_SECONDS:.0f} s",
            remedy="it is carried out when the coordinator runs; see `fedmill serve` and its log",
        )
    if order.outcome.startswith(REFUSED_ORDER):
        reason = order.outcome.removeprefix(REFUSED_ORDER)
        raise FedmillError(
            f"job {job}: the coordinator refuses to {verb} it: {reason}",
            remedy="see `fedmill jobs` and `fedmill rounds` for how far it is",
        )
    if not as_json:
        click.echo(f"job {job}: {order.outcome}")


def operator() -> str:
    """The login name of who gives the order, also where it is given as the service user."""
    # The database belongs to the service user: behind sudo only this tells people apart.
    login = os.environ.get("SUDO_USER")
    if login:
        return login
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _awaited(store: Store, number: int) -> OrderRecord:
    """The order when it is done, or as it is when nobody took it in time."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        order = store.order(number)
        if order is None:
            raise FedmillError(
                f"order {number} is gone", remedy="the database was replaced; try again"
            )
        if order.done_ns is not None or time.monotonic() >= end:
            return order
        time.sleep(POLL_SECONDS)
