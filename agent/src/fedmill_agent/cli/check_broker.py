# SPDX-License-Identifier: Apache-2.0
"""What ``fedmill-agent check`` finds out about the broker."""

import time
from pathlib import Path
from queue import Empty, SimpleQueue

from fedmill_agent.config import AgentConfig
from fedmill_shared import topics
from fedmill_shared.errors import BrokerError
from fedmill_shared.files import is_held
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.link.options import TlsSection
from fedmill_shared.link.rights import Rights, RightsTold, fresh_nonce
from fedmill_shared.messages import Echo, encode

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.01


def check_broker(config: AgentConfig) -> None:
    """Sign in to the broker beside the daemon, and change nothing there.

    With a certificate that is only possible while the daemon is not running: the broker takes the
    certificate's name for the client id, so the two would throw each other out.

    Raises:
        BrokerError: it cannot be found, does not answer, refuses us, or lets us do too much.
        IdentityError: a file of ``[broker.tls]`` is missing or wrong.
    """
    address = f"{config.broker.host}:{config.broker.port}"
    tls = config.broker.tls
    if tls is not None and is_held(Path(config.agent.state)):
        print(f"broker {address}: not tried: the agent runs with this certificate, see its status")
        return
    events: SimpleQueue[LinkEvent] = SimpleQueue()
    link = MqttLink(_endpoint(config, tls), events.put)
    link.start()
    try:
        told = _connected(events, address)
        if tls is not None:
            told = f"{told} as {config.agent.id}, {_tried(link, config.agent.id, address).words}"
    finally:
        link.stop()
    print(f"broker {address}: {told}")


def _endpoint(config: AgentConfig, tls: TlsSection | None) -> Endpoint:
    return Endpoint(
        host=config.broker.host,
        port=config.broker.port,
        # a full stop is in no agent's id: nobody is thrown out
        client_id=config.agent.id if tls is not None else f"{config.agent.id}.check",
        subscriptions=(),
        lasting=tls is not None,  # else what waits for the daemon would be thrown away
        looks=True,
        tls=tls,
    )


def _connected(events: SimpleQueue[LinkEvent], address: str) -> str:
    try:
        event: LinkEvent = events.get(timeout=CONNECT_SECONDS)
    except Empty:
        silence = f"nothing answers within {CONNECT_SECONDS:.0f} s"
        event = Disconnected(silence, "correct host and port below [broker], or open the firewall")
    if isinstance(event, Disconnected):
        remedy = event.remedy or "does a broker for MQTT 5 listen there, or another program?"
        raise BrokerError(f"broker {address}: {event.reason}", remedy=remedy)
    return "connected" if isinstance(event, Connected) else "answers"


def _tried(link: MqttLink, agent: str, address: str) -> RightsTold:
    """What the broker lets us do.

    Raises:
        BrokerError: too little, or too much.
    """
    own, foreign = (topics.up(each, "echo") for each in (agent, topics.NOBODY))
    rights = Rights(own, foreign, None, fresh_nonce)
    rights.test(link, lambda nonce: encode(Echo(nonce=nonce)))
    deadline = time.monotonic() + CONNECT_SECONDS
    while not rights.told.complete and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if rights.told.trouble:
        raise BrokerError(f"broker {address}: {rights.told.trouble}", remedy=rights.told.remedy)
    return rights.told
