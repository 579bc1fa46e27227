# SPDX-License-Identifier: Apache-2.0
"""Signing in at an OPC UA server: certificates, keys, users, passwords, and who is refused."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from tests.agent.sources.live.stands.opcua import SPEED, Stand

from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.opcua import KIND, connection
from fedmill_agent.sources.opcua.security import APPLICATION, identity
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import ConfigError, SourceError

LIVE = KIND.live
assert LIVE is not None
URI = "urn:plant:gateway-7"
PASSWORD = "Ofen 7 läuft"  # noqa: S105  of a server that lives as long as a test
TYPES = ua.SecurityPolicyType
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


def certify(
    folder: Path, name: str, *, uri: str = URI, encoding: serialization.Encoding = PEM
) -> tuple[Path, Path]:
    """Files of a new certificate for ``uri`` (none where that is empty) and of its key."""
    key = rsa.generate_private_key(65537, 2048)
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    ending = "pem" if encoding is PEM else "der"
    certificate, private = folder / f"{name}.{ending}", folder / f"{name}-key.{ending}"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(encoding))
    private.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the certificates of the gateway (PEM and DER) and of the server, and a password."""
    folder = tmp_path_factory.mktemp("security")
    certify(folder, "gateway")
    certify(folder, "other", encoding=DER)
    certify(folder, "server", uri="urn:freeopcua:python:server")
    (folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    (folder / "wrong").write_text("guess\n")
    return folder


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Stand]:
    """A server that wants a user, over signed or encrypted connections only."""
    stand = Stand(
        folder,
        user=("joe", PASSWORD),
        policies=(TYPES.Basic256Sha256_Sign, TYPES.Basic256Sha256_SignAndEncrypt),
        certificate=(folder / "server.pem", folder / "server-key.pem"),
    )
    stand.start()
    yield stand
    stand.stop()


@pytest.fixture(scope="module")
def open_line(folder: Path) -> Iterator[Stand]:
    """A server that wants a user, and has no certificate to encrypt the password for."""
    stand = Stand(folder, user=("joe", PASSWORD))
    stand.start()
    yield stand
    stand.stop()


def secured(stand: Stand, folder: Path, **changes: Any) -> Any:
    """Options with all that the guarded server wants."""
    wanted = {
        "security": "Basic256Sha256",
        "certificate_file": str(folder / "gateway.pem"),
        "key_file": str(folder / "gateway-key.pem"),
        "user": "joe",
        "password_file": str(folder / "password"),
    }
    return stand.options(**{**wanted, **changes})


def speed(options: Any) -> float:
    """What the server says."""
    with closing(LIVE.open(options, [SPEED], SystemClock())) as reader:
        for _ in range(20):
            for each in reader.read(0.5):
                if isinstance(each, Readings):
                    return float(each.values[0])
    raise AssertionError("nothing came")


class TestGuarded:
    @pytest.mark.parametrize("sign_only", [False, True])
    def test_values_come(self, guarded: Stand, folder: Path, *, sign_only: bool) -> None:
        """With certificate, key, user and password; the password travels encrypted in any case."""
        assert speed(secured(guarded, folder, sign_only=sign_only)) == 1500.0

    def test_files_may_be_der_and_the_server_known(self, guarded: Stand, folder: Path) -> None:
        """The server's certificate is compared with the one on the disk."""
        options = secured(
            guarded,
            folder,
            certificate_file=str(folder / "other.der"),
            key_file=str(folder / "other-key.der"),
            server_certificate_file=str(folder / "server.pem"),
        )
        assert speed(options) == 1500.0

    def test_another_server(self, guarded: Stand, folder: Path) -> None:
        """Somebody else answers at the server's address: refused."""
        options = secured(guarded, folder, server_certificate_file=str(folder / "other.der"))
        with pytest.raises(SourceError, match="correct `server_certificate_file`"):
            speed(options)

    def test_wrong_password(self, guarded: Stand, folder: Path) -> None:
        """The remedy names the two options; no password is in the message."""
        options = secured(guarded, folder, password_file=str(folder / "wrong"))
        with pytest.raises(SourceError, match="check `user` and `password_file`") as caught:
            speed(options)
        assert "guess" not in str(caught.value)

    def test_nobody(self, guarded: Stand, folder: Path) -> None:
        """Without a user."""
        with pytest.raises(SourceError, match="refuses: Bad"):
            speed(secured(guarded, folder, user="", password_file=""))

    def test_without_security(self, guarded: Stand, folder: Path) -> None:
        """The server offers none of it."""
        with pytest.raises(SourceError, match="does not offer the security None"):
            speed(guarded.options())

    def test_a_policy_that_is_not_offered(self, guarded: Stand, folder: Path) -> None:
        """Named, with what can be done."""
        options = secured(guarded, folder, security="Aes256Sha256RsaPss", sign_only=True)
        with pytest.raises(SourceError, match=r"Aes256Sha256RsaPss, signed only.*choose"):
            speed(options)

    def test_keys_are_renewed(
        self, guarded: Stand, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In time, as often as the server wants, and values go on coming."""
        monkeypatch.setattr(connection, "CHANNEL_SECONDS", 0.2)
        tokens: set[int] = set()
        decode = connection.read_response

        def counting(data: bytes, count: int) -> Any:
            (client,) = guarded.server.bserver.clients
            tokens.add(client.processor._connection.security_token.TokenId)
            return decode(data, count)

        monkeypatch.setattr(connection, "read_response", counting)
        options = secured(guarded, folder, timeout_seconds=0.2, mode="poll")
        with closing(LIVE.open(options, [SPEED], SystemClock())) as reader:
            for number in range(100):
                guarded.say(SPEED, float(number))
                reader.read(0.5)
                if len(tokens) > 3:
                    break
        guarded.say(SPEED, 1500.0)
        assert len(tokens) > 3

    def test_discovery_signs_in_too(self, guarded: Stand, folder: Path) -> None:
        """With the same identity."""
        assert LIVE.discover is not None
        found = LIVE.discover(secured(guarded, folder), SystemClock())
        assert SPEED in {each.tag for each in found}


class TestPlainPassword:
    def test_is_not_sent(self, open_line: Stand, folder: Path) -> None:
        """Whoever listens would have it."""
        options = open_line.options(user="joe", password_file=str(folder / "password"))
        with pytest.raises(SourceError, match="unencrypted only") as caught:
            speed(options)
        assert "plain_password" in str(caught.value)
        assert PASSWORD not in str(caught.value)

    def test_unless_it_is_allowed(self, open_line: Stand, folder: Path) -> None:
        """On a cable that nobody else is on."""
        wanted = {"user": "joe", "plain_password": True}
        options = open_line.options(**wanted, password_file=str(folder / "password"))
        assert speed(options) == 1500.0


class TestFiles:
    @pytest.fixture
    def secure_options(self, guarded: Stand, folder: Path, tmp_path: Path) -> Any:
        """Options of which one field names a file of the test's, and that file."""
        path = tmp_path / "file"
        return lambda field: (secured(guarded, folder, **{field: str(path)}), path)

    def test_identity(self, guarded: Stand, folder: Path) -> None:
        """The application has the name that its certificate has; secrets do not print."""
        who = identity(secured(guarded, folder))
        assert (who.uri, who.password) == (URI, PASSWORD)
        assert PASSWORD not in repr(who)
        assert "key" not in repr(who)

    def test_a_certificate_without_a_name(self, guarded: Stand, tmp_path: Path) -> None:
        """Our own is used."""
        certificate, key = certify(tmp_path, "nameless", uri="")
        (tmp_path / "password").write_text("x")
        options = secured(guarded, tmp_path, certificate_file=str(certificate), key_file=str(key))
        assert identity(options).uri == APPLICATION

    @pytest.mark.parametrize(
        ("field", "content", "said"),
        [
            ("certificate_file", None, "No such file"),
            ("certificate_file", b"", "0 bytes"),
            ("certificate_file", b"x" * 70_000, "bytes are none"),
            ("certificate_file", b"-----BEGIN CERTIFICATE-----\nx\n", "no certificate"),
            ("certificate_file", b"\x30\x00", "no certificate"),
            ("key_file", b"-----BEGIN PRIVATE KEY-----\nx\n", "no private key"),
            ("key_file", b"\x30\x00", "no private key"),
            ("server_certificate_file", b"nothing", "no certificate"),
            ("password_file", None, "No such file"),
            ("password_file", b"\xff\xfe", "not UTF-8"),
        ],
    )
    def test_wrong(self, secure_options: Any, field: str, content: bytes | None, said: str) -> None:
        """Each is named with its field, before anything is connected."""
        options, path = secure_options(field)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"{field} '{path}': .*{said}"):
            speed(options)

    def test_a_key_with_a_passphrase(self, guarded: Stand, folder: Path, tmp_path: Path) -> None:
        """Nobody is there to type it."""
        key = serialization.load_pem_private_key((folder / "gateway-key.pem").read_bytes(), None)
        path = tmp_path / "locked.pem"
        locked = serialization.BestAvailableEncryption(b"x")
        path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, locked))
        with pytest.raises(ConfigError, match="without passphrase"):
            speed(secured(guarded, folder, key_file=str(path)))
