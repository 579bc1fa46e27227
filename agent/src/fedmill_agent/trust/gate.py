# SPDX-License-Identifier: Apache-2.0
"""Whether what comes is signed: a pure look at what was checked, and at the clock."""

from datetime import UTC, datetime

from fedmill_agent.trust.verified import Verified
from fedmill_shared.files import sha256
from fedmill_shared.messages import JobNotice, ReleaseNotice
from fedmill_shared.trust import release_path, release_statement

FRESH = "waiting for fresh metadata from the coordinator, or for a bundle from a stick"


def over(verified: Verified, now_ns: int) -> str:
    """Why nothing new is taken at all; empty where what was checked is good at ``now_ns``."""
    at, role = verified.expires
    if not at:
        return verified.error or "no signed metadata has come yet"
    if now_ns < at:
        return ""
    return f"the signed metadata ({role}) is over since {moment(at)}: {FRESH}"


def refusal_of_job(verified: Verified, notice: JobNotice, now_ns: int) -> str:
    """Why ``notice`` is not taken; empty if it is the signed one."""
    late = over(verified, now_ns)
    if late:
        return late
    texts = set(verified.texts(notice.job))
    if sha256(notice.text) in texts:
        return ""
    return (
        f"the text of job {notice.job} is not the one that is signed"
        if texts
        else f"job {notice.job} is not signed"
    )


def refusal_of_release(verified: Verified, notice: ReleaseNotice, now_ns: int) -> str:
    """Why ``notice`` is not taken; empty if it is signed."""
    late = over(verified, now_ns)
    if late:
        return late
    target = verified.targets.get(release_path(notice.job, notice.release))
    if target is None:
        return f"release {notice.release} is not signed, or is long over"
    data = release_statement(notice)
    if target.length == len(data) and target.sha256 == sha256(data):
        return ""
    return f"release {notice.release} is not made of what is signed"


def moment(at_ns: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M UTC")
