# SPDX-License-Identifier: Apache-2.0
"""A plant server and two gateways, as a bundle and its playbooks make them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deploy.lab import Lab, Machine
from tests.deploy.playbooks import Controller

GATEWAYS = ("gw1", "gw2")
CONFIG = "/etc/fedmill/coordinator.toml"
SHORT, LONG = "short", "long"
SECRET_NAME, SECRET = "press-password", "that-nobody-may-read"
_PATIENCE = 120.0
_JOB = """
[job]
name = "{name}"
[[signals]]
name = "vibration"
unit = "g"
rate_hz = 12000
[window]
length = 256
[labels]
classes = ["normal", "outer"]
[model]
architecture = "mlp"
hidden = [16, 8]
[learning]
optimiser = "sgd"
learning_rate = 0.05
momentum = 0.0
steps = 4
[federation]
rounds = {rounds}
minimum = 1
goal = 2
deadline_seconds = 30
earliest_seconds = {earliest}
[evaluation]
every = 50
"""
_RECORDING = """
[[sources]]
kind = "rig"
name = "{fault}-{split}"
fault = "{fault}"
split = "{split}"
seconds = 1.0
"""
_LIVE = """
[[sources]]
kind = "rig"
name = "live"
fault = "outer"
split = "live"
seconds = 1.0
speed = 1.0
repeat = true
"""
_BROKERS_CERTIFICATE = """
import ssl
print(ssl.get_server_certificate(("localhost", 8884)))
"""
_UPDATES = """
import json, sqlite3, sys
store = sqlite3.connect("file:/var/lib/fedmill-coordinator/fedmill.sqlite?mode=ro", uri=True)
asked = "select agent, sha256, state from updates where job = ?"
print(json.dumps(store.execute(asked, sys.argv[1:]).fetchall()))
"""


class Plant:
    """Machines, and what they say of themselves."""

    def __init__(self, lab: Lab) -> None:
        self.server = lab.machine("plant")
        self.gateways = {name: lab.machine(name) for name in GATEWAYS}
        for machine in self.machines:
            machine.up()
        groups = {"plant_server": [self.server], "gateways": list(self.gateways.values())}
        self.controller = Controller(lab, groups)
        self._write_variables(lab.work)

    @property
    def machines(self) -> list[Machine]:
        """All three."""
        return [self.server, *self.gateways.values()]

    def fleet(self) -> dict[str, dict[str, Any]]:
        """What the coordinator knows of each agent."""
        return {row["agent"]: row for row in self._ask("fleet", CONFIG, "--json")}

    def rounds(self, job: str) -> list[dict[str, Any]]:
        """The rounds of a job that have ended."""
        rows = self._ask("rounds", CONFIG, "--job", job, "--last", "0", "--json")
        return [row for row in rows if row["included"]]

    def updates(self, job: str) -> dict[str, tuple[str, str]]:
        """Agent and state of every update that the coordinator has, by SHA-256."""
        text = self.server.run("python3", "-c", _UPDATES, job)
        return {sha: (agent, state) for agent, sha, state in json.loads(text)}

    def sent(self, gateway: str, job: str) -> set[str]:
        """Updates that an agent has made, by its own log over all its lives."""
        lines = self.log(self.gateways[gateway], "fedmill-agent").splitlines()
        sent = [line for line in lines if "event=update.sent" in line and f"job={job} " in line]
        return {line.split("sha256=")[1].split()[0] for line in sent}

    def certificate(self) -> str:
        """What the broker shows to everybody (PEM)."""
        return self.server.run("python3", "-c", _BROKERS_CERTIFICATE)

    def log(self, machine: Machine, identifier: str) -> str:
        """Messages of a service, from our journal."""
        command = ("journalctl", "--namespace=fedmill", "--no-pager", "--output=cat")
        return machine.run(*command, f"--identifier={identifier}", ok=False)

    def main_pid(self, machine: Machine, unit: str) -> int:
        """Process of a service, by the number that it has inside; 0 for none."""
        shown = machine.run("systemctl", "show", "--property=MainPID", "--value", unit)
        return int(shown)

    def goes_on(self, job: str = LONG, rounds: int = 2) -> None:
        """Return once some more rounds have ended, with updates of both gateways."""
        before = len(self.rounds(job))

        def enough() -> bool:
            newer = self.rounds(job)[before:]
            return len([row for row in newer if row["included"] == len(GATEWAYS)]) >= rounds

        self.wait(f"{rounds} more rounds of both", enough)

    def wait(self, what: str, done: Callable[[], object], seconds: float = _PATIENCE) -> None:
        """Return once ``done``; whatever cannot be asked yet is asked again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if done():
                    return
                why = "not yet"
            except (AssertionError, json.JSONDecodeError) as error:
                why = str(error)
            assert time.monotonic() < deadline, f"{what}: {why}"
            time.sleep(0.5)

    def _ask(self, *arguments: str) -> list[dict[str, Any]]:
        return list(json.loads(self.server.run("fedmill", *arguments)))

    def _write_variables(self, work: Path) -> None:
        jobs = []
        for name, rounds, earliest in ((SHORT, 5, 0.0), (LONG, 100_000, 2.0)):
            path = work / f"{name}.toml"
            path.write_text(_JOB.format(name=name, rounds=rounds, earliest=earliest))
            jobs.append(str(path))
        recordings = [
            _RECORDING.format(fault=fault, split=split)
            for fault in ("normal", "outer")
            for split in ("train", "test")
        ]
        variables = {
            "all": {"common_require_time_sync": False, "common_min_disk_mb": 1000},
            "plant_server": {"coordinator_jobs": jobs},
            "gateways": {
                "agent_broker_host": "plant",
                "agent_wait_seconds": 240,
                "agent_upgrade_scores": True,
                "agent_sources": "".join([*recordings, _LIVE]),
                "agent_secrets": {SECRET_NAME: "{{ vault_press_password }}"},
            },
        }
        for group, given in variables.items():
            self.controller.variables(group, json.dumps(given))
        self.controller.secrets("gateways", json.dumps({"vault_press_password": SECRET}))
