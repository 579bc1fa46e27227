# SPDX-License-Identifier: Apache-2.0
"""What can be seen of a job when it is to be decided what it does next."""

from fedmill_coordinator.rounds.attendance import Attendance
from fedmill_coordinator.rounds.book import Rounds
from fedmill_coordinator.rounds.machine import View
from fedmill_coordinator.rounds.parts import Parts


def view_of(parts: Parts, spread_until: float) -> View:
    """The job now; agents may answer to its notice until ``spread_until``, monotonic s."""
    federation, rounds, agents = parts.job.federation, parts.rounds, parts.agents
    ready, asked = agents.ready(), asked_and_ready(agents, rounds)
    early = parts.stage.state in ("waiting", "statistics")
    return View(
        state=parts.stage.state,
        paused=parts.stage.paused,
        closing=rounds.hurried,
        minimum=federation.minimum,
        goal=federation.goal,
        done=len(agents.done - rounds.quarantined),
        expected=agents.missing(agents.present() if early else asked),
        ready=len(ready),
        spare=len(ready - asked),
        round_open=rounds.current is not None,
        rounds_left=rounds.left,
        now=parts.services.clock.monotonic(),
        earliest=rounds.limits.earliest,
        deadline=rounds.limits.deadline,
        quiet_since=max(parts.services.fleet.changed_at, spread_until),
    )


def asked_and_ready(agents: Attendance, rounds: Rounds) -> set[str]:
    """Agents that the open round asks and that could deliver; without one, all that could."""
    ready = agents.ready()
    return ready if rounds.cohort is None else ready.intersection(rounds.cohort)
