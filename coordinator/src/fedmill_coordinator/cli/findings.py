# SPDX-License-Identifier: Apache-2.0
"""What the reports of closed rounds tell of each agent: verdicts, and who counts for nothing."""

from collections.abc import Mapping, Sequence

from fedmill_coordinator.aggregation import Verdict
from fedmill_coordinator.aggregation.robust.verdicts import is_against
from fedmill_coordinator.cli.table import Row
from fedmill_coordinator.rounds.judging import LOOK_BACK, told_by
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import RoundRecord


def verdicts_of(record: RoundRecord | None) -> Mapping[str, Verdict]:
    """What a round found about the update of each agent; nothing of one that is open."""
    return told_by(record).report.verdicts if record is not None else {}


def words(row: Row) -> str:
    """For people, from ``trust``, ``agreement``, ``factor`` and ``finding`` of a row.

    Empty for an update that is like the others and was taken as it came.
    """
    factor, agreement, finding = row["factor"], row["agreement"], str(row["finding"])
    shortened = isinstance(factor, float) and factor < 1
    contrary = isinstance(agreement, float) and is_against(agreement)
    if row["trust"] in (None, 1) and not shortened and not contrary:
        return ""
    told = f"shortened to {factor:.2g} of its length" if shortened else ""
    return ", ".join(filter(None, (finding, told)))


def held(store: Store, job: str, round_: int | None = None) -> Mapping[str, str]:
    """Agents of ``job`` in quarantine in a round, or now, and why."""
    last = None if round_ is not None else LOOK_BACK
    closed = [
        record
        for record in store.rounds(job, last=last)
        if record.state == "closed" and (round_ is None or record.round < round_)
    ]
    return {each.agent: each.reason for each in told_by(closed[-1]).quarantine} if closed else {}


def held_by_round(records: Sequence[RoundRecord]) -> Mapping[int, int]:
    """How many agents were in quarantine in each of the rounds but the first of ``records``.

    In the first one none is known of, unless it is the first of the job.
    """
    counts, count = dict[int, int](), 0
    for record in records:
        counts[record.round] = count
        if record.state == "closed":
            count = len(told_by(record).quarantine)
    return counts
