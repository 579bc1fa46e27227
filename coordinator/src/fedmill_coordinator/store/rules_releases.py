# SPDX-License-Identifier: Apache-2.0
"""Rules about releases that every store keeps."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from fedmill_coordinator.store import rules
from fedmill_coordinator.store.records import AliasRecord, checked
from fedmill_coordinator.store.records_releases import LAST_WORDS, InstallRecord, ReleaseRecord

GOING = ("open", "paused")
"""States of a release that is not over."""
GIVEN_UP = ("aborted", "superseded")
"""States of a release that its agents need not take any more."""
WITHDRAWN = "withdrawn"
SUPERSEDED_REASON = "another release took its place"


def new_release(record: ReleaseRecord, last: ReleaseRecord | None) -> ReleaseRecord:
    """``record``, checked, if it may follow the job's ``last`` release.

    Raises:
        StoreError: it is not open, or has another number.
    """
    what = release_name(record)
    if record.state != "open":
        raise rules.conflict(what, f"it cannot begin as {record.state}")
    if last is not None and record.release <= last.release:
        raise rules.conflict(what, "numbers go up")
    return checked(record)


def superseded(record: ReleaseRecord, by: ReleaseRecord) -> ReleaseRecord | None:
    """``record`` as it ends with the release ``by``; None if it is over already."""
    if record.state not in GOING:
        return None
    return structs.replace(
        record, state="superseded", ended_ns=by.created_ns, reason=SUPERSEDED_REASON
    )


def changed_release(record: ReleaseRecord, stored: ReleaseRecord | None) -> ReleaseRecord:
    """``record``, checked, if it may take the place of ``stored``.

    Raises:
        StoreError: there is none, it is over in another way, or has another version.
    """
    if stored is None:
        raise rules.unknown(f"release {record.release} of job {record.job!r}")
    if stored.state not in GOING and record.state != stored.state:
        raise rules.conflict(release_name(record), f"it is {stored.state}")
    if record.version != stored.version:
        raise rules.conflict(release_name(record), "it has another version")
    return checked(record)


def of_release(record: ReleaseRecord, installs: Sequence[InstallRecord]) -> Iterator[InstallRecord]:
    """``installs``, checked, if they are of the release ``record``.

    Raises:
        StoreError: one is of another.
    """
    for install in installs:
        if (install.job, install.release) != (record.job, record.release):
            raise rules.conflict(release_name(record), "an install is of another release")
        yield checked(install)


def withdrawn(record: ReleaseRecord, installs: Iterable[InstallRecord]) -> list[InstallRecord]:
    """Those of ``installs`` that the end of ``record`` leaves without a last word, as they end."""
    if record.state not in GIVEN_UP:
        return []
    return [
        structs.replace(install, state=WITHDRAWN, reason=f"the release was {record.state}")
        for install in installs
        if install.state not in LAST_WORDS
    ]


def stable(record: ReleaseRecord, now_ns: int) -> AliasRecord | None:
    """Where ``stable`` goes with the release as it is now; None where it stays."""
    if record.state != "done":
        return None
    return AliasRecord(job=record.job, alias="stable", version=record.version, updated_ns=now_ns)


def canary(record: ReleaseRecord) -> AliasRecord | None:
    """Where ``canary`` points while the release is under way; None where it is over."""
    if record.state not in GOING:
        return None
    return AliasRecord(
        job=record.job, alias="canary", version=record.version, updated_ns=record.created_ns
    )


def release_name(record: ReleaseRecord) -> str:
    """What a release is called in errors."""
    return f"release {record.release} of job {record.job!r}"
