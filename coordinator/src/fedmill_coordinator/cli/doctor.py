# SPDX-License-Identifier: Apache-2.0
"""``fedmill doctor``: one list of everything that a coordinator needs."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.place import config_option
from fedmill_coordinator.config import load
from fedmill_coordinator.doctor import Finding, Findings, machine, plant, signed
from fedmill_coordinator.doctor.broker import broker
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import FedmillError
from fedmill_shared.printable import printable


@click.command(name="doctor", short_help="Check everything that a coordinator needs.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(config: Path, *, as_json: bool) -> None:
    """Check configuration, state, broker, certificates, jobs, agents, audit log and clock.

    The exit code is 1 where a check failed; warnings leave it 0.
    """
    findings = examined(config)
    if as_json:
        click.echo(msgspec.json.encode(findings).decode())
    else:
        for each in findings:
            remedy = f" ({each.remedy})" if each.remedy else ""
            click.echo(printable(f"{each.state:<8} {each.check}: {each.detail}{remedy}"))
    if any(each.state == "failed" for each in findings):
        sys.exit(FedmillError.exit_code)


def examined(path: Path) -> list[Finding]:
    """What every check finds; one that cannot be made is a finding, too."""
    try:
        config = load(path)
    except FedmillError as error:
        found = [Finding("configuration", "failed", error.message, error.remedy)]
        return [*found, *machine.clock(), *machine.software()]
    clock = SystemClock()
    now_ns = clock.now_ns()
    checks: dict[str, Callable[[], Findings]] = {
        "state folder": partial(machine.folder, config),
        "daemon": partial(machine.running, config),
        "database": partial(plant.database, config),
        "broker": partial(broker, config, clock),
        "certificates": partial(machine.certificates, config, now_ns),
        "broker's certificate": partial(plant.broker_certificate, config, now_ns),
        "signed metadata": partial(signed.trust, config, now_ns),
        "jobs": partial(plant.jobs, config),
        "agents": partial(plant.agents, config),
        "audit log": partial(plant.audit, config),
        "metrics": partial(machine.metrics, config),
        "clock": machine.clock,
        "software": machine.software,
    }
    findings = [Finding("configuration", "ok", str(path))]
    for name, check in checks.items():
        try:
            findings += check()
        except FedmillError as error:
            findings.append(Finding(name, "failed", error.message, error.remedy))
        except OSError as error:
            remedy = "run this as the coordinator's user"
            findings.append(Finding(name, "failed", str(error), remedy))
    return findings
