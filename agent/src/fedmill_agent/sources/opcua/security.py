# SPDX-License-Identifier: Apache-2.0
"""Who we are to a server: certificate, key, user and password (OPC 10000-7, security policies)."""

from dataclasses import dataclass, field
from pathlib import Path

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies, uacrypto
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_shared.errors import ConfigError, SourceError

APPLICATION = "urn:fedmill:agent"
LARGEST_FILE = 65_536
POLICIES: dict[str, type[security_policies.SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What is read from files, before anything is connected.

    Attributes:
        uri: name of the application, which the certificate must carry too.
        certificate: DER; empty without security.
        key: DER, PKCS 8.
        server: DER of the one server that is believed; empty for any.
        password: of the user.
    """

    uri: str = APPLICATION
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    server: bytes = b""
    password: str = field(default="", repr=False)


def identity(options: OpcuaOptions) -> Identity:
    """Read the files that ``options`` name.

    Raises:
        ConfigError: one is missing or is not what it should be.
    """
    password = ""
    if options.password_file:
        password = _text(options).rstrip("\r\n")
    if options.security == "None":
        return Identity(password=password)
    certificate = _certificate(options, "certificate_file")
    server = b""
    if options.server_certificate_file:
        server = _der(_certificate(options, "server_certificate_file"))
    return Identity(_uri(certificate), _der(certificate), _key(options), server, password)


async def secure(client: Client, options: OpcuaOptions, who: Identity) -> None:
    """Make ``client`` sign and encrypt as ``options`` say; asks the server for its certificate.

    Raises:
        UaError: the server does not offer this.
        OSError: it cannot be reached.
    """
    client.application_uri = who.uri
    if options.security == "None":
        return
    modes = ua.MessageSecurityMode
    await client.set_security(
        POLICIES[options.security],
        uacrypto.CertProperties(who.certificate, "der"),
        uacrypto.CertProperties(who.key, "der"),
        server_certificate=uacrypto.CertProperties(who.server, "der") if who.server else None,
        mode=modes.Sign if options.sign_only else modes.SignAndEncrypt,
    )


def guard_password(client: Client, options: OpcuaOptions) -> None:
    """Refuse to send the password unencrypted, once the server has said what it wants.

    Raises:
        SourceError: it would be.
    """
    policy = client.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri
    bare = not policy or policy == security_policies.SecurityPolicyNone.URI
    hidden = client.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
    if options.user and bare and not hidden and not options.plain_password:
        raise SourceError(
            f"source {options.name!r}: {options.place} takes the password unencrypted only",
            remedy="choose a `security`, or set `plain_password = true` if nobody listens there",
        )


def _bytes(options: OpcuaOptions, name: str) -> bytes:
    path = str(getattr(options, name))
    try:
        with Path(path).open("rb") as file:
            found = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _wrong(options, name, error.strerror or str(error)) from error
    if not 0 < len(found) <= LARGEST_FILE:
        raise _wrong(options, name, f"{len(found)} bytes are none")
    return found


def _text(options: OpcuaOptions) -> str:
    try:
        return _bytes(options, "password_file").decode()
    except UnicodeDecodeError as error:
        raise _wrong(options, "password_file", "it is not UTF-8 text") from error


def _certificate(options: OpcuaOptions, name: str) -> x509.Certificate:
    data = _bytes(options, name)
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise _wrong(options, name, "it is no certificate") from error


def _key(options: OpcuaOptions) -> bytes:
    data = _bytes(options, "key_file")
    try:
        if b"-----BEGIN" in data:
            key = serialization.load_pem_private_key(data, None)
        else:
            key = serialization.load_der_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise _wrong(options, "key_file", "it is no private key without passphrase") from error
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _uri(certificate: x509.Certificate) -> str:
    """The application's name in a certificate; servers compare it with what we call ourselves."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return APPLICATION
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return str(uris[0]) if uris else APPLICATION


def _wrong(options: OpcuaOptions, name: str, why: str) -> ConfigError:
    return ConfigError(
        f"source {options.name!r}: {name} {str(getattr(options, name))!r}: {why}",
        remedy="name a file that is there and may be read; see docs/sources.md",
    )
