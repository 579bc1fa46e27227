# SPDX-License-Identifier: Apache-2.0
"""How a round ends: with a version, with none, or abandoned; stored before anybody is told."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from msgspec import json, structs

from fedmill_coordinator.aggregation import Report
from fedmill_coordinator.rounds.aggregate import Aggregate, SpoiltUpdateError, aggregate
from fedmill_coordinator.rounds.discarding import take_out
from fedmill_coordinator.rounds.harvest import Harvest, harvest
from fedmill_coordinator.rounds.judging import in_quarantine, judge
from fedmill_coordinator.rounds.ladder import codecs_of
from fedmill_coordinator.rounds.loss import loss_of_round
from fedmill_coordinator.rounds.means import Means
from fedmill_coordinator.rounds.past import Past, newest_of
from fedmill_coordinator.rounds.quarantine import Quarantine
from fedmill_coordinator.rounds.tally import Tally
from fedmill_coordinator.store.records import RefusalRecord, RoundRecord, UpdateRecord
from fedmill_coordinator.traffic import Traffic
from fedmill_shared.errors import StoreError


@dataclass(frozen=True, slots=True)
class Closed:
    """A round that has closed.

    Attributes:
        record: how it ended.
        made: whether there is a new version.
        past: the rounds that have ended by now.
        before: who was in quarantine in it.
        after: who is in quarantine in the next one.
    """

    record: RoundRecord
    made: bool
    past: Past
    before: list[Quarantine]
    after: list[Quarantine]


def close(
    means: Means, current: RoundRecord, tally: Tally, excluded: Collection[str]
) -> Closed | None:
    """End the round ``current``, in which the agents ``excluded`` count for nothing.

    None if an update turned out to be unreadable, which is then taken out.

    Raises:
        ModelError: what the updates lead to is no model; nothing has changed.
        StoreError: the result cannot be stored; nothing has changed.
    """
    store, job = means.services.store, means.job
    found = harvest(store, job, current.round)
    before = in_quarantine(store, job)
    quarantined = {each.agent for each in before}
    try:
        result = _aggregate(means, found.used, current.round, quarantined)
    except SpoiltUpdateError as error:
        take_out(means, error, tally)
        return None
    after = judge(store, job, current.round, result.report, standing=before, used=found.used)
    overdue = Counter(update.code for update in found.overdue)
    closed = closed_record(
        current,
        found.used,
        result.report,
        now_ns=means.services.clock.now_ns(),
        traffic=means.services.traffic,
        tally=Tally(tally.rejected, tally.discarded + overdue),
        quarantine=after,
        loss=loss_of_round(found.used, excluded, claim=job.robustness.claim),
    )
    made = _advance(means, closed, found, result)
    return Closed(closed, made, Past(closed.round, newest_of(found.used)), before, after)


def abandon(means: Means, number: int, why: str) -> None:
    """End round ``number``, which is open, without a result.

    Raises:
        StoreError: that cannot be stored; nothing has changed.
    """
    name, services = means.job.name, means.services
    report = json.encode({"error": why}).decode()
    services.store.abandon_round(
        name,
        number,
        closed_ns=services.clock.now_ns(),
        report=report,
        traffic=services.traffic.records(name, number),
        published_bytes=services.traffic.published(name),
    )
    services.traffic.clear(name)


def closed_record(
    current: RoundRecord,
    used: Sequence[UpdateRecord],
    report: Report,
    *,
    now_ns: int,
    traffic: Traffic,
    tally: Tally,
    quarantine: Sequence[Quarantine],
    loss: float,
) -> RoundRecord:
    """``current`` as it ends now with ``used``, and with the bytes that ``traffic`` counted.

    ``quarantine`` is of the next round, ``loss`` the training loss of this one.
    """
    up, down = traffic.total(current.job)
    details = {
        "report": report,
        "loss": loss,
        "rejected": dict(tally.rejected),
        "discarded": dict(tally.discarded),
        "quarantine": quarantine,
    }
    return structs.replace(
        current,
        state="closed",
        closed_ns=now_ns,
        seconds=max(0.0, (now_ns - current.opened_ns) / 1e9),
        included=sorted({update.agent for update in used}),
        accepted=len(used),
        rejected=tally.rejected.total(),
        discarded=tally.discarded.total(),
        uplink_bytes=up,
        downlink_bytes=down,
        published_bytes=traffic.published(current.job),
        report=json.encode(details).decode(),
    )


def tell_quarantine(means: Means, closed: Closed) -> None:
    """Note who came into quarantine with the end of a round, and who came out of it."""
    services = means.services
    inside = {each.agent for each in closed.before}
    for each in closed.after:
        if each.agent in inside:
            continue
        services.log.warning(
            "agent.quarantined", agent=each.agent, round=each.since_round, reason=each.reason
        )
        record = RefusalRecord(
            job=means.job.name,
            agent=each.agent,
            reason="quarantine",
            text=each.reason,
            received_ns=services.clock.now_ns(),
        )
        with suppress(StoreError):  # the round has closed, and its report says it too
            services.store.add_refusal(record)
    for agent in sorted(inside - {each.agent for each in closed.after}):
        services.log.info("agent.released", agent=agent)


def _aggregate(
    means: Means, used: Sequence[UpdateRecord], number: int, quarantined: Collection[str]
) -> Aggregate:
    """What the job's rule makes of ``used`` in round ``number``."""
    job, golden = means.services.store.job(means.job.name), means.golden
    return aggregate(
        means.job,
        job.rule_state if job is not None else b"",
        used,
        means.services.blobs,
        elements=means.versions.learned,
        round_=number,
        golden=means.versions.reference(golden, number) if golden else None,
        quarantined=quarantined,
    )


def _advance(means: Means, closed: RoundRecord, found: Harvest, result: Aggregate) -> bool:
    """Store the round as it ends, with its version and its traffic; whether there is a new one."""
    name, services = means.job.name, means.services
    made = means.versions.advance(
        result.delta,
        closed,
        rule_state=result.rule_state,
        included=found.used,
        discarded=found.overdue,
        traffic=services.traffic.records(name, closed.round),
        codec=codecs_of(services.store, means.job, closed.round)[1],
    )
    services.traffic.clear(name)
    return made
