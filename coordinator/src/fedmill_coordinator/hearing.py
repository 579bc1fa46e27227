# SPDX-License-Identifier: Apache-2.0
"""How the parts of a coordinator hear what agents say: each message goes to whom it concerns."""

from collections.abc import Collection, Mapping

from msgspec import Struct

from fedmill_coordinator.rounds.admission import receipt_for
from fedmill_coordinator.rounds.conductor import Conductor
from fedmill_coordinator.rounds.desk import Desk
from fedmill_coordinator.services import Services
from fedmill_shared import topics
from fedmill_shared.errors import FrameError
from fedmill_shared.link.base import Message
from fedmill_shared.link.blocks import parse_block
from fedmill_shared.messages import (
    UP,
    AgentState,
    BlobRequest,
    Echo,
    EvaluationReport,
    Join,
    MomentsReport,
    Reason,
    Refusal,
    UpdateOffer,
    Wish,
    decode,
)

Conductors = Mapping[str, Conductor]
"""By the name of the job."""


def receive(message: Message, conductors: Conductors, services: Services) -> None:
    """Take in what an agent says, and count its bytes, whatever comes of it.

    Raises:
        FrameError: it is no message of ours, or is about something that is not here.
        StoreError: the disk fails; the agent says it again.
    """
    agent, kind = topics.parse_up(message.topic)
    concerned: Collection[str] = ()
    try:
        concerned = _deal_with(agent, kind, message, conductors, services)
    finally:
        if not message.retained:  # the agent sent such a one long ago
            jobs = concerned or _running(agent, conductors, services)
            services.traffic.up(jobs, agent, message.topic, len(message.payload))


def _deal_with(
    agent: str, kind: str, message: Message, conductors: Conductors, services: Services
) -> Collection[str]:
    """Take in a message; the jobs that it is about, if it says so."""
    if kind == "block":
        block = parse_block(message.payload)
        return [name for name, each in conductors.items() if each.desk.block(agent, block)]
    if kind not in UP:
        raise FrameError(f"kind {kind!r} is unknown")
    body = decode(message.payload, UP[kind])
    if isinstance(body, AgentState):
        _see(agent, body, services, retained=message.retained)
        return ()
    if isinstance(body, Echo):
        if not message.retained:
            services.voice.turn_away(agent, "echo", body)
        return ()
    job = getattr(body, "job", "")
    if job not in conductors:
        if isinstance(body, UpdateOffer):
            gone = (Reason.ENDED, "this coordinator does not run the job any more")
            services.voice.turn_away(agent, "receipt", receipt_for(body, "late", gone))
        raise FrameError(f"agent {agent} speaks of job {job!r}, which is not run here")
    _hand_over(conductors[job].desk, agent, body)
    return (job,)


def _see(agent: str, state: AgentState, services: Services, *, retained: bool) -> None:
    if services.anchors is not None and not retained:  # what the broker kept may be old
        services.anchors.hear(agent, state.audit)
    if services.fleet.hear(agent, state, retained=retained):
        services.log.info("agent.online" if state.online else "agent.offline", agent=agent)
        if state.safe_mode:
            services.log.warning("agent.safe_mode", agent=agent, reason=state.safe_mode)
        if state.online and not retained:
            services.traffic.came(agent)


def _running(agent: str, conductors: Conductors, services: Services) -> list[str]:
    """Jobs of ``agent`` that are not over: they bear what it sends that names none."""
    jobs = services.fleet.jobs_of(agent).intersection(conductors)
    return [job for job in jobs if not conductors[job].desk.over]


def _hand_over(desk: Desk, agent: str, body: Struct) -> None:
    match body:
        case Join():
            desk.join(agent, body)
        case Refusal():
            desk.refuse(agent, body)
        case MomentsReport():
            desk.moments(agent, body)
        case UpdateOffer():
            desk.offer(agent, body)
        case EvaluationReport():
            desk.evaluation(agent, body)
        case BlobRequest():
            desk.request(agent, body)
        case Wish():
            desk.wish(agent, body)
