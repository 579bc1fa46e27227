# SPDX-License-Identifier: Apache-2.0
"""Who is there: what agents last said, and who can be counted on for a job."""

from collections import deque
from collections.abc import Iterable

from msgspec import json, structs

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import AgentRecord
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ProtocolError
from fedmill_shared.messages import AgentState, InstallReport, LabelValue
from fedmill_shared.protocol import common

SETTLE_SECONDS = 2.0
"""How long no agent must have come or gone before the agents online count as the whole fleet."""
PROBLEMS = ("rights", "trust", "safe_mode", "certificate")
"""What can be wrong with an agent as a whole: what the broker lets it do, what is signed, that it
does nothing but say so, and its certificate."""
FLAPS = 4
FLAPPING_SECONDS = 60.0
"""An agent that came and went ``FLAPS`` times within it keeps nobody waiting any more."""


class Fleet:
    """Keeps the agents' states in memory for decisions and in the store for people.

    Attributes:
        changed_at: when the last agent came or went, or the connection was made, monotonic s.
        crowd: how many agents are to be expected back after an interruption.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        """Start with nobody online; states are retained on the broker and come at once."""
        self._store = store
        self._clock = clock
        self._states: dict[str, AgentState] = {}
        self._turns: dict[str, deque[float]] = {}
        self.changed_at = clock.monotonic()
        self.crowd = sum(record.online for record in store.agents())

    def hear(self, agent: str, state: AgentState, *, retained: bool = False) -> bool:
        """Take in a state; True if the agent came or went.

        One that the broker ``retained`` may be old, and says nothing of the agent's clock.
        """
        before = self._states.get(agent)
        self._states[agent] = state
        turned = before is None or before.online != state.online
        if turned and not self._flaps(agent):
            self.changed_at = self._clock.monotonic()
        known = None if state.online or state.jobs else self._store.agent(agent)
        if known is None:
            self._store.save_agent(self._record(agent, state, retained=retained))
        else:  # the broker's will says nothing else, now or as what it kept for our start
            gone = structs.replace(known, online=False, clock_skew_ms=None)
            self._store.save_agent(gone)
        return turned

    def unsettle(self) -> None:
        """The connection is new: agents need a moment before they can be missed.

        What was heard on the one before no longer counts: an agent that died with the broker would
        be online for ever. The broker tells the states that it has kept, and the agents theirs.
        """
        self.crowd = max(self.crowd, len(self.online()))
        self._states.clear()
        self.changed_at = self._clock.monotonic()

    def online(self) -> set[str]:
        """Agents that are connected and speak our protocol."""
        return {
            agent
            for agent, state in self._states.items()
            if state.online and not _fault(agent, state)
        }

    def connected(self) -> set[str]:
        """Agents that are connected, whatever they speak: the broker sends them what all get."""
        return {agent for agent, state in self._states.items() if state.online}

    def away(self) -> set[str]:
        """Agents that were there and are gone: the broker keeps for them what all get."""
        return {agent for agent, state in self._states.items() if not state.online}

    def jobs_of(self, agent: str) -> set[str]:
        """Jobs that ``agent`` last said to know."""
        state = self._states.get(agent)
        return set(state.jobs) if state is not None else set()

    def on_job(self, job: str) -> set[str]:
        """Online agents that know of ``job`` and have not refused it."""
        return {
            agent
            for agent in self.online()
            if (phase := self._states[agent].jobs.get(job)) is not None and phase.phase != "refused"
        }

    def eligible(self, job: str) -> set[str]:
        """Agents of ``on_job`` that could train now."""
        return {agent for agent in self.on_job(job) if not self._states[agent].jobs[job].ineligible}

    def installs(self, job: str) -> dict[str, InstallReport]:
        """What agents last said of the version of ``job`` that they were to serve."""
        phases = {agent: state.jobs.get(job) for agent, state in self._states.items()}
        return {
            agent: phase.install
            for agent, phase in phases.items()
            if phase is not None and phase.install is not None
        }

    def labels(self, agents: Iterable[str]) -> dict[str, dict[str, LabelValue]]:
        """What each of ``agents`` is called by; nothing of those that were not heard."""
        known = ((agent, self._states.get(agent)) for agent in agents)
        return {agent: state.labels if state is not None else {} for agent, state in known}

    def _flaps(self, agent: str) -> bool:
        now = self._clock.monotonic()
        turns = self._turns.setdefault(agent, deque(maxlen=FLAPS))
        turns.append(now)
        return len(turns) == FLAPS and now - turns[0] < FLAPPING_SECONDS

    def _record(self, agent: str, state: AgentState, *, retained: bool) -> AgentRecord:
        now = self._clock.now_ns()
        known = self._store.agent(agent) if retained else None
        phases = state.jobs.values()
        return AgentRecord(
            agent=agent,
            online=state.online,
            last_seen_ns=known.last_seen_ns if known is not None else now,
            software=state.software,
            jobs=json.encode(state.jobs).decode(),
            model_version=next((phase.version for phase in phases if phase.version), None),
            resident_bytes=max(0, state.resident_bytes),
            windows_scored=max(0, sum(phase.windows_scored for phase in phases)),
            clock_skew_ms=(state.sent_ns - now) / 1e6 if state.sent_ns and not retained else None,
            labels=json.encode(state.labels).decode(),
            disk_free_bytes=state.disk_free_bytes,
            problems=json.encode(_problems(state)).decode(),
            detail=_fault(agent, state) or _detail(state),
        )


def _fault(agent: str, state: AgentState) -> str:
    """Why we cannot work with ``agent`` at all."""
    try:
        common(state.protocol, state.newest, who=f"agent {agent}")
    except ProtocolError as error:
        return str(error)
    return ""


def _problems(state: AgentState) -> dict[str, str]:
    """What is wrong with the agent as a whole, by kind."""
    certificate = state.certificate.problem if state.certificate is not None else ""
    told = {
        "rights": state.rights,
        "trust": state.trust,
        "safe_mode": state.safe_mode,
        "certificate": certificate,
    }
    return {kind: told[kind] for kind in PROBLEMS if told[kind]}


def _detail(state: AgentState) -> str:
    """Why the agent does not train, job by job."""
    reasons = {job: phase.ineligible for job, phase in state.jobs.items() if phase.ineligible}
    return "; ".join(f"{job}: {reason}" for job, reason in sorted(reasons.items()))
