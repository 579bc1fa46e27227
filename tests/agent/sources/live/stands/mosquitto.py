# SPDX-License-Identifier: Apache-2.0
"""A plant's own broker: a mosquitto that stops, starts again on its port, hangs, and asks who."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedmill_coordinator.demo.broker import find_mosquitto, free_port

START_SECONDS = 20.0


class Mosquitto:
    """A real broker on 127.0.0.1; remembers nothing from one start to the next."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._lines = lines
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lines: Sequence[str] = self._lines or ("allow_anonymous true",)
        config = self._folder / "mosquitto.conf"
        first = [f"listener {self.port} 127.0.0.1", "user root", "max_queued_messages 100000"]
        config.write_text("\n".join([*first, *lines, ""]))
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._child = subprocess.Popen(
                [find_mosquitto(), "-c", str(config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert self._child.poll() is None, (self._folder / "mosquitto.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        """Killed, as in a power cut: nobody gets a farewell, and wills die with it."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._child.pid, signal.SIGCONT)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
        except OSError:
            return False
        return True


def with_password(folder: Path, username: str, password: str) -> Mosquitto:
    """A broker that lets one user in."""
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(users), username, password],
        check=True,
        capture_output=True,
    )
    return Mosquitto(folder, "allow_anonymous false", f"password_file {users}")


def with_tls(folder: Path, *lines: str) -> tuple[Mosquitto, Path]:
    """A broker that speaks TLS as 127.0.0.1, and the file of the authority that says so."""
    certificate, key = make_certificate(folder, "broker")
    known = [f"certfile {certificate}", f"keyfile {key}", "allow_anonymous true", *lines]
    return Mosquitto(folder, *known), certificate


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return certificate, key
