# SPDX-License-Identifier: Apache-2.0
"""paho's client as our links need it. Only this module, ``mqtt.py`` and ``plant.py`` know paho.

Traps that this module exists for: Nagle's algorithm costs 40 ms a round; without a thread of its
own, paho writes from whichever thread publishes, and two of them may mix their packets, so it is
told that somebody else writes; it drops the connection over a character that MQTT only advises
against, and the broker then sends the same message for ever; and it imports what we never use.
"""

import socket
import struct
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fedmill_shared.lean import without

if TYPE_CHECKING:
    from fedmill_shared.link.tls import Tls


class _NeverRaised(Exception):  # noqa: N818  it is no error
    """Stands for what only a connection with TLS raises, while this process has none."""


# paho asks the system for a proxy through urllib, but only where PySocks is installed, and names
# two errors of TLS whenever a socket has nothing to read. Who wants TLS imports ssl, as `plant.py`.
with without(
    empty=[] if find_spec("socks") else ["urllib.request"],
    later={"ssl": dict.fromkeys(("SSLWantReadError", "SSLWantWriteError"), _NeverRaised)},
):
    from paho.mqtt import MQTTException
    from paho.mqtt import properties as paho_properties
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions


def read_text(buffer: bytes, longest: int) -> tuple[str, int]:
    """The text at the beginning of ``buffer`` and the bytes it takes, at most ``longest``.

    In place of paho's: whatever a client of the broker wrote into a property, the message that
    carries it is delivered, and nobody is cut off. What is not UTF-8 is replaced.
    """
    length = int.from_bytes(buffer[:2], "big")
    if longest < 2 or length > longest - 2:
        raise MQTTException("text of a property is truncated")
    return bytes(buffer[2 : 2 + length]).decode("utf-8", "replace"), length + 2


paho_properties.readUTF = read_text

MALFORMED = (MQTTException, ValueError, LookupError, struct.error)
"""All that paho raises over the bytes of a broker gone mad."""

__all__ = [
    "MALFORMED",
    "Client",
    "ConnectFlags",
    "DisconnectFlags",
    "LinkClient",
    "MQTTErrorCode",
    "MQTTMessage",
    "MQTTMessageInfo",
    "PacketTypes",
    "Properties",
    "ReasonCode",
    "SubscribeOptions",
    "read_text",
]


class LinkClient(Client):
    """One of paho's, whose sockets carry TLS where that is wanted."""

    def __init__(self, client_id: str, tls: "Tls | None", *, looks: bool = False) -> None:
        """A client that is not connected; ``tls`` makes its sockets.

        One that only ``looks`` acknowledges nothing that comes.
        """
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=looks,
        )
        self._tls = tls
        self.on_socket_open = _no_delay
        self.on_socket_register_write = _left_to_the_loop

    def _create_socket(self) -> Any:
        connect = self._create_socket_connection
        return connect() if self._tls is None else self._tls.open(connect)


def _left_to_the_loop(_client: Client, _userdata: object, _sock: Any) -> None:
    """Nothing to do: the loop looks by itself whether something is to be written."""


def _no_delay(_client: Client, _userdata: object, sock: Any) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
