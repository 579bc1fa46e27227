# SPDX-License-Identifier: Apache-2.0
"""What agents say of a release, put beside what is known of them."""

from msgspec import json, structs

from fedmill_coordinator.store.records_releases import LAST_WORDS, InstallRecord, ReleaseRecord
from fedmill_shared.messages import InstallReport, InstallState

OURS = ("asked", "timed_out", "withdrawn")
"""States that only the coordinator gives."""
SERVED_BEFORE = "it served this version already"


def heard(
    known: InstallRecord, report: InstallReport | None, release: ReleaseRecord, now_ns: int
) -> InstallRecord:
    """``known`` with what the agent says now; itself where that is nothing new.

    A last word stands, but for another one: an agent may commit after its time was over, or roll
    back what it had committed.
    """
    if report is None or not _counts(known, report, release):
        return known
    before = report.release < release.release
    told = structs.replace(
        known,
        state=str(report.state),
        gate=report.gate,
        reason=SERVED_BEFORE if before else report.reason,
        evidence=json.encode(report.evidence, order="sorted").decode(),
        since_ns=report.since_ns,
        heard_ns=known.heard_ns,
    )
    if told == structs.replace(known, since_ns=report.since_ns):
        return known
    return structs.replace(told, heard_ns=now_ns)


def _counts(known: InstallRecord, report: InstallReport, release: ReleaseRecord) -> bool:
    """Whether ``report`` is about ``release``, and says more than what is ``known``."""
    if report.version != release.version or report.state in ("", *OURS):
        return False
    over = known.state in LAST_WORDS
    if report.release < release.release:  # of an earlier release of the same version
        return report.state == InstallState.COMMITTED and not over
    return report.release == release.release and (report.state in LAST_WORDS or not over)
