# SPDX-License-Identifier: Apache-2.0
"""``fedmill enrol``: who may become an agent of this plant."""

from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.authority import (
    OfficeGroup,
    agent_name,
    config_option,
    key_option,
    office,
)
from fedmill_coordinator.cli.listing import json_option, show, when
from fedmill_coordinator.cli.orders import operator
from fedmill_coordinator.cli.table import Column, Row, value
from fedmill_coordinator.pki.enrolling import decide, open_enrolment, preauthorise, standing
from fedmill_coordinator.pki.keyfile import read_authority_certificate
from fedmill_coordinator.pki.ttl import parse_ttl
from fedmill_coordinator.store.records_pki import EnrolmentRecord
from fedmill_shared.crypto.certificates import LARGEST_REQUEST
from fedmill_shared.errors import UsageError
from fedmill_shared.files import write_atomic

agent_argument = click.argument("agent")


@click.group(name="enrol", cls=OfficeGroup, short_help="Let boxes become agents, or not.")
def command() -> None:
    """Let boxes become agents: with a code that is typed there, or with a request from there."""


@command.command(name="new")
@config_option
@agent_argument
@click.option("--ttl", default="24h", show_default=True, help="How long the code is good: 30m, 7d.")
@click.option("--confirm", is_flag=True, help="The box waits until you accept it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def new(config: Path, agent: str, ttl: str, *, confirm: bool, as_json: bool) -> None:
    """Print a code with which one box becomes AGENT, once; an earlier code of it is void."""
    place, name, span = office(config), agent_name(agent), parse_ttl(ttl)
    pem = read_authority_certificate(place.section)
    place.check_name(name)
    with place.store() as store:
        opened = open_enrolment(
            name, pem, now_ns=place.clock.now_ns(), ttl_ns=span, confirm=confirm, by=operator()
        )
        until = when(opened.record.expires_ns)
        now = place.clock.now_ns()
        void = [standing(each, now) for each in store.enrolments(name)]
        place.note(
            "enrolment.opened",
            name,
            before=", ".join(each.state for each in void if each.waits),
            after=f"until {until}{', confirm' * confirm}",
        )
        store.add_enrolment(opened.record)
    if as_json:
        told = {"agent": name, "code": str(opened.code), "expires": until, "confirm": confirm}
        click.echo(msgspec.json.encode(told).decode())
        return
    click.echo(str(opened.code))
    click.echo(f"good once, for {name}, until {until} UTC; on its box:", err=True)
    click.echo("  sudo fedmill-agent enrol", err=True)
    click.echo("and type the code when asked. It is not shown again.", err=True)
    if confirm:
        click.echo(f"Then: fedmill enrol accept {name}", err=True)


@command.command(name="list")
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
def listing(config: Path, *, as_json: bool, everything: bool) -> None:
    """List codes that are good, and boxes that wait to be accepted."""
    place = office(config)
    now = place.clock.now_ns()
    with place.store() as store:
        rows = [_row(each, now) for each in store.enrolments()]
    wanted = [row for row in rows if everything or row["open"]]
    columns = [
        Column("agent", value("agent")),
        Column("state", value("state")),
        Column("until (UTC)", value("expires"), spare=1),
        Column("by", value("by"), spare=2),
        Column("request", value("request"), spare=3),
        Column("reason", value("reason"), wraps=True),
    ]
    show("enrolments", wanted, columns, as_json=as_json)


@command.command(name="accept")
@config_option
@agent_argument
def accept(config: Path, agent: str) -> None:
    """Accept the box that waits to become AGENT; it has its certificate a few seconds later."""
    _decide(config, agent, accepted=True, reason="")
    click.echo(f"{agent}: accepted; its box gets the certificate when it asks again")


@command.command(name="reject")
@config_option
@agent_argument
@click.option("--reason", default="", help="What the box is told.")
def reject(config: Path, agent: str, reason: str) -> None:
    """Turn away the box that waits to become AGENT, or withdraw its code."""
    _decide(config, agent, accepted=False, reason=reason)
    click.echo(f"{agent}: rejected; its code is void")


@command.command(name="preauthorise")
@config_option
@key_option
@agent_argument
@click.option(
    "--csr", required=True, type=click.Path(path_type=Path), help="Certificate request of the box."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where to write it.")
def preauthorised(config: Path, ca_key: Path | None, agent: str, *, csr: Path, out: Path) -> None:
    """Write the certificate of AGENT for a request that was fetched from its box.

    The same request gives the same certificate for as long as that holds, so that this can be run
    again and again.
    """
    place, name, request = office(config, ca_key), agent_name(agent), _read_request(csr)
    with place.store() as store:
        found = preauthorise(place.register(store), store, name, request)
        if found.new:
            after = f"serial {found.record.serial}"
            place.note("certificate.preauthorised", name, after=after)
            store.add_certificate(found.record)
    if not found.new and _same(out, found.record.certificate):
        click.echo(f"{out}: unchanged")
        return
    write_atomic(out, found.record.certificate)
    click.echo(f"{out}: certificate of {name}, until {when(found.record.not_after_ns)} UTC")


def _decide(config: Path, agent: str, *, accepted: bool, reason: str) -> None:
    place, name = office(config), agent_name(agent)
    now = place.clock.now_ns()
    with place.store() as store:
        changed = decide(store, name, accepted=accepted, reason=reason, by=operator(), now_ns=now)
        (before,) = (e.state for e in store.enrolments(name) if e.proof == changed.proof)
        place.note(f"enrolment.{changed.state}", name, before=before, after=reason)
        store.save_enrolment(changed)


def _row(record: EnrolmentRecord, now_ns: int) -> Row:
    shown = standing(record, now_ns)
    return {
        "agent": record.agent,
        "state": shown.state,
        "open": shown.waits,
        "created": when(record.created_ns),
        "expires": when(record.expires_ns),
        "confirm": record.confirm,
        "by": record.by,
        "request": shown.request,
        "software": record.software,
        "serial": record.serial,
        "settled": when(record.settled_ns or None),
        "settled_by": record.settled_by,
        "reason": record.reason,
    }


def _read_request(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_REQUEST + 1)
    except OSError as error:
        raise UsageError(
            f"--csr is {str(path)!r}: {error.strerror or error}",
            remedy="fetch what `fedmill-agent identity request` wrote on the box",
        ) from error


def _same(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False
