# SPDX-License-Identifier: Apache-2.0
"""An MQTT broker of our own: a mosquitto child on a free loopback port, with its own folder."""

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedmill_shared.errors import BrokerError
from fedmill_shared.files import make_folder

START_SECONDS = 10.0
PORTS = range(20_000, 32_768)
TRIES = 100
# `user root`: started by root, mosquitto would become a user who cannot write to our folder; by
# anybody else started, it ignores the line.
CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 60
max_packet_size 300000
max_queued_messages 4000
set_tcp_nodelay true
user root
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
"""


def free_port() -> int:
    """A loopback port that is free now.

    It is none that the system gives to outgoing connections, which may take one at any moment.

    Raises:
        BrokerError: none of many is free.
    """
    for port in random.SystemRandom().sample(PORTS, k=TRIES):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BrokerError(
        f"of {TRIES} ports from {PORTS.start} on none is free on 127.0.0.1",
        remedy="end some of the programs that listen there",
    )


def find_mosquitto() -> str:
    """Path of the mosquitto program.

    Raises:
        BrokerError: it is not installed.
    """
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        raise BrokerError("mosquitto is not installed", remedy="apt-get install mosquitto")
    return found


@contextmanager
def broker(folder: Path, port: int | None = None) -> Iterator[int]:
    """Run a broker and yield its port; the child has ended when the context has.

    Raises:
        BrokerError: mosquitto is missing or does not start, or the port is taken.
    """
    mosquitto = find_mosquitto()
    port = port or free_port()
    _check_free(port)
    config = make_folder(folder) / "mosquitto.conf"
    config.write_text(CONFIG.format(port=port, folder=folder.resolve()))
    child = subprocess.Popen(
        [mosquitto, "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_listening(child, port, folder)
        yield port
    finally:
        child.terminate()
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BrokerError(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror}",
                remedy="end the program that has it, or choose another port",
            ) from error


def _wait_until_listening(child: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BrokerError(
        f"mosquitto does not listen on 127.0.0.1:{port}",
        remedy=f"see {folder / 'mosquitto.log'}",
    )
