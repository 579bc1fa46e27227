# SPDX-License-Identifier: Apache-2.0
"""A federation as it is deployed with identities: its own authority, mutual TLS, enrolment."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.pki import Authority
from tests.pki_broker import PlantBroker
from tests.system.fleet import Fleet, a_pair, marked

from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_coordinator.demo.processes import program
from fedmill_coordinator.demo.recipes.plan import Plan
from fedmill_shared.job import Job

Finished = subprocess.CompletedProcess[str]


def loaded(folder: Path) -> Authority:
    """The authority whose files are in ``folder``, to issue what it never would."""
    made = Authority.__new__(Authority)
    key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    made._key = key
    made.certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    made._name = made.certificate.subject
    return made


class SecureFleet(Fleet):
    """Owns a federation whose broker lets in nobody without a certificate."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        super().__init__(folder, plan)
        self.pki = folder / "coordinator" / "pki"
        self._config = self.layout.coordinator
        self._append(self._config, "[broker.tls]\n[pki]\n")
        self.command("ca", "init")
        served = folder / "served"
        self.command("ca", "issue-broker", "127.0.0.1", "localhost", "--out", str(served))
        identity = folder / "coordinator" / "identity"
        self.command("ca", "issue-coordinator", "--out", str(identity))
        files = {
            "mosquitto_ca": self.pki / "ca.pem",
            "mosquitto_certificate": served / "certificate.pem",
            "mosquitto_key": served / "key.pem",
            "mosquitto_crl": self.pki / "crl.pem",
        }
        self.plant = PlantBroker(folder / "plant", Authority(), **files)
        self.plant.port = self.port
        for path in self.layout.agents.values():
            self.secure(path)

    def start_broker(self) -> None:
        """Start the broker as the templates have it."""
        with marked(self.folder):
            self.plant.start()
        self._stack.callback(self.plant.stop)

    def secure(self, config: Path) -> None:
        """Let the agent of this configuration use certificates."""
        port = f"port = {self.port}\n"
        text = config.read_text()
        assert port in text
        enrol = f"enrol_port = {self.plant.enrol_port}\n"
        config.write_text(text.replace(port, port + enrol) + "\n[broker.tls]\n")

    def box(self, name: str, agent: str) -> Path:
        """Configuration of a machine that would be ``agent``, and is none of the federation's."""
        path = self.folder / "boxes" / name / "agent.toml"
        path.parent.mkdir(parents=True)
        path.write_text(f'[agent]\nid = "{agent}"\n\n[broker]\nport = {self.port}\n')
        self.secure(path)
        return path

    def command(self, *arguments: str) -> str:
        """What a command of the coordinator prints; it must end well."""
        group, act, *rest = arguments
        where = ["--config", str(self._config)]
        done = self.run("fedmill_coordinator", group, act, *where, *rest)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def code(self, agent: str, *options: str) -> str:
        """An enrolment code."""
        return self.command("enrol", "new", agent, *options).strip()

    def enrol(self, config: Path, code: str, *options: str) -> Finished:
        """Have a machine enrol; the code comes from a file, as from no process list."""
        path = config.parent / "code"
        path.write_text(code + "\n")
        where = ["--code-file", str(path), *options]
        return self.run("fedmill_agent", "enrol", str(config), *where)

    def agent(self, *arguments: str) -> Finished:
        """Run a command of the agent."""
        return self.run("fedmill_agent", *arguments)

    def serials(self, agent: str) -> list[str]:
        """Certificates that were issued to an agent, the newest last."""
        return [each.serial for each in self.store.certificates(agent)]

    def starting(self, *arguments: str) -> "subprocess.Popen[str]":
        """A command of the agent that goes on."""
        with marked(self.folder):
            return subprocess.Popen(
                program("fedmill_agent", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @staticmethod
    def _append(path: Path, text: str) -> None:
        path.write_text(path.read_text() + "\n" + text)


def identity(config: Path) -> IdentityFolder:
    """Identity folder of an agent."""
    return IdentityFolder(config.parent / "state" / "identity")


def facts(config: Path) -> Facts:
    """What an agent knows of its certificate."""
    found = identity(config).facts()
    assert found is not None
    return found


@contextmanager
def secured(folder: Path, job: Job, *, start: Sequence[str] = ()) -> Iterator[SecureFleet]:
    """A federation of two agents that have no identity yet; broker and ``start`` run."""
    with SecureFleet(folder, Plan(job, a_pair())) as fleet:
        fleet.start_broker()
        fleet.start(*start)
        yield fleet
