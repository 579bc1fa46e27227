# SPDX-License-Identifier: Apache-2.0
"""The topic tree: every name a message can have on the wire.

::

    fedmill/v1/<agent>/up/<kind>      agent to coordinator
    fedmill/v1/<agent>/down/<kind>    coordinator to one agent
    fedmill/v1/all/<kind>/<job>       coordinator to every agent
    fedmill/v1/all/block/<job>        blocks that every agent wants
    fedmill/v1/<agent>/out/<kind>/<job>   predictions and alarms, JSON for other systems
    fedmill/v1/enrol/ca               the certificate of the plant's CA (PEM), retained
    fedmill/v1/enrol/up               a box that has no certificate yet asks for one
    fedmill/v1/enrol/down/<request>   what it is answered

Strangers write to one topic only: a broker keeps a message for each topic that somebody has it
keep, and every topic that they may name would be memory of theirs.

At most seven slashes and 256 bytes, so that the tree also fits a public cloud broker.
"""

import re

from fedmill_shared.errors import FrameError
from fedmill_shared.files import sha256

ROOT = "fedmill/v1"
ALL = "all"
ENROL = "enrol"
RESERVED = (ALL, ENROL)
"""What no agent may be called."""
NOBODY = "_nobody"
"""In the place of an agent whose topics none may write, and whose name none can have."""
ENROL_CA = f"{ROOT}/{ENROL}/ca"
ENROL_UP = f"{ROOT}/{ENROL}/up"
_AGENT = re.compile(r"^[a-z0-9-]{1,32}$")


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


def enrol_down(request: bytes) -> str:
    """Topic on which the box is answered that sent ``request``: named by 32 digits of its SHA-256.

    So nobody can ask for an answer in the place of another, and who asks again is answered there.
    """
    return f"{ROOT}/{ENROL}/down/{sha256(request)[:32]}"


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
