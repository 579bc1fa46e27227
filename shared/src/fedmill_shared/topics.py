# SPDX-License-Identifier: Apache-2.0
"""The topic tree: every name a message can have on the wire.

::

    fedmill/v1/<agent>/up/<kind>      agent to coordinator
    fedmill/v1/<agent>/down/<kind>    coordinator to one agent
    fedmill/v1/all/<kind>/<job>       coordinator to every agent
    fedmill/v1/all/block/<job>        blocks that every agent wants
    fedmill/v1/<agent>/out/<kind>/<job>   predictions and alarms, JSON for other systems
    fedmill/v1/enrol/ca               the certificate of the plant's CA (PEM), retained
    fedmill/v1/enrol/up/<request>     a box that has no certificate yet asks for one
    fedmill/v1/enrol/down/<request>   what it is answered

At most seven slashes and 256 bytes, so that the tree also fits a public cloud broker.
"""

import re

from fedmill_shared.errors import FrameError

ROOT = "fedmill/v1"
ALL = "all"
ENROL = "enrol"
RESERVED = (ALL, ENROL)
"""What no agent may be called."""
NOBODY = "_nobody"
"""In the place of an agent whose topics none may write, and whose name none can have."""
ENROL_CA = f"{ROOT}/{ENROL}/ca"
_AGENT = re.compile(r"^[a-z0-9-]{1,32}$")
_REQUEST = re.compile(r"^[0-9a-f]{32}$")


def valid_agent_id(agent: str) -> bool:
    """Whether ``agent`` may name an agent: ``[a-z0-9-]{1,32}``, and not a reserved name."""
    return agent not in RESERVED and _AGENT.fullmatch(agent) is not None


def up(agent: str, kind: str) -> str:
    """Topic of what ``agent`` tells the coordinator."""
    return f"{ROOT}/{agent}/up/{kind}"


def down(agent: str, kind: str) -> str:
    """Topic of what the coordinator tells ``agent`` alone."""
    return f"{ROOT}/{agent}/down/{kind}"


def out(agent: str, kind: str, job: str) -> str:
    """Topic of what ``agent`` tells other systems of the plant about ``job``."""
    return f"{ROOT}/{agent}/out/{kind}/{job}"


def broadcast(kind: str, job: str) -> str:
    """Topic of what the coordinator tells every agent about ``job``."""
    return f"{ROOT}/{ALL}/{kind}/{job}"


def enrol_up(request: str) -> str:
    """Topic on which a box asks to enrol, under a ``request`` of 32 random hexadecimal digits."""
    return f"{ROOT}/{ENROL}/up/{request}"


def enrol_down(request: str) -> str:
    """Topic on which the box that asked under ``request`` is answered."""
    return f"{ROOT}/{ENROL}/down/{request}"


def parse_enrol_up(topic: str) -> str:
    """The request of a topic on which a box asks to enrol.

    Raises:
        FrameError: the topic is not one of these.
    """
    request = topic.removeprefix(enrol_up(""))
    if request == topic or _REQUEST.fullmatch(request) is None:
        raise FrameError(f"topic {topic!r} is not {enrol_up('<request>')}")
    return request


def is_trust(topic: str) -> bool:
    """Whether what comes on ``topic`` is signed metadata, or what is signed by it."""
    return topic.startswith(f"{ROOT}/{ALL}/trust/")


def parse_up(topic: str) -> tuple[str, str]:
    """Agent and kind of an upward topic.

    Raises:
        FrameError: the topic is not one of ours.
    """
    parts = topic.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT or parts[3] != "up":
        raise FrameError(f"topic {topic!r} is not {ROOT}/<agent>/up/<kind>")
    if not valid_agent_id(parts[2]):
        raise FrameError(f"topic {topic!r} names no valid agent")
    return parts[2], parts[4]


def kind_of(topic: str) -> str:
    """Last part of a downward topic, or the kind of a broadcast."""
    parts = topic.split("/")
    return parts[3] if len(parts) == 5 and parts[2] == ALL else parts[-1]
