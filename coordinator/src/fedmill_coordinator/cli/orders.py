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

from fedmill_coordinator.audited import audit_log
from fedmill_coordinator.cli.listing import chosen_job, opened
from fedmill_coordinator.config import load
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import REFUSED_ORDER, OrderRecord, Verb
from fedmill_shared.audit import AuditLog
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import FedmillError, Interrupted, StoreError

WAIT_SECONDS = 10.0
POLL_SECONDS = 0.1
QUIET_SECONDS = 1.0
"""After this time a person is told what the command waits for."""
WITHDRAWN = "withdrawn by the operator"

name_argument = click.argument("name")
order_option = click.option("--json", "as_json", is_flag=True, help="Print the order as JSON.")


IN_WORDS: dict[Verb, str] = {
    "promote": "promote a version",
    "rollback": "roll back",
    "pause_rollout": "hold its release",
    "resume_rollout": "go on with its release",
}
"""What verbs that are no plain words do to a job."""


def give(config: Path, name: str, verb: Verb, *, as_json: bool, argument: str = "") -> None:
    """Order the coordinator with this configuration to ``verb`` job ``name``; say what came of it.

    ``argument`` is what else the order says, as JSON text.

    Raises:
        UsageError: there is no such job.
        StoreError: the order cannot be stored, or not be recorded: it is not given.
        AuditError: the audit log does not end with a record; likewise.
        FedmillError: the order was refused, or nobody has dealt with it yet.
        Interrupted: Ctrl-C withdrew it, or came too late for that.
    """
    with opened(config) as store:
        job = named_job(store, name)
        audit = audit_of(config)
        audit.record(who=who(), what=f"ordered.{verb}", subject=job, after=argument)
        number = store.give_order(job, verb, operator(), time.time_ns(), argument=argument)
        order, interrupted = _awaited_or_withdrawn(store, number)
    words = IN_WORDS.get(verb, f"{verb} it")
    if as_json:
        click.echo(msgspec.json.encode(order).decode())
    if interrupted:
        raise Interrupted(f"job {job}: order {number} to {words}: {order.outcome}")
    if order.done_ns is None:
        raise FedmillError(
            f"job {job}: order {number} to {words} waits: no coordinator took it in "
            f"{WAIT_SECONDS:.0f} s",
            remedy="it is carried out when the coordinator runs; see `fedmill serve` and its log",
        )
    if order.outcome.startswith(REFUSED_ORDER):
        reason = order.outcome.removeprefix(REFUSED_ORDER)
        raise FedmillError(
            f"job {job}: the coordinator refuses to {words}: {reason}",
            remedy="see `fedmill models show` for how far it is"
            if verb in IN_WORDS
            else "see `fedmill jobs` and `fedmill rounds` for how far it is",
        )
    if not as_json:
        click.echo(f"job {job}: {order.outcome}")


def named_job(store: Store, name: str) -> str:
    """The job that the argument NAME means.

    Raises:
        UsageError: there is none of that name.
    """
    return chosen_job(store, name, "NAME")


def audit_of(config: Path) -> AuditLog:
    """The audit log of the coordinator with this configuration.

    Raises:
        ConfigError: the configuration is wrong.
    """
    return audit_log(load(config), SystemClock())


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


def _awaited_or_withdrawn(store: Store, number: int) -> tuple[OrderRecord, bool]:
    """The order when nothing more is to be waited for, and whether Ctrl-C was the reason."""
    try:
        return _awaited(store, number), False
    except KeyboardInterrupt:
        try:
            store.finish_order(number, done_ns=time.time_ns(), outcome=WITHDRAWN)
        except StoreError:
            # The coordinator may have been faster: then its outcome is what the operator must know.
            if _found(store, number).done_ns is None:
                raise
        return _found(store, number), True


def _awaited(store: Store, number: int) -> OrderRecord:
    """The order when it is done, or as it is when nobody took it in time."""
    begin, told = time.monotonic(), False
    while True:
        order, waited = _found(store, number), time.monotonic() - begin
        if order.done_ns is not None or waited >= WAIT_SECONDS:
            return order
        if waited >= QUIET_SECONDS and not told:
            click.echo("waiting for the coordinator ...", err=True)
            told = True
        time.sleep(POLL_SECONDS)


def _found(store: Store, number: int) -> OrderRecord:
    order = store.order(number)
    if order is None:
        raise FedmillError(f"order {number} is gone", remedy="the database was replaced; try again")
    return order
