# SPDX-License-Identifier: Apache-2.0
"""What agents are to serve beside what they say they do: for listings and the live view."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import json

from fedmill_coordinator.cli.listing import when
from fedmill_coordinator.cli.presence import presence
from fedmill_coordinator.cli.table import Column, Row, digest, number, value
from fedmill_coordinator.registry.rollout.progress import FAILED
from fedmill_coordinator.registry.rollout.served import came_later, standing
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_releases import LAST_WORDS, InstallRecord, ReleaseRecord
from fedmill_coordinator.store.rules_releases import GIVEN_UP
from fedmill_shared.errors import UsageError
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.messages import InstallReport, JobPhase

IN_WORDS = {"aborted": "back after an abort"}
"""Why a release began, where the word alone would be taken for its state."""


def chosen_release(store: Store, job: str, wanted: int | None) -> ReleaseRecord | None:
    """Release ``wanted`` of ``job``, or its newest; None before the first.

    Raises:
        UsageError: there is no such release.
    """
    if wanted is None:
        return next(iter(store.releases(job, last=1)), None)
    found = store.release(job, wanted)
    if found is None:
        last = next(iter(store.releases(job, last=1)), None)
        raise UsageError(
            f"--release is {wanted}: job {job} has no such release",
            remedy=f"the newest is {last.release}" if last else "it has none yet",
        )
    return found


def agent_rows(store: Store, job: str, release: ReleaseRecord | None) -> list[Row]:
    """A row for each agent of ``job``: what it is to serve, what it does, and how far it is.

    How far it is with ``release``; what it is to serve, the newest release says.
    """
    numbers = {version.version: version.number for version in store.versions(job)}
    newest = chosen_release(store, job, None)
    installs, asked = _installs(store, release), _installs(store, newest)
    members, wished = _members(store, job), _wished(store, job, newest)
    rows: list[Row] = []
    for agent in sorted({*installs, *members}):
        install = installs.get(agent)
        there, report = members.get(agent, ("unknown", None))
        if release is None and report is None:
            continue  # nothing is said of it, and nothing by it
        desired = wished.version if agent in asked or wished.everybody else wished.otherwise
        serving = report.serving if report is not None else ""
        rows.append(
            {
                "agent": agent,
                "there": there,
                "release": release.release if release is not None else None,
                "ring": install.ring if install is not None else None,
                "desired": desired,
                "desired_number": numbers.get(desired),
                "serving": serving,
                "serving_number": numbers.get(serving),
                **_word(install, report, asked=release is not None),
            }
        )
    return rows


@dataclass(frozen=True, slots=True)
class _Wished:
    """What agents are to serve: ``version`` those that were asked, or everybody, else another.

    Empty where nobody has decided that.
    """

    version: str
    otherwise: str
    everybody: bool = False


def _wished(store: Store, job: str, release: ReleaseRecord | None) -> _Wished:
    """What agents of ``job``, whose newest ``release`` this is, are to serve."""
    each, candidate = _each(store, job), store.alias(job, "candidate")
    newest = store.version(job, candidate.version) if candidate is not None else None
    stable = store.alias(job, "stable")
    otherwise = standing(release, newest, stable.version if stable is not None else None, each=each)
    outlived = each and came_later(newest, release)
    if release is None or outlived or release.state in GIVEN_UP:
        return _Wished(otherwise or "", otherwise or "")
    return _Wished(release.version, otherwise or "", everybody=release.state == "done")


def _installs(store: Store, release: ReleaseRecord | None) -> dict[str, InstallRecord]:
    """How far agents are with ``release``, by name."""
    told = store.installs(release.job, release.release) if release is not None else []
    return {each.agent: each for each in told}


def release_row(store: Store, release: ReleaseRecord) -> Row:
    """One release for people and programs: its rings, and how many agents said what."""
    version = store.version(release.job, release.version)
    words = [each.state for each in store.installs(release.job, release.release)]
    return {
        "release": release.release,
        "version": release.version,
        "number": version.number if version is not None else None,
        "state": release.state,
        "why": release.why,
        "by": release.by,
        "rings": release.rings,
        "opened": release.opened,
        "soaks_until": when(release.soak_ns),
        "begun": when(release.created_ns),
        "ended": when(release.ended_ns),
        "asked": len(words),
        "committed": words.count("committed"),
        "failed": sum(word in FAILED for word in words),
        "waiting": sum(word not in LAST_WORDS for word in words),
        "reason": release.reason or _way_back(store, release),
    }


def _way_back(store: Store, release: ReleaseRecord) -> str:
    """What the release before came to, where this one is the way back from it."""
    if release.why != "aborted":
        return ""
    earlier = (each for each in store.releases(release.job) if each.release < release.release)
    aborted = [each for each in earlier if each.state == "aborted"]
    return f"release {aborted[-1].release} was aborted: {aborted[-1].reason}" if aborted else ""


def headline(release: Row) -> str:
    """A release in one line."""
    rings = [str(ring) for ring in _rings(release)]
    opened = int(str(release["opened"]))
    parts = [f"[{ring}]" if place == opened else ring for place, ring in enumerate(rings, start=1)]
    why = IN_WORDS.get(str(release["why"]), release["why"])
    by = f", {why}" + (f" by {release['by']}" if release["by"] else "")
    told = f"release {release['release']} of version {release['number']}: {release['state']}{by}"
    return f"{told}; {' -> '.join(parts)}"


def install_columns() -> list[Column]:
    """The columns of ``agent_rows``."""
    return [
        Column("agent", value("agent")),
        Column("there", value("there"), spare=2),
        Column("ring", value("ring"), right=True, spare=2),
        Column("desired", _desired, right=True),
        Column("serves", _serving, right=True),
        Column("state", value("state")),
        Column("since (UTC)", value("since"), spare=3),
        Column("gate", value("gate")),
        Column("reason", value("reason"), wraps=True),
        Column("evidence", _evidence, wraps=True, spare=1),
    ]


def _each(store: Store, job: str) -> bool:
    """Whether agents of ``job`` serve each version as it comes."""
    record = store.job(job)
    return record is not None and job_from_canonical(record.text.encode()).rollout.release == "each"


def _word(install: InstallRecord | None, report: InstallReport | None, *, asked: bool) -> Row:
    """How far an agent is with the release; of one that was not asked, with what it serves.

    ``asked``: there is a release, and it may not be for this agent.
    """
    if install is not None:
        return {
            "state": install.state,
            "gate": install.gate,
            "reason": install.reason,
            "evidence": json.decode(install.evidence),
            "since": when(install.heard_ns),
        }
    return {
        "state": "not asked" if asked or report is None else report.state,
        "gate": report.gate if report is not None else "",
        "reason": report.reason if report is not None else "",
        "evidence": report.evidence if report is not None else {},
        "since": "",
    }


def _members(store: Store, job: str) -> dict[str, tuple[str, InstallReport | None]]:
    """Agents that know of ``job`` and do not refuse it: whether they are there, what they said."""
    found: dict[str, tuple[str, InstallReport | None]] = {}
    for record in store.agents():
        phase = json.decode(record.jobs.encode(), type=dict[str, JobPhase]).get(job)
        if phase is not None and phase.phase != "refused":
            found[record.agent] = presence(record), phase.install
    return found


def _rings(release: Row) -> Sequence[object]:
    rings = release["rings"]
    return rings if isinstance(rings, list) else []


def _desired(row: Row) -> str:
    return value("desired_number")(row) or digest(row["desired"])


def _serving(row: Row) -> str:
    """An agent's own parts may be in what it serves: then no version has that name."""
    return value("serving_number")(row) or digest(row["serving"])


def _evidence(row: Row) -> str:
    told = row["evidence"]
    if not isinstance(told, dict):
        return ""
    return ", ".join(f"{name} {number(amount)}" for name, amount in sorted(told.items()))
