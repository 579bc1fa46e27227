# SPDX-License-Identifier: Apache-2.0
"""The life of a certificate: when it is renewed, when somebody should know, and what to say."""

from typing import Literal

from msgspec import Struct, structs

from fedmill_agent.identity.facts import Facts
from fedmill_shared.crypto.validity import CLOCK_REMEDY, moment
from fedmill_shared.messages import CertificateState

RENEWED_AT = 2 / 3
"""The share of its life at which a certificate is renewed, at the earliest."""
SPREAD = 1 / 20
"""Over which share of it agents that were enrolled together spread, so that they do not come as
one."""
WARNED_AT = 5 / 6

State = Literal["none", "unknown", "early", "valid", "ending", "expired"]
ENROL = "ask for an enrolment code and run `fedmill-agent enrol`"


class IdentityTold(Struct, frozen=True, kw_only=True):
    """Where the agent stands with its identity, for people; nothing of the key is in it.

    Attributes:
        state: "none" without a certificate, "unknown" where it cannot be read, "early" before its
            time, "ending" when it should have been renewed long ago.
        serial: the certificate's number; empty where there is none.
        not_after_ns: when it ends to hold, ns UTC.
        renewal_ns: when it is to be renewed, ns UTC; 0 where somebody else cares for that.
        problem: what is wrong.
        remedy: what to do about it.
    """

    state: State
    serial: str = ""
    not_after_ns: int = 0
    renewal_ns: int = 0
    problem: str = ""
    remedy: str = ""


def renewal_ns(facts: Facts) -> int:
    """When a certificate is to be renewed, ns UTC; always the same moment for the same one."""
    place = int(facts.fingerprint[:8], 16) / 2**32
    return facts.not_before_ns + round((RENEWED_AT + SPREAD * place) * facts.life_ns)


def standing(facts: Facts | None, now_ns: int, *, ours: bool = True) -> IdentityTold:
    """Where an agent with these ``facts`` stands; ``ours``: whether the agent itself renews."""
    if facts is None:
        return IdentityTold(state="none", problem="this agent has no certificate yet", remedy=ENROL)
    told = IdentityTold(
        state="valid",
        serial=facts.serial,
        not_after_ns=facts.not_after_ns,
        renewal_ns=renewal_ns(facts) if ours else 0,
    )
    if now_ns < facts.not_before_ns:
        return _with(
            told,
            "early",
            f"this machine's clock says {moment(now_ns)}, the certificate is valid from "
            f"{moment(facts.not_before_ns)}",
            CLOCK_REMEDY,
        )
    again = ENROL if ours else "have it renewed by whoever issued it"
    ends = moment(facts.not_after_ns)
    if now_ns > facts.not_after_ns:
        told_now = f"the certificate was valid until {ends}, and is not renewed over the network"
        return _with(
            told, "expired", told_now, f"{again}; if this machine's clock is wrong, set it"
        )
    if now_ns > facts.not_before_ns + round(WARNED_AT * facts.life_ns):
        reach = "look whether broker and coordinator can be reached; otherwise " if ours else ""
        told_now = f"the certificate ends on {ends}, and was not renewed yet"
        return _with(told, "ending", told_now, f"{reach}{again}")
    return told


def certificate_state(standing: IdentityTold) -> CertificateState:
    """What the coordinator is told of it."""
    return CertificateState(
        serial=standing.serial,
        not_after_ns=standing.not_after_ns,
        problem=standing.problem[:2000],
    )


def _with(told: IdentityTold, state: State, problem: str, remedy: str) -> IdentityTold:
    return structs.replace(told, state=state, problem=problem, remedy=remedy)
