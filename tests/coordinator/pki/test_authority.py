# SPDX-License-Identifier: Apache-2.0
"""Certificates as OpenSSL takes them: who may connect to whom, and who may not."""

import secrets
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from tests.coordinator.pki.kit import DAY, Box

from fedmill_coordinator.pki.authority import Authority, host_name
from fedmill_coordinator.pki.register import record_of
from fedmill_shared.clock import SystemClock
from fedmill_shared.crypto.certificates import read_certificate
from fedmill_shared.crypto.keys import make_key, public_bytes, write_key
from fedmill_shared.errors import IdentityError

NOW = SystemClock().now_ns()
HOSTS = ("localhost", "127.0.0.1")


class Side:
    """One end of a connection: a key, its certificate, and whom it trusts."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.key = make_key()
        self.public = public_bytes(self.key)
        write_key(folder / "key.pem", self.key)
        (folder / "ca.pem").write_bytes(authority.pem)

    def context(self, certificate: bytes, *, server: bool, crl: bytes = b"") -> ssl.SSLContext:
        """TLS 1.3, both sides with certificates, as strict as OpenSSL can be."""
        (self.folder / "certificate.pem").write_bytes(certificate)
        purpose = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(self.folder / "ca.pem")
        context.load_cert_chain(self.folder / "certificate.pem", self.folder / "key.pem")
        if crl:
            (self.folder / "crl.pem").write_bytes(crl)
            context.load_verify_locations(self.folder / "crl.pem")
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context


class Rig:
    """A broker and an agent on a socket pair."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.make("Plant CA", NOW)
        self.broker = Side(folder / "broker", self.authority)
        self.agent = Side(folder / "agent", self.authority)

    def server(self, hosts: Sequence[str] = HOSTS, days: int = 365) -> bytes:
        """A certificate of the broker."""
        return self.authority.issue_server(
            hosts, self.broker.public, now_ns=NOW, days=days, random=secrets.token_bytes
        )

    def client(self, name: str = "gw7", *, now_ns: int = NOW, days: int = 90) -> bytes:
        """A certificate of the agent."""
        return self.authority.issue_client(
            name, self.agent.public, now_ns=now_ns, days=days, random=secrets.token_bytes
        )

    def connect(self, server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str:
        """Name of the client as the server sees it; ssl.SSLError where a side refuses."""
        left, right = socket.socketpair()
        seen: list[str] = []
        failures: list[Exception] = []

        def serve() -> None:
            try:
                with server.wrap_socket(left, server_side=True) as secure:
                    told = secure.getpeercert() or {}
                    subject = told["subject"]
                    seen.append(str(subject[0][0][1]))  # type: ignore[index]
                    secure.sendall(b"!")
            except (ssl.SSLError, OSError) as error:
                failures.append(error)
                left.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with client.wrap_socket(right, server_hostname=host) as secure:
                secure.recv(1)
        finally:
            right.close()
            thread.join()
        if failures:
            raise failures[0]
        return seen[0]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Both sides."""
    return Rig(tmp_path)


class TestHandshake:
    @pytest.mark.parametrize("host", HOSTS)
    def test_an_agent_and_the_broker(self, rig: Rig, host: str) -> None:
        """By name and by address; the broker sees the agent's id."""
        server = rig.broker.context(rig.server(), server=True)
        client = rig.agent.context(rig.client(), server=False)
        assert rig.connect(server, client, host) == "gw7"

    def test_a_broker_elsewhere(self, rig: Rig) -> None:
        """Its certificate is of another machine."""
        server = rig.broker.context(rig.server(["broker.plant"]), server=True)
        client = rig.agent.context(rig.client(), server=False)
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            rig.connect(server, client, "localhost")

    def test_an_agent_is_no_broker(self, rig: Rig) -> None:
        """A stolen gateway cannot play the broker to the others."""
        theirs = rig.authority.issue_client(
            "localhost", rig.broker.public, now_ns=NOW, days=9, random=secrets.token_bytes
        )
        server = rig.broker.context(theirs, server=True)
        client = rig.agent.context(rig.client(), server=False)
        with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
            rig.connect(server, client, "localhost")

    def test_a_broker_is_no_agent(self, rig: Rig) -> None:
        """Whatever it is called."""
        theirs = rig.authority.issue_server(
            HOSTS, rig.agent.public, now_ns=NOW, days=9, random=secrets.token_bytes
        )
        server = rig.broker.context(rig.server(), server=True)
        client = rig.agent.context(theirs, server=False)
        with pytest.raises((ssl.SSLError, OSError)):
            rig.connect(server, client, "localhost")

    def test_a_revoked_agent(self, rig: Rig) -> None:
        """With the list, the broker closes the door; others still come in."""
        revoked, good = rig.client(), rig.client()
        record = record_of(revoked, "agent", b"", NOW)
        crl = rig.authority.revocations([record], NOW)
        server = rig.broker.context(rig.server(), server=True, crl=crl)
        with pytest.raises((ssl.SSLError, OSError)):
            rig.connect(server, rig.agent.context(revoked, server=False), "localhost")
        assert rig.connect(server, rig.agent.context(good, server=False), "localhost") == "gw7"

    def test_an_agent_of_another_plant(self, rig: Rig, tmp_path: Path) -> None:
        """The same name, another authority."""
        other = Rig(tmp_path / "other")
        server = rig.broker.context(rig.server(), server=True)
        client = rig.agent.context(rig.client(), server=False)
        (other.agent.folder / "ca.pem").write_bytes(rig.authority.pem)
        theirs = other.agent.context(other.client(), server=False)
        with pytest.raises((ssl.SSLError, OSError)):
            rig.connect(server, theirs, "localhost")
        assert rig.connect(server, client, "localhost") == "gw7"

    def test_an_expired_agent(self, rig: Rig) -> None:
        """A day too late."""
        authority = Authority.make("Plant CA", NOW - 100 * DAY * 10**9)
        (rig.broker.folder / "ca.pem").write_bytes(authority.pem)
        old = authority.issue_client(
            "gw7",
            rig.agent.public,
            now_ns=NOW - 91 * DAY * 10**9,
            days=90,
            random=secrets.token_bytes,
        )
        server = rig.broker.context(rig.server(), server=True)
        with pytest.raises((ssl.SSLError, OSError)):
            rig.connect(server, rig.agent.context(old, server=False), "localhost")


class TestCertificates:
    def test_serial_numbers_are_random(self, rig: Rig) -> None:
        """128 bits, and never 0, whatever randomness brings."""
        serials = {read_certificate(rig.client()).serial for _ in range(8)}
        assert len(serials) == 8
        assert all(int(serial, 16) < 2**128 for serial in serials)
        zero = rig.authority.issue_client("gw7", rig.agent.public, now_ns=NOW, days=1, random=bytes)
        assert read_certificate(zero).serial == "1"

    def test_never_outside_the_authority(self, rig: Rig) -> None:
        """Neither before it begins, nor after it ends."""
        own = read_certificate(rig.authority.pem)
        first = read_certificate(rig.client())
        assert first.not_before_ns == own.not_before_ns
        last = read_certificate(rig.client(now_ns=own.not_after_ns - DAY * 10**9))
        assert last.not_after_ns == own.not_after_ns == rig.authority.not_after_ns
        for now in (own.not_before_ns - 10**9, own.not_after_ns + 10**9):
            with pytest.raises(IdentityError, match="Plant CA"):
                rig.client(now_ns=now)

    def test_of_the_authority(self, rig: Rig) -> None:
        """It signs certificates and lists and nothing else, and no authority below itself."""
        certificate = x509.load_pem_x509_certificate(rig.authority.pem)
        found = certificate.extensions
        constraints = found.get_extension_for_class(x509.BasicConstraints)
        usage = found.get_extension_for_class(x509.KeyUsage)
        assert (constraints.critical, constraints.value.ca) == (True, True)
        assert constraints.value.path_length == 0
        assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True,) * 3
        assert not usage.value.digital_signature
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert life.days == 3650

    @pytest.mark.parametrize("name", ["", "x" * 65])
    def test_names_that_fit_no_certificate(self, name: str) -> None:
        """One sentence, not one of the library."""
        with pytest.raises(IdentityError, match="cannot be called"):
            Authority.make(name, NOW)

    def test_loaded_again(self, rig: Rig) -> None:
        """With its own key and no other."""
        again = Authority.load(rig.authority.pem, rig.authority.key)
        assert again.fingerprint == rig.authority.fingerprint
        with pytest.raises(IdentityError, match="does not belong"):
            Authority.load(rig.authority.pem, make_key())
        with pytest.raises(IdentityError, match="none of an authority"):
            Authority.load(rig.client(), rig.agent.key)
        with pytest.raises(IdentityError):
            Authority.load(b"", rig.authority.key)

    def test_shows_no_key(self, rig: Rig) -> None:
        """In no log and no traceback."""
        assert "Ed25519" not in repr(rig.authority)
        assert repr(rig.authority).startswith("Authority(")

    @pytest.mark.parametrize("host", ["", "a b", "*.plant", "broker_1", "x" * 254, "é.plant", "."])
    def test_what_is_no_machine(self, host: str) -> None:
        """Neither a name nor an address."""
        with pytest.raises(IdentityError, match="neither a name nor an address"):
            host_name(host)

    def test_a_broker_without_a_name(self, rig: Rig) -> None:
        """Nobody could reach it."""
        with pytest.raises(IdentityError, match="no name"):
            rig.server([])


class TestRevocations:
    def test_what_is_on_the_list(self, rig: Rig) -> None:
        """Serial numbers and when it was made come back."""
        records = [record_of(rig.client(), "agent", b"", NOW) for _ in range(3)]
        crl = rig.authority.revocations(records, NOW)
        assert rig.authority.read_revocations(crl) == (
            frozenset(each.serial for each in records),
            NOW,
        )
        empty = rig.authority.revocations([], NOW)
        assert rig.authority.read_revocations(empty) == (frozenset(), NOW)

    @pytest.mark.parametrize("data", [b"", b"x", Box("gw7").csr])
    def test_what_is_no_list(self, rig: Rig, data: bytes) -> None:
        """A sentence."""
        with pytest.raises(IdentityError, match="no list of revocations"):
            rig.authority.read_revocations(data)
