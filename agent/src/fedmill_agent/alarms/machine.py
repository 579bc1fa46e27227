# SPDX-License-Identifier: Apache-2.0
"""One alarm of one machine: raised, cleared, and how often that is told.

Pure: the state after a window follows from the state before, the window and the time, so that a
restart in between makes no difference. Delays before an alarm comes and goes, a dead band between
both, and a limit to what people are told in an hour are what ANSI/ISA-18.2 and IEC 62682 advise
against alarms that chatter.

What people have heard follows what is: where the limit holds something back, the first moment that
allows it tells what is then the case. So the last word is always true, and nothing is told twice.
"""

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct, structs

from fedmill_agent.alarms.condition import Verdict
from fedmill_shared.job import Alarm

Telling = Literal["raised", "repeated", "cleared"]
HOUR_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Rules:
    """When it is raised and told.

    Attributes:
        windows: in a row that raise it, and that end it.
        repeat_ns: until one that goes on is told again; 0 for never.
        per_hour: how often it is told in an hour at most; 0 for no limit.
    """

    windows: int
    repeat_ns: int
    per_hour: int

    @classmethod
    def of(cls, alarm: Alarm) -> "Rules":
        """Those of the job."""
        return cls(alarm.windows, round(alarm.repeat_seconds * 1e9), alarm.per_hour)


class Standing(Struct, frozen=True, omit_defaults=True):
    """Where an alarm stands; the default is that of a machine that was never heard of.

    Attributes:
        on: windows in a row that would raise it, as far as it matters.
        off: windows in a row that would end it.
        raised: whether it is raised.
        since_ns: source time at which the row began that raised it, or may raise it.
        heard: whether people were told last that it is raised.
        told: when they were told something, in the last hour, by the agent's clock.
        last_ns: when they were told last that it is raised, or would have been but for the limit.
        suppressed: how often it was raised or to be repeated since then, and they were not told.
    """

    on: int = 0
    off: int = 0
    raised: bool = False
    since_ns: int = 0
    heard: bool = False
    told: tuple[int, ...] = ()
    last_ns: int = 0
    suppressed: int = 0


IDLE = Standing()


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be told now, and how much was not told before it."""

    telling: Telling
    suppressed: int


def step(
    before: Standing, verdict: Verdict, start_ns: int, now_ns: int, rules: Rules
) -> tuple[Standing, Turn | None]:
    """The standing after a window that began at ``start_ns``, and what to tell at ``now_ns``.

    Windows that were not scored are no windows: they neither go on with a row nor break it.
    """
    state = _aged(before, now_ns)
    if verdict != Verdict.ON:
        off = state.off + 1 if state.raised and verdict == Verdict.OFF else 0
        state = structs.replace(state, on=0, off=off)
        if off >= rules.windows:
            unheard = state.suppressed + (not state.heard)
            state = structs.replace(state, raised=False, off=0, suppressed=unheard)
        return _told(state, now_ns, rules)
    since_ns = state.since_ns if state.on or state.raised else start_ns
    on = min(state.on + 1, rules.windows)
    state = structs.replace(state, on=on, off=0, since_ns=since_ns)
    if not state.raised and on >= rules.windows:
        state = structs.replace(state, raised=True, suppressed=state.suppressed + state.heard)
    elif state.heard and state.raised and 0 < rules.repeat_ns <= now_ns - state.last_ns:
        if _may(state, rules):
            return _tell(state, "repeated", now_ns, rules)
        state = structs.replace(state, last_ns=now_ns, suppressed=state.suppressed + 1)
    return _told(state, now_ns, rules)


def wait(before: Standing, now_ns: int, rules: Rules) -> tuple[Standing, Turn | None]:
    """The standing at ``now_ns`` without a new window: what was held back may be told by now."""
    return _told(_aged(before, now_ns), now_ns, rules)


def _aged(state: Standing, now_ns: int) -> Standing:
    """Without what was told more than an hour ago; a clock that was set back changes no order."""
    if not state.told and state.last_ns <= now_ns:
        return state
    told = tuple(min(each, now_ns) for each in state.told if now_ns - each < HOUR_NS)
    return structs.replace(state, told=told, last_ns=min(state.last_ns, now_ns))


def _may(state: Standing, rules: Rules) -> bool:
    return not rules.per_hour or len(state.told) < rules.per_hour


def _told(state: Standing, now_ns: int, rules: Rules) -> tuple[Standing, Turn | None]:
    """Let people hear what is the case, if they do not know and the limit allows it."""
    if state.raised != state.heard and _may(state, rules):
        return _tell(state, "raised" if state.raised else "cleared", now_ns, rules)
    return _at_rest(state), None


def _tell(
    state: Standing, telling: Telling, now_ns: int, rules: Rules
) -> tuple[Standing, Turn | None]:
    heard = telling != "cleared"
    told = (*state.told, now_ns) if rules.per_hour else ()
    last_ns = now_ns if heard else state.last_ns
    after = structs.replace(state, heard=heard, told=told, last_ns=last_ns, suppressed=0)
    return _at_rest(after), Turn(telling, state.suppressed)


def _at_rest(state: Standing) -> Standing:
    """Without times that no longer matter, so that a machine at rest is as one never heard of."""
    if state.raised or state.heard or state.on or not (state.since_ns or state.last_ns):
        return state
    return structs.replace(state, since_ns=0, last_ns=0)
