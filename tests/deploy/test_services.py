# SPDX-License-Identifier: Apache-2.0
"""The services on a machine with systemd: what they survive, and what they may not."""

import json
import time
from collections.abc import Callable, Iterator

import pytest
from tests.deploy import installed
from tests.deploy.lab import Lab, Machine

pytestmark = pytest.mark.deploy

PATIENCE = 60.0

AGENT = """
[agent]
id = "gw1"
state = "/var/lib/fedmill-agent"
[training]
socket = "/run/fedmill/trainer.sock"
[[sources]]
kind = "misbehaving"
name = "press"
tags = { force = "a" }
silence_seconds = 0
secret_file = "/run/credentials/fedmill-agent.service/press"
"""
COORDINATOR = """
[coordinator]
state = "/var/lib/fedmill-coordinator"
[broker]
connect_seconds = 0
"""
DROP_IN = """
[Service]
WatchdogSec=4
RestartSec=1
LoadCredential=press:/etc/fedmill/secrets/press
"""
CALL = """
import os, sys, time
from queue import SimpleQueue
from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerProcess
from fedmill_shared.clock import SystemClock
answers = SimpleQueue()
section = TrainingSection(socket="/run/fedmill/trainer.sock")
process = TrainerProcess(section, answers.put, SystemClock())
process.submit(protocol.Warm(number=1, job=b"{}", store="none"))
print(type(answers.get(timeout=60)).__name__, flush=True)
if sys.argv[1] == "leave":
    process.submit(protocol.Warm(number=2, job=b"{}", store="none"))
    print(process.hold(wanted=True), flush=True)
    os._exit(0)
print(process.pid, flush=True)
time.sleep(1)
process._child.signal(9)
print(answers.get(timeout=60).reason, flush=True)
"""


@pytest.fixture(scope="module")
def gateway(lab: Lab) -> Iterator[Machine]:
    """A machine with the services of a gateway and of a plant server; nothing is started."""
    reason = installed.impediment()
    if reason:
        pytest.skip(reason)
    machine = lab.machine("gw1")
    installed.install(machine)
    installed.add_misbehaving_source(machine)
    settings = machine.folder / "upper/etc/fedmill"
    (settings / "agent.toml").write_text(AGENT)
    (settings / "coordinator.toml").write_text(COORDINATOR)
    (settings / "secrets").mkdir(mode=0o700)
    (settings / "secrets/press").write_text("of the press")
    (settings / "secrets/press").chmod(0o600)
    drop_in = machine.folder / "upper/etc/systemd/system/fedmill-agent.service.d"
    drop_in.mkdir()
    (drop_in / "test.conf").write_text(DROP_IN)
    machine.up()
    yield machine
    machine.power_off(pull=True)


@pytest.fixture
def agent(gateway: Machine) -> Iterator[Machine]:
    """The agent's service runs."""
    gateway.run("systemctl", "restart", "fedmill-agent")
    yield gateway
    gateway.run("rm", "-f", "/run/fedmill-hang", "/run/fedmill-crash")
    gateway.run("systemctl", "stop", "fedmill-agent", ok=False)


def show(machine: Machine, name: str, unit: str = "fedmill-agent") -> str:
    """A property of a unit."""
    return machine.run("systemctl", "show", "-P", name, unit).strip()


def journal(machine: Machine) -> list[dict[str, str]]:
    """All lines of ours."""
    lines = machine.run("journalctl", "--namespace=fedmill", "-o", "json", "--no-pager")
    return [json.loads(line) for line in lines.splitlines()]


def until(what: Callable[[], object]) -> None:
    """It comes to pass; each look is a process of its own."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.3)


class TestAgent:
    def test_ready_in_a_box(self, agent: Machine) -> None:
        """Started means ready; it says what it does, runs as nobody else, and its files are its."""
        assert show(agent, "ActiveState") == "active"
        assert "broker not connected" in show(agent, "StatusText")
        user = agent.run("stat", "-c", "%u %a", "/var/lib/private/fedmill-agent").split()
        assert 61184 <= int(user[0]) <= 65519
        assert user[1] == "700"
        assert agent.run("systemctl", "--failed", "--no-legend") == ""

    def test_a_secret_reaches_the_source_alone(self, agent: Machine) -> None:
        """As a credential: the file that root has is not readable for the service."""
        status = ["/opt/fedmill/current/bin/fedmill-agent", "status", "/etc/fedmill/agent.toml"]
        until(lambda: "secret of the press" in agent.run(*status))
        mode = agent.run("stat", "-c", "%a", "/run/credentials/fedmill-agent.service/press")
        assert mode.strip() in ("400", "440")  # 440: an access list has a mask

    def test_lines_have_their_priority(self, agent: Machine) -> None:
        """In a journal of their own."""
        found = {
            line["PRIORITY"]: line["MESSAGE"]
            for line in journal(agent)
            if line.get("SYSLOG_IDENTIFIER") == "fedmill-agent"
        }
        assert "agent.started" in found["6"]
        assert "event=" in found["3"]
        assert not found["3"].startswith("<")
        assert "fedmill-agent" not in agent.run("journalctl", "-o", "cat", "-t", "fedmill-agent")

    def test_reload(self, agent: Machine) -> None:
        """A good file is taken; of a wrong one it is told at once, and the old one goes on."""
        agent.run("systemctl", "reload", "fedmill-agent")
        agent.run("sh", "-c", "echo nonsense >>/etc/fedmill/agent.toml")
        agent.run("sh", "-c", "! systemctl reload fedmill-agent")
        agent.run("sed", "-i", "/nonsense/d", "/etc/fedmill/agent.toml")
        until(lambda: any("is not TOML" in line["MESSAGE"] for line in journal(agent)))
        assert show(agent, "ActiveState") == "active"
        agent.run("systemctl", "reload", "fedmill-agent")

    def test_a_loop_that_hangs(self, agent: Machine) -> None:
        """The watchdog ends it, the journal says where it hung, and it is started anew."""
        before = show(agent, "MainPID")
        agent.run("touch", "/run/fedmill-hang")
        until(lambda: int(show(agent, "NRestarts")) > 0)
        agent.run("rm", "/run/fedmill-hang")
        until(lambda: show(agent, "ActiveState") == "active")
        assert show(agent, "MainPID") != before
        said = agent.run("journalctl", "-u", "fedmill-agent", "-o", "cat")
        assert "Watchdog timeout" in said
        where = [line["MESSAGE"] for line in journal(agent) if "misbehaving.py" in line["MESSAGE"]]
        assert any("__getitem__" in line for line in where)

    def test_killed(self, agent: Machine) -> None:
        """It comes back."""
        before = show(agent, "MainPID")
        agent.run("systemctl", "kill", "-s", "KILL", "fedmill-agent")
        until(lambda: show(agent, "MainPID") not in (before, "0"))
        until(lambda: show(agent, "ActiveState") == "active")

    def test_starts_that_fail(self, agent: Machine) -> None:
        """After five the agent does without what ends it; a restart by hand leaves that."""
        agent.run("touch", "/run/fedmill-crash")
        agent.run("systemctl", "kill", "-s", "KILL", "fedmill-agent")
        until(lambda: "safe mode: 5 starts" in show(agent, "StatusText"))
        assert "exit code 3" in show(agent, "StatusText")
        assert any("agent.safe_mode" in line["MESSAGE"] for line in journal(agent))
        agent.run("rm", "/run/fedmill-crash")
        agent.run("systemctl", "restart", "fedmill-agent")
        assert "safe mode" not in show(agent, "StatusText")


class TestTrainer:
    def _call(self, machine: Machine, how: str) -> list[str]:
        """What somebody hears who calls as the agent does."""
        (machine.root / "srv/call.py").write_text(CALL)
        like = ("DynamicUser=yes", "User=fedmill-agent", "StateDirectory=fedmill-agent")
        like += ("SupplementaryGroups=fedmill-trainer", "PrivateUsers=yes")
        like += ("ProtectProc=invisible",)
        properties = [word for each in like for word in ("-p", each)]
        return machine.run(
            *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", *properties),
            *("/opt/fedmill/current/bin/python", "/srv/call.py", how),
        ).splitlines()

    def _running(self, machine: Machine) -> list[str]:
        units = machine.run("systemctl", "list-units", "--no-legend", "fedmill-trainer@*")
        return units.splitlines()

    def test_in_a_slice_of_its_own(self, agent: Machine) -> None:
        """It is met, signalled, and missed when it dies, though nobody may look at it."""
        answer, pid, reason = self._call(agent, "stay")
        assert answer == "TrainerAnswered"
        assert int(pid) > 1
        assert "memory" in reason
        until(lambda: not self._running(agent))
        assert show(agent, "ActiveState") == "active"

    def test_one_that_stands_still_when_its_caller_dies(self, agent: Machine) -> None:
        """It is not left behind."""
        assert self._call(agent, "leave") == ["TrainerAnswered", "paused"]
        until(lambda: not self._running(agent))

    def test_strangers_may_not_call(self, agent: Machine) -> None:
        """The socket is for one group."""
        code = "import socket; socket.socket(socket.AF_UNIX).connect('/run/fedmill/trainer.sock')"
        done = agent.run(
            *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
            *("sh", "-c", f'python3 -c "{code}" 2>&1 || true'),
        )
        assert "Permission denied" in done


class TestCoordinator:
    def test_ready_and_asked_by_its_commands(self, gateway: Machine) -> None:
        """Commands run as its user see its state."""
        gateway.run("systemctl", "start", "fedmill-coordinator")
        assert "jobs: 0" in show(gateway, "StatusText", "fedmill-coordinator")
        said = gateway.run(
            *("systemd-run", "--quiet", "--pipe", "--wait", "--collect"),
            *("-p", "DynamicUser=yes", "-p", "User=fedmill-coordinator"),
            *("-p", "StateDirectory=fedmill-coordinator", "/opt/fedmill/current/bin/fedmill"),
            *("fleet", "/etc/fedmill/coordinator.toml"),
        )
        assert "none yet" in said

    def test_the_broker_hears_of_revoked_certificates(self, gateway: Machine) -> None:
        """It gets a copy of the one file whenever that changes."""
        gateway.run("systemctl", "start", "fedmill-coordinator", "fedmill-broker-reload.path")
        folder = "/var/lib/private/fedmill-coordinator"
        for text in ("first", "second"):
            gateway.run("sh", "-c", f"echo {text} >{folder}/new; mv {folder}/new {folder}/crl.pem")
            copy = gateway.root / "etc/mosquitto/fedmill/crl.pem"
            until(lambda copy=copy, text=text: copy.exists() and text in copy.read_text())
        gateway.run("systemctl", "stop", "fedmill-coordinator", "fedmill-broker-reload.path")
