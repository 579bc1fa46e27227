# SPDX-License-Identifier: Apache-2.0
"""``fedmill audit``: whether the audit log is whole, what is in it, and those of agents."""

from collections import deque
from pathlib import Path

import click
import msgspec

from fedmill_coordinator.anchors import FOLDER, Anchors
from fedmill_coordinator.cli.listing import last_option, show, when
from fedmill_coordinator.cli.orders import audit_of
from fedmill_coordinator.cli.place import config_option
from fedmill_coordinator.cli.table import Column, value
from fedmill_coordinator.config import load
from fedmill_shared import log
from fedmill_shared.audit.entry import Head, parse_head
from fedmill_shared.audit.person import who
from fedmill_shared.audit.verifying import Verdict, entries, verify
from fedmill_shared.errors import AuditError, UsageError
from fedmill_shared.printable import printable
from fedmill_shared.topics import valid_agent_id


@click.group(name="audit", short_help="Verify and show the audit log, and judge those of agents.")
def command() -> None:
    """Verify and show the audit log of the coordinator, and judge copies of those of agents."""


@command.command(name="verify")
@config_option
@click.option("--head", help="N:HASH that the log reached once, as `verify` showed it then.")
@click.option("--agent", help="Judge FILE by what this agent told of its log.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as one JSON object.")
def verify_log(
    config: Path, *, head: str | None, agent: str | None, file: Path | None, as_json: bool
) -> None:
    """Read a log and say where its chain is broken, if it is (exit code 26).

    FILE is a copy of any log; without it, the coordinator's own is read.
    """
    if agent is not None and file is None:
        raise UsageError("--agent says whose copy FILE is, and there is none", remedy="name it")
    told = _kept(config, agent) if agent is not None else []
    heads = [*told, *([parse_head(head)] if head is not None else [])]
    anchor = max(heads, key=lambda each: each.n, default=None)
    path = file if file is not None else audit_of(config).path
    verdict = verify(path, head=anchor, earlier=heads)
    tell(verdict, path, anchored=anchor is not None, as_json=as_json)
    if not verdict.ok:
        remedy = "see docs/operations.md, Audit log"
        raise AuditError(f"{path}: the audit log is broken", remedy=remedy)


def tell(verdict: Verdict, path: Path, *, anchored: bool, as_json: bool) -> None:
    """Print what came of reading ``path``."""
    if as_json:
        body = {"ok": verdict.ok, **msgspec.structs.asdict(verdict), "head": str(verdict.head)}
        click.echo(msgspec.json.encode(body).decode())
        return
    for flaw in verdict.flaws:
        click.echo(printable(str(flaw)))
    if verdict.more:
        click.echo(f"and {verdict.more} more")
    if verdict.ok:
        last = f"records {verdict.first} to {verdict.head.n}" if verdict.records else "no records"
        click.echo(f"{path}: {last}, chain whole")
        click.echo(f"head {verdict.head}")
        if not anchored:
            click.echo("note: only a head kept elsewhere shows that nothing is missing at the end")


@command.command(name="show")
@config_option
@last_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def show_log(config: Path, *, last: int, as_json: bool) -> None:
    """Show who steered what, oldest first."""
    read = entries(audit_of(config).path)
    kept = list(deque(read, maxlen=last)) if last else list(read)
    rows = [{**msgspec.structs.asdict(each), "time": when(each.time_ns)} for each in kept]
    columns = [
        Column("n", value("n"), right=True),
        Column("time (UTC)", value("time")),
        Column("who", value("who")),
        Column("what", value("what")),
        Column("subject", value("subject")),
        Column("before", value("before"), spare=2),
        Column("after", value("after"), spare=1),
    ]
    show("audit log", rows, columns, as_json=as_json)


@command.command(name="forget")
@config_option
@click.argument("agent")
def forget(config: Path, *, agent: str) -> None:
    """Begin anew with the audit log of AGENT, as after its disk was replaced."""
    head = _kept(config, agent)[-1]
    audit_of(config).record(who=who(), what="audit.forgotten", subject=agent, before=str(head))
    _anchors(config).forget(agent)
    click.echo(f"{agent}: its next head is taken as it comes")


def _anchors(config: Path) -> Anchors:
    return Anchors(Path(load(config).coordinator.state) / FOLDER, log.get_logger())


def _kept(config: Path, agent: str) -> list[Head]:
    """The heads that ``agent`` told, the last one last.

    Raises:
        UsageError: it told none.
    """
    heads = _anchors(config).heads(agent) if valid_agent_id(agent) else []
    if not heads:
        raise UsageError(
            f"--agent is {printable(agent)!r}: no head of its audit log is known here",
            remedy="see `fedmill fleet` for the names; older agents tell none",
        )
    return heads
