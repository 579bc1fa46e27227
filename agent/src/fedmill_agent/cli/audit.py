# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent audit``: whether the audit log is whole, and what is in it."""

import argparse
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fedmill_agent.cli.identity import optional_config
from fedmill_agent.config import load
from fedmill_shared.audit import FILE
from fedmill_shared.audit.entry import Entry, parse_head
from fedmill_shared.audit.verifying import Verdict, entries, verify
from fedmill_shared.errors import AuditError
from fedmill_shared.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the two commands."""
    acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    verified = acts.add_parser("verify", help="say where the chain is broken, if it is")
    optional_config(verified)
    verified.add_argument("--head", help="N:HASH that the log reached once")
    verified.add_argument("--json", action="store_true", help="as one JSON object")
    shown = acts.add_parser("show", help="who steered what, oldest first")
    optional_config(shown)
    shown.add_argument("--last", type=_count, default=20, help="how many; 0 for all (default: 20)")
    shown.add_argument("--json", action="store_true", help="as one JSON array")


def run(options: argparse.Namespace) -> int:
    """Do what is asked.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: there is no log, or it cannot be read.
        AuditError: its chain is broken.
        UsageError: ``--head`` is none.
    """
    path = Path(load(options.config, bare=True).agent.state) / FILE
    if options.act == "show":
        _show(path, options.last, as_json=options.json)
        return 0
    verdict = verify(path, head=parse_head(options.head) if options.head else None)
    _tell(verdict, path, as_json=options.json)
    if not verdict.ok:
        remedy = "see docs/operations.md, Audit log"
        raise AuditError(f"{path}: the audit log is broken", remedy=remedy)
    return 0


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _tell(verdict: Verdict, path: Path, *, as_json: bool) -> None:
    if as_json:
        body = {"ok": verdict.ok, **msgspec.structs.asdict(verdict), "head": str(verdict.head)}
        print(msgspec.json.encode(body).decode())
        return
    for flaw in verdict.flaws:
        print(printable(str(flaw)))
    if verdict.more:
        print(f"and {verdict.more} more")
    if verdict.ok:
        last = f"records {verdict.first} to {verdict.head.n}" if verdict.records else "no records"
        print(f"{path}: {last}, chain whole")
        print(f"head {verdict.head}")


def _show(path: Path, last: int, *, as_json: bool) -> None:
    kept = deque(entries(path), maxlen=last or None)
    if as_json:
        print(msgspec.json.encode(list(kept)).decode())
        return
    for each in kept:
        print(printable(_line(each)))


def _line(entry: Entry) -> str:
    moment = datetime.fromtimestamp(entry.time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    change = f": {entry.before or '-'} -> {entry.after or '-'}"
    told = change if entry.before or entry.after else ""
    return f"{entry.n:>6}  {moment}  {entry.who}  {entry.what}  {entry.subject}{told}"
