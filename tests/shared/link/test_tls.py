# SPDX-License-Identifier: Apache-2.0
"""A link over TLS: to the broker as it is deployed, and to what is none."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue

import pytest
from msgspec import structs
from tests.pki import DAY, Authority, Credential, now
from tests.pki_broker import PlantBroker

from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import IdentityError
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message, Rejection
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.link.options import TlsSection

pytestmark = pytest.mark.system
PATIENCE = 20.0
AUTHORITY = Authority()
SELF = "gw-1"
TOPIC = f"fedmill/v1/{SELF}/down/echo"


class Client:
    """A link and its events."""

    def __init__(
        self,
        port: int,
        files: TlsSection | None,
        *,
        host: str = "127.0.0.1",
        clock: ManualClock | None = None,
        jitter: Callable[[float], float] = lambda _: 0.02,
        patient: bool = False,
    ) -> None:
        self.events: SimpleQueue[LinkEvent] = SimpleQueue()
        endpoint = Endpoint(
            host=host,
            port=port,
            client_id=SELF,
            subscriptions=[TOPIC],
            tls=files,
            patient=patient,
        )
        self.link = MqttLink(endpoint, self.events.put, jitter=jitter, clock=clock)
        self.link.start()

    def hear(self) -> LinkEvent:
        """The next event."""
        return self.events.get(timeout=PATIENCE)

    def refused(self) -> Disconnected:
        """Why it does not connect."""
        event = self.hear()
        assert isinstance(event, Disconnected)
        return event


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Clients that have ended when the test has."""
    made: list[Client] = []

    def start(*args: object, **options: object) -> Client:
        made.append(Client(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for client in made:
        client.link.stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlantBroker]:
    """One for all tests that do it no harm."""
    made = PlantBroker(tmp_path_factory.mktemp("plant") / "broker", AUTHORITY)
    made.start()
    yield made
    made.stop()


Connect = Callable[..., Client]


class TestWelcome:
    def test_both_sides_prove_who_they_are(self, connect: Connect, broker: PlantBroker) -> None:
        """And the session works as without TLS."""
        client = connect(broker.port, broker.identity(AUTHORITY.issue(SELF)))
        assert client.hear() == Connected(session_present=False)
        answers: SimpleQueue[Rejection | None] = SimpleQueue()
        client.link.publish(f"fedmill/v1/{SELF}/up/state", b"here", done=answers.put)
        assert answers.get(timeout=PATIENCE) is None

    def test_blocks_in_both_directions(self, connect: Connect, tmp_path: Path) -> None:
        """Larger than a record of TLS (16 KiB), and many at once."""
        broker = PlantBroker(tmp_path / "broker", AUTHORITY)
        broker.start()
        sender = Endpoint(
            host="127.0.0.1",
            port=broker.port,
            client_id="coordinator",
            subscriptions=(),
            tls=broker.identity(AUTHORITY.issue("coordinator")),
        )
        client = connect(broker.port, broker.identity(AUTHORITY.issue(SELF)))
        assert isinstance(client.hear(), Connected)
        heard: SimpleQueue[LinkEvent] = SimpleQueue()
        link = MqttLink(sender, heard.put)
        link.start()
        heard.get(timeout=PATIENCE)
        blocks = [os.urandom(131_072) for _ in range(40)]
        for block in blocks:
            link.publish(TOPIC, block)
        assert [client.hear() for _ in blocks] == [Message(TOPIC, block) for block in blocks]
        link.stop()
        client.link.stop()
        broker.stop()

    def test_another_name_for_the_host(self, connect: Connect, tmp_path: Path) -> None:
        """Where the broker is reached by an address that its certificate does not have."""
        broker = PlantBroker(tmp_path / "broker", AUTHORITY)
        broker.credential = AUTHORITY.server("broker.plant")
        broker.start()
        files = broker.identity(AUTHORITY.issue(SELF))
        client = connect(broker.port, files)
        event = client.refused()
        assert "the broker's certificate is not for 127.0.0.1" in event.reason
        assert "server_name" in event.remedy
        client.link.stop()
        client = connect(broker.port, structs.replace(files, server_name="broker.plant"))
        assert isinstance(client.hear(), Connected)
        client.link.stop()
        broker.stop()

    def test_ssl_comes_with_the_section(self, tmp_path: Path) -> None:
        """A link in the clear does without it."""
        code = (
            "import sys\n"
            "from fedmill_shared.link.mqtt import Endpoint, MqttLink\n"
            "MqttLink(Endpoint(host='x', port=1, client_id='a', subscriptions=()), print)\n"
            "print('ssl' in sys.modules, 'fedmill_shared.link.tls' in sys.modules)"
        )
        child = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert child.stdout == "False False\n"


class TestFiles:
    @pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
    def test_missing_at_the_start(self, broker: PlantBroker, tmp_path: Path, missing: str) -> None:
        """One error that names the path; nothing is started."""
        files = broker.identity(AUTHORITY.issue(SELF))
        Path(getattr(files, missing)).unlink()
        with pytest.raises(IdentityError, match=rf"{missing}\.pem: .* cannot be read") as caught:
            Client(broker.port, files)
        assert "enrol" in caught.value.remedy
        assert caught.value.exit_code == 24

    @pytest.mark.parametrize("damaged", ["ca", "certificate", "key"])
    def test_damaged(self, broker: PlantBroker, damaged: str) -> None:
        """Told by the name of the file."""
        files = broker.identity(AUTHORITY.issue(SELF))
        Path(getattr(files, damaged)).write_bytes(b"-----BEGIN NONSENSE-----\n")
        with pytest.raises(IdentityError, match=rf"{damaged}\.pem.*not what it should be"):
            Client(broker.port, files)

    def test_bytes_that_are_no_text(self, broker: PlantBroker) -> None:
        """DER in place of PEM."""
        files = broker.identity(AUTHORITY.issue(SELF))
        Path(files.ca).write_bytes(b"\x30\x82\xff\x00")
        with pytest.raises(IdentityError, match=r"ca\.pem: not what it should be"):
            Client(broker.port, files)

    def test_of_two_pairs(self, broker: PlantBroker) -> None:
        """The key of one and the certificate of another."""
        one = broker.identity(AUTHORITY.issue(SELF))
        other = broker.identity(AUTHORITY.issue(SELF))
        with pytest.raises(IdentityError, match="key and certificate do not belong together"):
            Client(broker.port, structs.replace(one, key=other.key))

    def test_a_key_that_everybody_may_read(self, broker: PlantBroker) -> None:
        """It is no secret."""
        files = broker.identity(AUTHORITY.issue(SELF))
        Path(files.key).chmod(0o644)
        with pytest.raises(IdentityError, match="everybody on this machine may read") as caught:
            Client(broker.port, files)
        assert f"chmod 600 {files.key}" in caught.value.remedy

    def test_who_is_patient(self, connect: Connect, tmp_path: Path) -> None:
        """Begins without them, is told, and connects once they are there."""
        broker = PlantBroker(tmp_path / "broker", AUTHORITY)
        broker.start()
        files = broker.identity(AUTHORITY.issue(SELF))
        away = Path(files.key).rename(tmp_path / "key")
        client = connect(broker.port, files, patient=True)
        assert "key.pem: the key cannot be read" in client.refused().reason
        away.rename(files.key)
        while not isinstance(client.hear(), Connected):
            pass
        client.link.stop()
        broker.stop()

    def test_gone_later(self, connect: Connect, tmp_path: Path) -> None:
        """Told at the next connection; the link keeps trying, and takes them when they are back."""
        broker = PlantBroker(tmp_path / "broker", AUTHORITY)
        broker.start()
        files = broker.identity(AUTHORITY.issue(SELF))
        client = connect(broker.port, files)
        assert isinstance(client.hear(), Connected)
        kept = shutil.move(files.certificate, tmp_path / "kept.pem")
        client.link.renew()
        event = client.refused()
        assert f"{files.certificate}: the certificate cannot be read" in event.reason
        assert "enrol" in event.remedy
        shutil.move(kept, files.certificate)
        while not isinstance(event := client.hear(), Connected):
            assert isinstance(event, Disconnected)
        assert event.session_present
        client.link.stop()
        broker.stop()


class TestRenewal:
    def test_new_files_are_taken_and_the_session_stays(
        self, connect: Connect, broker: PlantBroker
    ) -> None:
        """No restart, no word of a loss, and nothing is missed."""
        old, new = AUTHORITY.issue(SELF), AUTHORITY.issue(SELF)
        files = broker.identity(old, "renewed")
        client = connect(broker.port, files)
        assert isinstance(client.hear(), Connected)
        new.write(Path(files.key).parent)
        broker.revoke(old)
        client.link.renew()
        assert client.hear() == Connected(session_present=True)
        assert client.events.empty()

    def test_what_waits_is_sent_afterwards(self, connect: Connect, broker: PlantBroker) -> None:
        """Each message once, whenever it was given."""
        client = connect(broker.port, broker.identity(AUTHORITY.issue(SELF)))
        assert isinstance(client.hear(), Connected)
        answers: SimpleQueue[Rejection | None] = SimpleQueue()
        client.link.renew()
        for number in range(200):
            client.link.publish(f"fedmill/v1/{SELF}/up/n", str(number).encode(), done=answers.put)
        assert [answers.get(timeout=PATIENCE) for _ in range(200)] == [None] * 200
        assert client.hear() == Connected(session_present=True)

    def test_stop_while_renewing(self, broker: PlantBroker) -> None:
        """It ends as ever."""
        client = Client(broker.port, broker.identity(AUTHORITY.issue(SELF)))
        client.hear()
        client.link.renew()
        client.link.stop()
        assert not client.link._thread.is_alive()

    def test_in_the_clear_it_is_a_new_connection(self, connect: Connect, mosquitto: int) -> None:
        """Which is what was asked for."""
        client = connect(mosquitto, None)
        client.hear()
        client.link.renew()
        assert client.hear() == Connected(session_present=True)


class TestRefusal:
    """What stands between us and the broker, in a sentence with a remedy."""

    def refusal(self, connect: Connect, broker: PlantBroker, ours: Credential) -> Disconnected:
        """What a client with these files is told."""
        told: Disconnected = connect(broker.port, broker.identity(ours)).refused()
        return told

    def test_revoked(self, connect: Connect, tmp_path: Path) -> None:
        """By the broker's list."""
        broker = PlantBroker(tmp_path / "broker", AUTHORITY)
        ours = AUTHORITY.issue(SELF)
        broker.revoke(ours)
        broker.start()
        event = self.refusal(connect, broker, ours)
        assert event.reason.startswith("our certificate is revoked")
        assert "enrol" in event.remedy
        broker.stop()

    def test_expired(self, connect: Connect, broker: PlantBroker) -> None:
        """The broker says so, we say since when."""
        event = self.refusal(connect, broker, AUTHORITY.expired(SELF))
        assert event.reason.startswith("our certificate was valid until 20")
        assert "enrol" in event.remedy

    def test_not_yet_valid(self, connect: Connect, broker: PlantBroker) -> None:
        """Told before the broker is asked: this machine's clock is behind."""
        event = self.refusal(connect, broker, AUTHORITY.early(SELF))
        assert event.reason.startswith("this machine's clock says 20")
        assert "our certificate is valid from 20" in event.reason
        assert "set the clock" in event.remedy

    def test_of_another_authority(self, connect: Connect, broker: PlantBroker) -> None:
        """The broker does not know it."""
        event = self.refusal(connect, broker, Authority("Another CA").issue(SELF))
        assert "does not know the authority of our certificate" in event.reason
        assert "cafile" in event.remedy

    def test_not_for_clients(self, connect: Connect, broker: PlantBroker) -> None:
        """That of a server is none for an agent."""
        event = self.refusal(connect, broker, AUTHORITY.server())
        assert "our certificate" in event.reason
        assert event.remedy

    def test_the_brokers_list_has_run_out(self, connect: Connect, tmp_path: Path) -> None:
        """It then says "expired" to everybody: whoever looks at the agent alone goes astray."""
        ours = AUTHORITY.issue(SELF)
        with _server(AUTHORITY.server(), tmp_path, ca=AUTHORITY.pem, crl=AUTHORITY.stale()) as port:
            files = ours.write(tmp_path / "ours", AUTHORITY.pem)
            event = connect(port, _section(files)).refused()
        assert "the broker finds our certificate expired; it is valid from" in event.reason
        assert "crlfile" in event.remedy

    def test_a_broker_of_another_authority(self, connect: Connect, tmp_path: Path) -> None:
        """Somebody else in its place."""
        files = AUTHORITY.issue(SELF).write(tmp_path / "ours", AUTHORITY.pem)
        with _server(Authority().server(), tmp_path) as port:
            event = connect(port, _section(files)).refused()
        assert "the broker's certificate is not from our CA" in event.reason
        assert f"{files / 'ca.pem'} must be the CA that issued it" in event.remedy

    def test_a_broker_whose_certificate_has_expired(self, connect: Connect, tmp_path: Path) -> None:
        """Both times: its end, and this machine's clock."""
        files = AUTHORITY.issue(SELF).write(tmp_path / "ours", AUTHORITY.pem)
        theirs = AUTHORITY.expired("broker", hosts=["127.0.0.1"])
        with _server(theirs, tmp_path) as port:
            event = connect(port, _section(files)).refused()
        end = theirs.certificate.not_valid_after_utc
        assert f"the broker's certificate was valid until {_minute(end)}" in event.reason
        assert "this machine's clock says 20" in event.reason
        assert "renew the broker's certificate" in event.remedy

    def test_a_broker_whose_certificate_is_not_yet_valid(
        self, connect: Connect, tmp_path: Path
    ) -> None:
        """Most often it is our clock."""
        files = AUTHORITY.issue(SELF).write(tmp_path / "ours", AUTHORITY.pem)
        theirs = AUTHORITY.early("broker", hosts=["127.0.0.1"])
        with _server(theirs, tmp_path) as port:
            event = connect(port, _section(files)).refused()
        begin = theirs.certificate.not_valid_before_utc
        assert f"the broker's certificate is valid from {_minute(begin)}" in event.reason
        assert "set the clock" in event.remedy

    def test_a_clock_of_another_year(self, connect: Connect, broker: PlantBroker) -> None:
        """A gateway without a battery wakes up in 2019, and asks nobody."""
        clock = ManualClock(1_551_398_400_000_000_000)
        ours = AUTHORITY.issue(SELF)
        event = connect(broker.port, broker.identity(ours), clock=clock).refused()
        begin = ours.certificate.not_valid_before_utc
        assert event.reason == (
            "this machine's clock says 2019-03-01 00:00 UTC, "
            f"our certificate is valid from {_minute(begin)}"
        )

    def test_a_clock_that_is_ahead(self, connect: Connect, broker: PlantBroker) -> None:
        """Whether we have expired is the broker's to say, by its own clock."""
        clock = ManualClock(int((now() + 1000 * DAY).timestamp()) * 10**9)
        client = connect(broker.port, broker.identity(AUTHORITY.issue(SELF)), clock=clock)
        assert isinstance(client.hear(), Connected)

    def test_a_listener_in_the_clear(
        self, connect: Connect, mosquitto: int, tmp_path: Path
    ) -> None:
        """Port 1883 in place of 8883."""
        files = AUTHORITY.issue(SELF).write(tmp_path, AUTHORITY.pem)
        event = connect(mosquitto, _section(files)).refused()
        assert "does not speak TLS" in event.reason
        assert "8883" in event.remedy

    def test_another_protocol(self, connect: Connect, tmp_path: Path) -> None:
        """Which answers, in words of its own."""
        files = AUTHORITY.issue(SELF).write(tmp_path, AUTHORITY.pem)
        with _answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            event = connect(port, _section(files)).refused()
        assert "does not speak TLS" in event.reason

    def test_an_older_tls(self, connect: Connect, tmp_path: Path) -> None:
        """1.3 and nothing below."""
        files = AUTHORITY.issue(SELF).write(tmp_path / "ours", AUTHORITY.pem)
        with _server(AUTHORITY.server(), tmp_path, newest=ssl.TLSVersion.TLSv1_2) as port:
            event = connect(port, _section(files)).refused()
        assert "the broker refuses TLS 1.3" in event.reason
        assert "tls_version tlsv1.3" in event.remedy

    def test_keeps_trying(self, connect: Connect, broker: PlantBroker) -> None:
        """Somebody will set the clock."""
        client = connect(broker.port, broker.identity(AUTHORITY.early(SELF)))
        for _ in range(3):
            assert isinstance(client.hear(), Disconnected)


def _section(folder: Path) -> TlsSection:
    paths = {name: str(folder / f"{name}.pem") for name in ("ca", "certificate", "key")}
    return TlsSection(**paths)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


@contextmanager
def _server(
    credential: Credential,
    folder: Path,
    *,
    ca: bytes = b"",
    crl: bytes = b"",
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Iterator[int]:
    """Something with TLS that takes one connection after another; yields its port."""
    files = credential.write(folder / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "certificate.pem", files / "key.pem")
    context.maximum_version = newest
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ca.decode())
    if crl:
        (folder / "crl.pem").write_bytes(crl)
        context.load_verify_locations(folder / "crl.pem")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF

    def serve(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as made:
                made.recv(4096)
        except OSError:
            connection.close()

    with _taking(serve) as port:
        yield port


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """Something that says ``answer`` to whatever it hears; yields its port."""

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    with _taking(serve) as port:
        yield port


@contextmanager
def _taking(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def take() -> None:
            while not ended.is_set():
                connection, _ = server.accept()
                serve(connection)

        thread = threading.Thread(target=take)
        thread.start()
        port: int = server.getsockname()[1]
        yield port
        ended.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
