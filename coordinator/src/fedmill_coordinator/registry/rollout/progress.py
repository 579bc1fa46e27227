# SPDX-License-Identifier: Apache-2.0
"""What a release does next: one pure function over what can be seen of it.

::

    open ──open_ring──▶ agents of the ring: asked ──▶ ... ──▶ committed, rejected, rolled_back
      ▲                     │          └─────────── time out ──▶ timed_out
      └──soak passed── all have a last word ──▶ soak
                            │                     └─ the last ring ──▶ done
                            └─ too many failed ──▶ aborted

Every agent that is asked has a last word in the end, if only by the clock: nothing waits for ever
for one of them. Only a release that nobody has come for yet goes on waiting.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from msgspec import structs

from fedmill_coordinator.store.records_releases import (
    BACK,
    LAST_WORDS,
    InstallRecord,
    ReleaseRecord,
)
from fedmill_shared.job import Rollout

FAILED = ("rejected", "rolled_back", "timed_out")
"""Last words that count against a release."""

REFUSED = ("rejected", "rolled_back")
"""Last words of agents that do not serve it, and will not."""


class Act(Enum):
    """What the roll-out should do now."""

    WAIT = auto()
    TIME_OUT = auto()
    ABORT = auto()
    SOAK = auto()
    OPEN_RING = auto()
    END = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything a decision depends on. Times are ns since 1970 by the coordinator's clock.

    Attributes:
        release: as it is stored.
        installs: how far the agents are that were asked.
        settings: of the job.
        now_ns: the time.
        heard_since_ns: since when agents could be heard; those that are late get a moment then.
        anybody: whether an agent is there.
        settled: whether agents have had the time to come back.
        reached: whether an agent with the release is in the ring that opened last.
        optional: whether that ring need not have one.
    """

    release: ReleaseRecord
    installs: Sequence[InstallRecord]
    settings: Rollout
    now_ns: int
    heard_since_ns: int = 0
    anybody: bool = True
    settled: bool = True
    reached: bool = True
    optional: bool = False


GRACE_SECONDS = 30.0
"""How long after a connection nobody times out: what agents did meanwhile has to be heard first."""


def decide(view: View) -> Act:
    """The one thing to do now."""
    if view.release.state in ("open", "done") and overdue(view):
        return Act.TIME_OUT
    if view.release.state != "open":
        return Act.WAIT
    return _under_way(view)


def _under_way(view: View) -> Act:
    release = view.release
    if failing(view, enough=view.settings.abort_after):
        return Act.ABORT
    if not release.opened:
        return Act.OPEN_RING if view.anybody and view.settled else Act.WAIT
    if any(install.state not in LAST_WORDS for install in view.installs) or _lacks_agents(view):
        return Act.WAIT
    if release.opened >= len(release.rings):  # too few for `abort_after` are all there are
        return Act.ABORT if failing(view, enough=1) or refused(view) else Act.END
    return _after_a_ring(view)


def overdue(view: View) -> list[InstallRecord]:
    """Agents that had all of their time, and have no last word."""
    timeout = round(view.settings.timeout_seconds * 1e9)
    grace = min(timeout, round(GRACE_SECONDS * 1e9))
    if view.now_ns - view.heard_since_ns < grace:
        return []
    return [
        install
        for install in view.installs
        if install.state not in LAST_WORDS
        and view.now_ns - max(install.asked_ns, view.release.resumed_ns) >= timeout
    ]


def timed_out(view: View) -> list[InstallRecord]:
    """Those whose time is over, with that as their last word."""
    seconds = f"{view.settings.timeout_seconds:g} s"
    return [
        structs.replace(
            install,
            state="timed_out",
            gate=install.gate or install.state,
            reason=f"no last word {seconds} after it was asked; it takes the release when it can",
            heard_ns=view.now_ns,
        )
        for install in overdue(view)
    ]


def abort_reason(installs: Iterable[InstallRecord]) -> str:
    """How many could not use it, and the first of them; there is one at least."""
    told = list(installs)
    failed = sorted((i for i in told if i.state in FAILED), key=lambda i: i.heard_ns)
    done = sum(install.state in LAST_WORDS for install in told)
    first = failed[0]
    why = ": ".join(part for part in (first.gate, first.reason) if part)
    return f"{len(failed)} of {done} agents could not use it; {first.agent}: {first.state}, {why}"


def failing(view: View, *, enough: int) -> bool:
    """Whether too many of the agents that are done, at least ``enough``, could not use it.

    A way back is never given up for some of them: there is nothing safer to go to.
    """
    if view.release.why in BACK:
        return False
    done = [install.state for install in view.installs if install.state in LAST_WORDS]
    failed = sum(state in FAILED for state in done)
    return len(done) >= enough and failed > view.settings.abort_share * len(done)


def refused(view: View) -> bool:
    """Whether nobody can ever serve it: all that were asked have said so themselves."""
    return bool(view.installs) and all(each.state in REFUSED for each in view.installs)


def _lacks_agents(view: View) -> bool:
    """Whether nobody has shown anything in the ring yet, and somebody still may."""
    if view.reached:
        return False
    waited = view.now_ns - view.release.ring_ns
    return not view.optional or waited < view.settings.timeout_seconds * 1e9


def _after_a_ring(view: View) -> Act:
    """All of the open ring are done, and there is another one."""
    soak = round(view.settings.soak_seconds * 1e9)
    until = view.release.soak_ns
    if soak and (until is None or until - view.now_ns > soak):  # or the clock was set back
        return Act.SOAK
    if until is not None and view.now_ns < until:
        return Act.WAIT
    return Act.OPEN_RING if view.settled and view.anybody else Act.WAIT
