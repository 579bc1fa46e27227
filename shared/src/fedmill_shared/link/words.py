# SPDX-License-Identifier: Apache-2.0
"""Why a connection to the broker fails or a message is refused, and what to do about it."""

import socket

from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Disconnected, Rejection

NAME = "correct host below [broker], or make it known to this machine by DNS or /etc/hosts"
WHERE = "start the broker, or correct host and port below [broker]"
TWIN = "another process signs in as {}: stop it, or give each an identity of its own"
FOREIGN = "look whether host and port below [broker] are those of an MQTT 5 broker"
REFUSED = "the broker's own log says why; fedmill signs in without user name and password"
_UNWELCOME = {
    0x87: "check the broker's ACL: {client} must be allowed to publish to {topic}",
    0x97: "raise what the broker lets {client} publish",
}
_UNEXPLAINED = "look into the broker's own log why {client} may not publish this to {topic}"
_UNHEARD = "check the broker's ACL: {client} must be allowed to read {topic}"


def check_host(host: str) -> None:
    """Refuse what the resolver cannot be asked for: it would end paho's thread without a word.

    Raises:
        BrokerError: no machine can have this name.
    """
    try:
        possible = bool(host.encode("idna")) and "\0" not in host
    except UnicodeError:
        possible = False
    if not possible:
        raise BrokerError(f"broker.host is {host!r}: no machine can have this name", remedy=NAME)


def failure(host: str, error: OSError) -> Disconnected:
    """Why no connection to ``host`` could be made."""
    if isinstance(error, socket.gaierror):
        return Disconnected(f"the host name {host} is unknown: {error.strerror}", NAME)
    return Disconnected(f"no broker answers: {error.strerror or error}", WHERE)


def refusal(client: str, topic: str, code: int, reason: str) -> Rejection:
    """What the broker's answer to a message of ``client`` means."""
    remedy = _UNWELCOME.get(code, _UNEXPLAINED)
    return Rejection(topic, reason, remedy.format(client=client, topic=topic))


def unheard(client: str, topic: str) -> str:
    """What to do where ``client`` may not listen to ``topic``."""
    return _UNHEARD.format(client=client, topic=topic)
