# SPDX-License-Identifier: Apache-2.0
"""Checks of what the coordinator keeps: rows, jobs, agents, audit log."""

import sqlite3
from contextlib import closing
from pathlib import Path

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.doctor import Finding, Findings
from fedmill_coordinator.doctor.machine import judged
from fedmill_coordinator.jobs import read_jobs
from fedmill_coordinator.pki.terms import BROKER, REMEDIES, SOON_NS, terms
from fedmill_coordinator.store.schema import VERSION
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared import __version__
from fedmill_shared.audit import FILE
from fedmill_shared.audit.verifying import verify
from fedmill_shared.crypto.validity import Validity
from fedmill_shared.errors import FedmillError

SKEW_MS = 5000.0
MOST_NAMED = 5


def database(config: CoordinatorConfig) -> Findings:
    """Whether the rows are whole, and of which schema."""
    path = config.database
    if not path.is_file():
        yield Finding("database", "warning", f"{path} is not there", "run `fedmill serve` once")
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as rows:
            (found,) = rows.execute("PRAGMA quick_check(1)").fetchone()
            (schema,) = rows.execute("SELECT max(version) FROM schema_version").fetchone()
    except sqlite3.Error as error:
        remedy = "stop the coordinator and restore a backup: docs/operations.md, Restore"
        yield Finding("database", "failed", f"{path}: {error}", remedy)
        return
    if found != "ok" or schema is None:
        told = found if schema is not None else "it does not say which tables it has"
        yield Finding("database", "failed", f"{path}: {told}", "restore a backup")
    elif schema > VERSION:
        remedy = "install the newer fedmill again"
        yield Finding("database", "failed", f"schema {schema}, we know up to {VERSION}", remedy)
    else:
        yield Finding("database", "ok", f"whole, schema {schema}")


def jobs(config: CoordinatorConfig) -> Findings:
    """Whether every job file can be taken."""
    try:
        found = read_jobs(map(Path, config.coordinator.jobs))
    except FedmillError as error:
        yield Finding("jobs", "failed", error.message, error.remedy)
        return
    names = ", ".join(job.name for _, job in found)
    if found:
        yield Finding("jobs", "ok", names)
    else:
        yield Finding("jobs", "warning", "none", "name job files in [coordinator] jobs")


def agents(config: CoordinatorConfig) -> Findings:
    """Who is away, whose software is another one, whose clock is wrong, who has a fault."""
    if not config.database.is_file():
        return
    with SqlStore.in_file(config.database) as store:
        known = store.agents()
    away = [each.agent for each in known if not each.online]
    other = [each.agent for each in known if each.software and each.software != __version__]
    skewed = [
        each.agent
        for each in known
        if each.clock_skew_ms is not None and abs(each.clock_skew_ms) > SKEW_MS
    ]
    yield Finding("agents", "ok", f"{len(known)} known, {len(known) - len(away)} online")
    told = (
        ("agents away", away, "see `fedmill-agent status` there"),
        ("agents with other software", other, "upgrade them; N and N-1 work together"),
        ("agents with a wrong clock", skewed, "set up NTP there"),
    )
    for check, names, remedy in told:
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            yield Finding(check, "warning", ", ".join(names[:MOST_NAMED]) + more, remedy)


def broker_certificate(config: CoordinatorConfig, now_ns: int) -> Findings:
    """Until when the broker's certificate is good that was last issued here."""
    if config.pki is None or not config.database.is_file():
        return
    with SqlStore.in_file(config.database) as store:
        found = list(terms(config, store.certificates()))
    for each in found:
        if each.whose == BROKER:
            term, soon_ns = Validity(0, each.end_ns), SOON_NS[BROKER]
            name = "broker's certificate"
            yield judged(name, term, now_ns, soon_ns=soon_ns, remedy=REMEDIES[BROKER])


def audit(config: CoordinatorConfig) -> Findings:
    """Whether the chain of the audit log is whole."""
    path = Path(config.coordinator.state) / FILE
    if not path.exists():
        yield Finding("audit log", "warning", f"{path} is not there", "it begins with the daemon")
        return
    verdict = verify(path)
    if verdict.ok:
        yield Finding("audit log", "ok", f"{verdict.records} records, head {verdict.head}")
    else:
        remedy = "see `fedmill audit verify` and docs/operations.md, Audit log"
        yield Finding("audit log", "failed", str(verdict.flaws[0]), remedy)
