# SPDX-License-Identifier: Apache-2.0
"""An update's label of origin: who made it of what, all that its signature covers.

It says again what the offer says, and what only the topic says, so that a signature over it is good
for this agent, job, round and base alone, and for these bytes.
"""

from msgspec import Struct, msgpack

from fedmill_shared.messages.fields import (
    Agent,
    Digest,
    Examples,
    Finite,
    Job,
    Nanoseconds,
    RoundNumber,
    Seconds,
    Shifts,
    Size,
    Software,
    Steps,
)
from fedmill_shared.messages.up import UpdateOffer

SAID_TWICE = (
    "job",
    "round",
    "base",
    "sha256",
    "size",
    "examples",
    "loss",
    "seconds",
    "steps",
    "shift",
)
"""Fields of an offer that its label repeats: all but what tells of the transfer alone."""


class Origin(Struct, frozen=True, kw_only=True):
    """What an agent states of an update.

    Attributes:
        agent: who made it.
        schema: digest of the manifest, the layout of what was learned.
        software: version of the agent's software.
        made_ns: when the label was made, by the agent's clock.
    """

    agent: Agent
    job: Job
    round: RoundNumber
    base: Digest
    schema: Digest
    sha256: Digest
    size: Size
    examples: Examples
    loss: Finite
    seconds: Seconds
    steps: Steps
    shift: Shifts
    software: Software
    made_ns: Nanoseconds


def label(offer: UpdateOffer, *, agent: str, schema: str, software: str, made_ns: int) -> bytes:
    """The statement that ``agent`` has to sign for the update of ``offer``, MessagePack."""
    said = {name: getattr(offer, name) for name in SAID_TWICE}
    return msgpack.encode(
        Origin(agent=agent, schema=schema, software=software, made_ns=made_ns, **said)
    )


def difference(origin: Origin, offer: UpdateOffer, agent: str) -> str:
    """The first field in which ``origin`` is of another update than what ``agent`` offers.

    Empty if it is of this one.
    """
    if origin.agent != agent:
        return "agent"
    return next((n for n in SAID_TWICE if getattr(origin, n) != getattr(offer, n)), "")
