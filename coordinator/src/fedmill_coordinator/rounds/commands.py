# SPDX-License-Identifier: Apache-2.0
"""What the operator orders one job to do; each order says in words what came of it."""

from collections.abc import Callable

from fedmill_coordinator.rounds import phases, rollout_commands
from fedmill_coordinator.rounds.herald import Herald
from fedmill_coordinator.rounds.parts import Parts
from fedmill_coordinator.store.records import REFUSED_ORDER, OrderRecord, Verb
from fedmill_shared.messages import Reason

ABORTED = "the operator aborted the job"


def carry_out(order: OrderRecord, parts: Parts, herald: Herald, step: Callable[[], None]) -> str:
    """Do what ``order`` wants of the job that consists of ``parts``, and say what came of it.

    ``step`` lets the job do what is due.

    Raises:
        StoreError: the disk fails; the order may be given again.
    """
    if order.verb in rollout_commands.COMMANDS:
        return rollout_commands.carry_out(order, parts, herald)
    if order.verb == "close":
        return close_now(parts, step, order.given_ns)
    if parts.stage.ended:
        return f"{REFUSED_ORDER}the job is {parts.stage.state}"
    return COMMANDS[order.verb](parts, herald)


def pause(parts: Parts, herald: Herald) -> str:
    """Ask nobody for anything from now on; what is on its way is still taken."""
    _hold(parts, herald, paused=True)
    return "the job is paused"


def resume(parts: Parts, herald: Herald) -> str:
    """Go on where the job was paused; an open round gets its whole time again."""
    if not parts.stage.paused:
        return "the job is not paused"
    if phases.extend(parts) is None:
        parts.rounds.begin_phase()
    _hold(parts, herald, paused=False)
    return "the job goes on"


def abort(parts: Parts, herald: Herald) -> str:
    """Stop the job for good; its newest version stays in use."""
    number = parts.rounds.current.round if parts.rounds.current is not None else 0
    parts.rounds.abandon(ABORTED)
    parts.services.store.discard_waiting(
        parts.job.name, code=Reason.ENDED.value, reason="the job was aborted"
    )
    parts.stage.enter("stopped")
    herald.job()
    herald.round()
    return f"the job is stopped; round {number} was abandoned" if number else "job stopped"


def close_now(parts: Parts, step: Callable[[], None], given_ns: int) -> str:
    """Close the round that was open when this was ordered, with the updates that are there."""
    rounds, current = parts.rounds, parts.rounds.current
    if current is not None and current.opened_ns > given_ns:
        return f"{REFUSED_ORDER}round {current.round} has opened since"
    if current is None or parts.stage.paused:
        why = "no round is open" if current is None else "the job is paused"
        return f"{REFUSED_ORDER}{why}"
    if not parts.agents.done - rounds.quarantined:
        return f"{REFUSED_ORDER}round {current.round} has no update that counts yet"
    rounds.hurried = True
    try:
        step()
    finally:
        rounds.hurried = False
    ended = parts.services.store.round(parts.job.name, current.round)
    if ended is None or ended.state == "open":
        return f"{REFUSED_ORDER}no update of round {current.round} can be read"
    if ended.state == "abandoned":
        return f"round {current.round} was abandoned: its updates make no model"
    return f"round {ended.round} was closed with the updates of {len(ended.included)} agents"


def _hold(parts: Parts, herald: Herald, *, paused: bool) -> None:
    parts.stage.hold(paused=paused)
    parts.services.log.warning("job.paused" if paused else "job.resumed")
    herald.round()


COMMANDS: dict[Verb, Callable[[Parts, Herald], str]] = {
    "pause": pause,
    "resume": resume,
    "abort": abort,
}
"""Orders about a job that is not over."""
