# SPDX-License-Identifier: Apache-2.0
"""Rules that every store keeps, and the words in which it refuses."""

from collections.abc import Collection

from msgspec import structs

from fedmill_coordinator.store.records import (
    AliasRecord,
    Discarded,
    JobRecord,
    RoundRecord,
    UpdateRecord,
    VersionRecord,
    checked,
)
from fedmill_shared.errors import StoreError

ABANDONED = "the round was abandoned"
CLOSED = "the round closed without it"
_REPORT = "a repeat of this is a defect; report it with the coordinator's log"


def opening(record: RoundRecord, current: RoundRecord | None) -> RoundRecord:
    """``record``, checked, if it may open while ``current`` is the job's open round.

    Raises:
        StoreError: it is not open itself, or there is an open round.
    """
    if record.state != "open":
        raise StoreError(
            f"round {record.round} of job {record.job!r} cannot open as {record.state}",
            remedy=_REPORT,
        )
    if current is not None:
        raise StoreError(
            f"job {record.job!r}: round {current.round} is still open",
            remedy="close or abandon it before the next one",
        )
    return checked(record)


def still_open(stored: RoundRecord | None, job: str, number: int) -> RoundRecord:
    """``stored`` if that round is open.

    Raises:
        StoreError: it is not, or there is none.
    """
    if stored is None or stored.state != "open":
        raise StoreError(f"round {number} of job {job!r} is not open", remedy=_REPORT)
    return stored


def ended(closed: RoundRecord, stored: RoundRecord | None) -> int:
    """When the open round ``stored`` ended as ``closed``, ns.

    Raises:
        StoreError: ``stored`` is not open, has another base, or ``closed`` is no end of it.
    """
    base = still_open(stored, closed.job, closed.round).base
    if closed.state != "closed" or closed.closed_ns is None or closed.base != base:
        raise StoreError(
            f"round {closed.round} of job {closed.job!r} on base {base} cannot end as "
            f"{closed.state} on base {closed.base}",
            remedy=_REPORT,
        )
    return closed.closed_ns


def all_received(closed: RoundRecord, received: Collection[str]) -> None:
    """Raise StoreError unless every agent that ``closed`` includes is in ``received``."""
    missing = sorted(set(closed.included).difference(received))
    if missing:
        raise StoreError(
            f"round {closed.round} of job {closed.job!r}: no update of {', '.join(missing)} waits",
            remedy=_REPORT,
        )


def candidate(version: VersionRecord, closed: RoundRecord, now_ns: int) -> AliasRecord:
    """The alias that ``version`` gets as the result of ``closed``.

    Raises:
        StoreError: it is the result of something else.
    """
    if (version.job, version.round) != (closed.job, closed.round):
        raise StoreError(
            f"round {closed.round} of job {closed.job!r} cannot make a version of round "
            f"{version.round} of job {version.job!r}",
            remedy=_REPORT,
        )
    return AliasRecord(
        job=version.job, alias="candidate", version=version.version, updated_ns=now_ns
    )


def previous(stable: AliasRecord | None, moved: AliasRecord) -> AliasRecord | None:
    """Where ``previous`` goes when ``moved`` replaces ``stable``; None where it stays."""
    if moved.alias != "stable" or stable is None or stable.version == moved.version:
        return None
    return structs.replace(stable, alias="previous", updated_ns=moved.updated_ns)


def is_repeat(record: UpdateRecord, stored: UpdateRecord | None) -> bool:
    """Whether ``record`` is stored already.

    Raises:
        StoreError: another update is stored under its key.
    """
    if stored is None:
        return False
    if stored.sha256 != record.sha256:
        raise StoreError(
            f"agent {record.agent!r} sent two different updates for round {record.round} of job "
            f"{record.job!r}; the first one counts",
            remedy="check that no two gateways share one certificate",
        )
    return True


def discarded(
    what: str, stored: UpdateRecord | None, state: Discarded, reason: str
) -> UpdateRecord:
    """``stored`` as discarded.

    Raises:
        StoreError: there is none, or it does not wait.
    """
    if stored is None or stored.state != "received":
        raise conflict(what, f"it does not wait, so it cannot become {state}")
    return checked(structs.replace(stored, state=state, reason=reason))


def new_job(record: JobRecord, stored: JobRecord | None) -> JobRecord:
    """``record``, checked, if ``stored`` does not have its name.

    Raises:
        StoreError: it does.
    """
    if stored is not None:
        raise StoreError(
            f"there is already a job {record.name!r}", remedy="choose another name in the job file"
        )
    return checked(record)


def unknown(what: str) -> StoreError:
    """What is said about a row that must be there and is not."""
    return StoreError(f"there is no {what}", remedy="check its name in the listing")


def conflict(what: str, detail: str) -> StoreError:
    """What is said about a row that contradicts another."""
    return StoreError(f"{what} cannot be stored: {detail}", remedy=_REPORT)
