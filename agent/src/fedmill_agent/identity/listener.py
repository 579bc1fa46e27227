# SPDX-License-Identifier: Apache-2.0
"""The broker's enrolment listener, as a box that is nobody yet reaches it.

It is asked for the plant's authority by a box that cannot know whom it speaks to, and that says
nothing of itself. Only with an authority that the operator's code names is anything sent.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fedmill_shared.clock import Clock
from fedmill_shared.crypto.validity import Validity, der_validity
from fedmill_shared.errors import BrokerError, SourceError
from fedmill_shared.link.plant import PlantBroker, PlantLink
from fedmill_shared.link.tls_words import mistrusted

PATIENCE_SECONDS = 10.0
LARGEST_PACKET = 65_536
_WHERE = (
    "look whether the broker has an enrolment listener there, and correct host and enrol_port "
    "below [broker]"
)
USER = "enrol"
"""Of every box that enrols, and no secret."""
UNTRUSTED = "the code's authority"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where it is.

    ``name`` is that in the broker's certificate.
    """

    host: str
    port: int
    name: str

    @property
    def address(self) -> str:
        """For people."""
        return f"{self.host}:{self.port}"


class _Context(ssl.SSLContext):
    """Asks for a name that need not be the host's, and remembers the certificate it was shown."""

    name: str
    shown: bytes = b""

    def wrap_socket(self, sock: socket.socket, *_: Any, **__: Any) -> ssl.SSLSocket:
        """As the base class does."""
        made = super().wrap_socket(sock, server_hostname=self.name)
        self.shown = made.getpeercert(binary_form=True) or b""
        return made


@contextmanager
def unverified(listener: Listener, topic: str) -> Iterator[tuple[PlantLink, Validity | None]]:
    """A connection to whoever answers, listening to ``topic``, and the times of who that is.

    Raises:
        BrokerError: nobody does, or not in TLS 1.3.
    """
    context = _context(listener)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _opened(listener, context, topic) as link:
            yield link, _validity(context.shown)
    except SourceError as error:
        raise _unreachable(error) from error


@contextmanager
def verified(
    listener: Listener, ca: bytes, topic: str, clock: Clock, shown: Validity | None
) -> Iterator[PlantLink]:
    """A connection to the plant whose authority is ``ca`` (PEM), listening to ``topic``.

    ``shown``: from when to when the certificate is valid that the listener was seen to have.

    Raises:
        BrokerError: nobody answers.
        IdentityError: somebody else does, or the clock is wrong.
    """
    context = _context(listener)
    context.load_verify_locations(cadata=ca.decode("ascii"))
    try:
        with _opened(listener, context, topic) as link:
            yield link
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            now = clock.now_ns()
            raise mistrusted(cause, listener.name, UNTRUSTED, shown, now) from error
        raise _unreachable(error) from error


def _context(listener: Listener) -> _Context:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.name = listener.name
    return context


@contextmanager
def _opened(listener: Listener, context: _Context, topic: str) -> Iterator[PlantLink]:
    broker = PlantBroker(
        host=listener.host,
        port=listener.port,
        client_id=USER,
        username=USER,  # the broker takes it for the client id: no box can take an agent's
        password=USER,
        tls=context,
        largest_packet=LARGEST_PACKET,
        patience=PATIENCE_SECONDS,
    )
    link = PlantLink(broker)
    try:
        link.open([topic])
        yield link
    finally:
        link.close()


def _validity(der: bytes) -> Validity | None:
    try:
        return der_validity(der)
    except ValueError:
        return None


def _unreachable(error: SourceError) -> BrokerError:
    return BrokerError(error.message, remedy=_WHERE)
