# SPDX-License-Identifier: Apache-2.0
"""The demo's own broker."""

import errno
import socket
from pathlib import Path

import psutil
import pytest

from fedmill_coordinator.demo import broker as module
from fedmill_coordinator.demo.broker import broker, find_mosquitto, free_port
from fedmill_shared.errors import BrokerError


def brokers() -> list[psutil.Process]:
    """Brokers that this process has started."""
    return [p for p in psutil.Process().children() if p.name() == "mosquitto"]


@pytest.mark.system
class TestBroker:
    """Started, used, gone."""

    def test_listens_on_loopback_until_the_end(self, tmp_path: Path) -> None:
        """On a port of its own, in a folder of its own, and nowhere else."""
        before = brokers()
        with broker(tmp_path / "a folder") as port:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            [child] = [p for p in brokers() if p not in before]
            listening = [c.laddr.ip for c in child.net_connections() if c.status == "LISTEN"]
            assert listening == ["127.0.0.1"]
        assert brokers() == before
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5)

    def test_what_it_retained_is_there_after_a_restart(self, tmp_path: Path) -> None:
        """Its memory is in the folder."""
        with broker(tmp_path) as port:
            pass
        assert (tmp_path / "mosquitto.db").exists()
        with broker(tmp_path, port) as again:
            assert again == port

    def test_a_port_that_is_taken(self, tmp_path: Path) -> None:
        """It does not start; another program on the port is not taken for it."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with (
                pytest.raises(BrokerError, match="cannot be used: Address already"),
                broker(tmp_path, taken.getsockname()[1]),
            ):
                pass


class TestMissing:
    """Without mosquitto."""

    def test_is_said_with_the_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is made; the next try finds an untouched folder."""
        monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)
        with (
            pytest.raises(BrokerError, match="not installed"),
            broker(tmp_path / "demo"),
        ):
            pass
        assert not (tmp_path / "demo").exists()

    def test_is_found_outside_a_users_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Debian installs it where only root looks."""
        monkeypatch.setenv("PATH", "/nowhere")
        assert find_mosquitto().endswith("/mosquitto")


class TestPort:
    """A free port."""

    def test_can_be_bound(self) -> None:
        """By us, on loopback."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", free_port()))

    def test_is_none_of_outgoing_connections(self) -> None:
        """One of those may be taken before whoever asked listens on it."""
        linux_gives_from = 32_768
        assert all(1024 < free_port() < linux_gives_from for _ in range(20))

    def test_without_any(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Told, and not tried for ever."""

        def taken(_socket: object, _address: object) -> None:
            raise OSError(errno.EADDRINUSE, "Address already in use")

        monkeypatch.setattr(socket.socket, "bind", taken)
        with pytest.raises(BrokerError, match=r"none is free on 127.0.0.1 \(end some"):
            free_port()
