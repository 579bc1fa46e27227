# SPDX-License-Identifier: Apache-2.0
"""The broker of a plant as it is deployed: rendered from the templates, with mutual TLS."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tests.pki import Authority, Credential

from fedmill_coordinator.demo.broker import find_mosquitto, free_port
from fedmill_shared.link.options import TlsSection

TEMPLATES = Path(__file__).parents[1] / "deploy" / "mosquitto"
PATIENCE_SECONDS = 20.0
COORDINATOR = "coordinator"


def render(name: str, **variables: object) -> str:
    """One of the templates; a variable without a default that is not given is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  no HTML
    )
    return environment.get_template(name).render(**variables)


class PlantBroker:
    """Owns a mosquitto on 127.0.0.1 and the files that it reads.

    Attributes:
        port: of the listener for agents and coordinator.
        enrol_port: of the listener for new machines.
        credential: the broker's own certificate; give another one before ``start``.
        beyond: lines behind those of the template: what its owner adds.
    """

    def __init__(self, folder: Path, authority: Authority, **variables: object) -> None:
        """Nothing is started; ``variables`` are those of the templates, in place of defaults."""
        self.port = free_port()
        self.enrol_port = next(port for port in iter(free_port, None) if port != self.port)
        self.credential = authority.server()
        self.beyond = ""
        self._folder = folder
        self._authority = authority
        self._variables = variables
        self._child: subprocess.Popen[bytes] | None = None
        self._program = find_mosquitto()
        (folder / "data").mkdir(parents=True)
        self.revoke()

    @property
    def log(self) -> str:
        """All that it has said."""
        path = self._folder / "mosquitto.log"
        return path.read_text() if path.exists() else ""

    @property
    def child(self) -> "subprocess.Popen[bytes]":
        """The process."""
        assert self._child is not None
        return self._child

    def start(self) -> None:
        """Returns when it listens."""
        self._write()
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._child = subprocess.Popen(
                [self._program, "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        self.wait("listens", lambda: _listens(self.port) and _listens(self.enrol_port))

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, by default so that it keeps its sessions."""
        if self._child is not None:
            self._child.send_signal(number)
            self._child.wait(PATIENCE_SECONDS)
            self._child = None

    def revoke(self, *revoked: Credential) -> None:
        """Let the list of revoked certificates be these; a running broker is told."""
        (self._folder / "crl.pem").write_bytes(self._authority.revocations(*revoked))
        if self._child is not None:
            self._child.send_signal(signal.SIGHUP)

    def oversize(self, client: str) -> int:
        """How often the log says that ``client`` sent a packet that is too large."""
        words = rf"Client {client} (\[\S+\] )?disconnected( due to|:) oversize packet"  # 2.0, 2.1
        return len(re.findall(words, self.log))

    def identity(self, credential: Credential, name: str = "") -> TlsSection:
        """The files of a client: its certificate, and the plant's CA."""
        folder = self._folder / "clients" / (name or credential.serial)
        credential.write(folder, self._authority.pem)
        paths = {each: str(folder / f"{each}.pem") for each in ("ca", "certificate", "key")}
        return TlsSection(**paths)

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Wait until ``done``; fail if the broker ends or it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert self.child.poll() is None, self.log
            assert time.monotonic() < deadline, f"{what}: {self.log}"
            time.sleep(0.01)

    def _write(self) -> None:
        folder = self._folder
        self.credential.write(folder, self._authority.pem)
        variables: dict[str, object] = {
            "mosquitto_ca": folder / "ca.pem",
            "mosquitto_certificate": folder / "certificate.pem",
            "mosquitto_key": folder / "key.pem",
            "mosquitto_crl": folder / "crl.pem",
            "mosquitto_acl": folder / "acl",
            "mosquitto_enrol_acl": folder / "enrol-acl",
            "mosquitto_enrol_users": folder / "enrol-users",
            "mosquitto_data": folder / "data",
            "mosquitto_address": "127.0.0.1",
            "mosquitto_port": self.port,
            "mosquitto_enrol_port": self.enrol_port,
            "mosquitto_coordinator": COORDINATOR,
            "mosquitto_user": "root",
        } | self._variables
        for template in ("mosquitto.conf", "acl", "enrol-acl", "enrol-users"):
            path = folder / template
            path.write_text(render(f"{template}.j2", **variables))
            path.chmod(0o600)
        with (folder / "mosquitto.conf").open("a") as conf:
            conf.write(self.beyond)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True
