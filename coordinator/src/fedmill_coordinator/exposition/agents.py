# SPDX-License-Identifier: Apache-2.0
"""Metrics of agents: who is there, what they score, and where each stands in its jobs."""

from collections.abc import Iterator

from msgspec import json

from fedmill_coordinator.exposition.metric import Known, Sample, metric, one_of
from fedmill_coordinator.fleet import PROBLEMS
from fedmill_coordinator.store.records import AgentRecord
from fedmill_shared.messages import UNREADABLE, InstallState, JobPhase

DRIFT = {"quiet": 0, "warned": 1, "alarmed": 2}
SPLITS = ("train", "validation", "test")
LONGEST_SOFTWARE = 64
"""Agents say what they like: of their words only these, and names of jobs that there are, become
labels."""

AGENTS = metric("agents", "Agents that were ever heard of, by whether they are connected.", "state")
ONLINE = metric("agent_online", "Whether the agent is connected.", "agent")
INFO = metric(
    "agent_info", "1 for the version of the software that the agent runs.", "agent", "software"
)
SEEN = metric("agent_last_seen_timestamp_seconds", "When the agent was last heard of.", "agent")
RESIDENT = metric("agent_resident_bytes", "Memory of the agent's daemon (RSS).", "agent")
DISK = metric(
    "agent_disk_free_bytes",
    "What the disk of the agent's state folder may still take.",
    "agent",
)
SKEW = metric("agent_clock_skew_seconds", "Clock of the agent minus the coordinator's.", "agent")
PROBLEM = metric(
    "agent_problem",
    "Whether something is wrong with the agent as a whole, by what.",
    "agent",
    "kind",
)
WINDOWS = metric(
    "agent_windows", "Windows in the agent's store, by what they are for.", "agent", "job", "split"
)
SCORED = metric(
    "agent_predictions_total", "Windows scored since the agent's start.", "agent", "job"
)
BAD = metric(
    "agent_windows_bad_total",
    "Windows that were bad, since the agent's start.",
    "agent",
    "job",
)
SKIPPED = metric(
    "agent_windows_skipped_total",
    "Windows whose turn came too late, since the agent's start.",
    "agent",
    "job",
)
ALARMS = metric("agent_alarms_raised", "Alarms that stand, one for each machine.", "agent", "job")
DRIFTING = metric(
    "agent_drift_level", "0 where nothing drifts, 1 at a warning, 2 at an alarm.", "agent", "job"
)
WAITING = metric(
    "agent_updates_waiting",
    "Updates in the agent's outbox whose fate is not known.",
    "agent",
    "job",
)
HELD = metric(
    "agent_training_held",
    "Whether the agent could not train when it was last heard of.",
    "agent",
    "job",
)
INSTALL = metric(
    "agent_install_state",
    "1 for how far the agent is with the version that it is to serve.",
    "agent",
    "job",
    "state",
)
REJECTED = metric(
    "agent_install_failed",
    "Whether the agent refused, or went back from, the version that it is to serve.",
    "agent",
    "job",
)

METRICS = (
    *(
        AGENTS,
        ONLINE,
        INFO,
        SEEN,
        RESIDENT,
        DISK,
        SKEW,
        PROBLEM,
        WINDOWS,
        SCORED,
        BAD,
        SKIPPED,
        ALARMS,
    ),
    *(DRIFTING, WAITING, HELD, INSTALL, REJECTED),
)


def read(known: Known) -> Iterator[Sample]:
    """Values of all metrics of agents.

    Raises:
        StoreError: the database cannot be read.
    """
    online, jobs = sum(agent.online for agent in known.agents), {job.name for job in known.jobs}
    yield AGENTS, ("online",), online
    yield AGENTS, ("offline",), len(known.agents) - online
    for agent in known.agents:
        yield from _of_agent(agent)
        phases = _phases(agent)
        for job in sorted(jobs & phases.keys()):
            yield from _of_job((agent.agent, job), phases[job])


def _of_agent(agent: AgentRecord) -> Iterator[Sample]:
    name = (agent.agent,)
    yield ONLINE, name, agent.online
    yield INFO, (agent.agent, agent.software[:LONGEST_SOFTWARE]), 1
    wrong = _problems(agent)
    for kind in PROBLEMS:
        yield PROBLEM, (agent.agent, kind), kind in wrong
    yield SEEN, name, agent.last_seen_ns / 1e9
    yield RESIDENT, name, agent.resident_bytes
    if agent.disk_free_bytes:
        yield DISK, name, agent.disk_free_bytes
    if agent.clock_skew_ms is not None:
        yield SKEW, name, agent.clock_skew_ms / 1e3


def _of_job(names: tuple[str, str], phase: JobPhase) -> Iterator[Sample]:
    for split in SPLITS:
        if split in phase.windows:
            yield WINDOWS, (*names, split), phase.windows[split]
    yield SCORED, names, phase.windows_scored
    yield BAD, names, phase.windows_bad
    yield SKIPPED, names, phase.windows_skipped
    yield ALARMS, names, phase.alarms_raised
    if phase.drift in DRIFT:
        yield DRIFTING, names, DRIFT[phase.drift]
    yield WAITING, names, phase.updates_waiting
    yield HELD, names, bool(phase.ineligible)
    if phase.install is not None:
        yield from one_of(INSTALL, names, InstallState, phase.install.state)
        failed = phase.install.state in (InstallState.REJECTED, InstallState.ROLLED_BACK)
        yield REJECTED, names, failed


def _problems(agent: AgentRecord) -> dict[str, str]:
    """What is wrong with the agent as a whole, by kind."""
    try:
        return json.decode(agent.problems, type=dict[str, str])
    except UNREADABLE:
        return {}


def _phases(agent: AgentRecord) -> dict[str, JobPhase]:
    """Where the agent stands in each job; nowhere if what it said is of another software."""
    try:
        return json.decode(agent.jobs, type=dict[str, JobPhase])
    except UNREADABLE:
        return {}
