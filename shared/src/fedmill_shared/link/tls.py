# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 under a link, both sides with certificates. Imported only where it is configured.

The files are read anew for each connection, so a renewed certificate needs no restart. In TLS 1.3
the broker judges our certificate after the handshake, and paho swallows what it says then.
"""

import select
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmill_shared.clock import Clock
from fedmill_shared.crypto.validity import (
    LATEST_NS,
    Validity,
    check_validity,
    der_validity,
    read_file,
    read_validity,
)
from fedmill_shared.errors import FedmillError, IdentityError
from fedmill_shared.link.options import TlsSection
from fedmill_shared.link.tls_words import EXPIRED, NOT_YET_VALID, mistrusted, refused

HANDSHAKE_SECONDS = 10.0
VERDICT_SECONDS = 0.5
"""How long a broker may take over our certificate before we go on. A refusal that comes later may
be lost together with what we have sent meanwhile."""


class RecordingSocket(ssl.SSLSocket):
    """A socket that remembers why it broke, since paho does not tell.

    Attributes:
        failure: the last error of TLS on it.
    """

    failure: ssl.SSLError | None = None

    def recv(self, *args: Any, **options: Any) -> bytes:
        """As the base class does."""
        try:
            return super().recv(*args, **options)
        except ssl.SSLError as error:
            self._note(error)
            raise

    def send(self, *args: Any, **options: Any) -> int:
        """As the base class does."""
        try:
            return super().send(*args, **options)
        except ssl.SSLError as error:
            self._note(error)
            raise

    def _note(self, error: ssl.SSLError) -> None:
        if not isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            self.failure = error


class Tls:
    """Owns what one link knows of its files, and of the last connection made with them."""

    def __init__(self, section: TlsSection, host: str, port: int, clock: Clock) -> None:
        """Nothing is read before a connection is made, or ``check``."""
        self._files = section
        self._address = host, port
        self._name = section.server_name or host
        self._clock = clock
        self._ours = Validity(0, 0)
        self._socket: RecordingSocket | None = None

    def check(self) -> None:
        """Look at the files.

        Raises:
            IdentityError: one is missing, unreadable, readable for everybody, or no such file; or
                key and certificate do not belong together.
        """
        self._context()

    def open(self, connect: Callable[[], socket.socket]) -> socket.socket:
        """A connection as ``connect`` makes it, and TLS on it as far as the broker's word on us.

        Whether our certificate has expired is the broker's to say: this machine's clock may be
        ahead. One that is behind is told before anybody is asked.

        Raises:
            IdentityError: a file is missing or damaged, the clock is before our certificate, the
                broker refuses it, or its own is none for us.
            BrokerError: what listens there is no TLS listener.
            OSError: of ``connect``.
        """
        self._socket = None
        context = self._context()
        begin = Validity(self._ours.not_before_ns, LATEST_NS)
        check_validity(begin, self._clock.now_ns(), whose="our certificate")
        connection = connect()
        connection.settimeout(HANDSHAKE_SECONDS)
        made = context.wrap_socket(
            connection, server_hostname=self._name, do_handshake_on_connect=False
        )
        try:
            made.do_handshake()
            _await_verdict(made)
        except ssl.SSLCertVerificationError as error:
            made.close()
            untimely = error.verify_code in {NOT_YET_VALID, EXPIRED}
            theirs = self._theirs() if untimely else None
            now = self._clock.now_ns()
            raise mistrusted(error, self._name, self._files.ca, theirs, now) from error
        except OSError as error:
            made.close()
            raise refused(error, self._ours, self._clock.now_ns()) from error
        self._socket = made if isinstance(made, RecordingSocket) else None
        return made

    def lost(self) -> FedmillError | None:
        """Why TLS ended the last connection, if it did."""
        if self._socket is None or self._socket.failure is None:
            return None
        return refused(self._socket.failure, self._ours, self._clock.now_ns())

    def _context(self) -> ssl.SSLContext:
        ca = read_file(Path(self._files.ca), "certificate of the plant's authority")
        own = read_file(Path(self._files.certificate), "certificate")
        _check_key(Path(self._files.key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # wants a certificate, and the host in it
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.sslsocket_class = RecordingSocket
        at = self._files.ca
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
            at = f"{self._files.certificate} and {self._files.key}"
            # asking for the password of a key would stop a daemon for ever
            context.load_cert_chain(self._files.certificate, self._files.key, password=lambda: "")
        except (OSError, ValueError) as error:
            raise IdentityError(
                f"{at}: {_unfit(error)}", remedy="restore the files from a backup, or enrol again"
            ) from error
        self._ours = read_validity(own)
        return context

    def _theirs(self) -> Validity | None:
        """From when to when the broker's certificate is valid: looked at, and not believed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with (
                socket.create_connection(self._address, timeout=HANDSHAKE_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=self._name) as looked,
            ):
                return der_validity(looked.getpeercert(binary_form=True) or b"")
        except (OSError, ValueError):
            return None


def _await_verdict(connection: ssl.SSLSocket) -> None:
    """Wait for the broker's first word after the handshake.

    Raises:
        OSError: it refuses our certificate, or hangs up.
    """
    ready, _, _ = select.select([connection], [], [], VERDICT_SECONDS)
    if not ready:
        return
    connection.setblocking(False)
    try:
        connection.recv(1)
    except (ssl.SSLWantReadError, BlockingIOError):
        return  # tickets for later sessions: we are welcome
    raise ConnectionResetError("closed, or another protocol where the server speaks first")


def _check_key(path: Path) -> None:
    """Look at the key's file.

    Raises:
        IdentityError: it is missing, unreadable, or everybody may read it.
    """
    read_file(path, "key")
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise IdentityError(
            f"{path}: everybody on this machine may read this key",
            remedy=f"chmod 600 {path}, and enrol again if others had access",
        )


def _unfit(error: Exception) -> str:
    reason = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    if "KEY_VALUES_MISMATCH" in reason:
        return "key and certificate do not belong together"
    return f"not what it should be: {reason}"
