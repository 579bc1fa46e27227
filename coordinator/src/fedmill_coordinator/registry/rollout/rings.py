# SPDX-License-Identifier: Apache-2.0
"""Who is in a ring: the same agents every time, and others for another release."""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence

from fedmill_shared.job.rings import Canary, Share, ring_kind
from fedmill_shared.selector import Label, Selector, labels_of

Labels = Mapping[str, Label]


def rank(job: str, release: int, agent: str) -> str:
    """Where ``agent`` stands among all of them in a release: drawn, and always the same."""
    return hashlib.sha256(f"{job}\n{release}\n{agent}".encode()).hexdigest()


def joining(
    ring: str,
    there: Mapping[str, Labels],
    inside: Collection[str],
    *,
    release: tuple[str, int],
    last_canary: str = "",
) -> list[str]:
    """Agents that come with ``ring`` now, by name; none that are ``inside`` already.

    Args:
        ring: as the job file writes it.
        there: labels of the agents that can take a release now.
        inside: agents that have it, from this ring or from those before.
        release: name of the job and number of the release.
        last_canary: who was first the last time; another one is taken where there is one.

    Raises:
        JobError: it is no ring.
    """
    kind = ring_kind(ring)
    drawn = sorted(set(there).difference(inside), key=lambda agent: rank(*release, agent))
    if isinstance(kind, Canary):
        others = sorted(drawn, key=lambda agent: agent == last_canary)
        return [] if inside else others[:1]
    if isinstance(kind, Share):
        fleet = len({*there, *inside})
        wanted = math.ceil(round(kind.percent * fleet / 100, 6)) - len(inside)
        return sorted(drawn[: max(0, wanted)])
    return sorted(a for a in drawn if kind.matches(labels_of(a, there[a])))


def newcomers(
    rings: Sequence[str],
    there: Mapping[str, Labels],
    inside: Collection[str],
    *,
    release: tuple[str, int],
    last_canary: str = "",
) -> dict[str, int]:
    """Agents that come with any of ``rings``, which are open -> the number of the ring, from 1."""
    came: dict[str, int] = {}
    for number, ring in enumerate(rings, start=1):
        new = joining(ring, there, {*inside, *came}, release=release, last_canary=last_canary)
        came |= dict.fromkeys(new, number)
    return came


def reached(ring: str, inside: Mapping[str, Labels]) -> bool:
    """Whether one of the agents ``inside`` is in ``ring``, so that it has shown something."""
    kind = ring_kind(ring)
    if isinstance(kind, Selector):
        return any(kind.matches(labels_of(agent, labels)) for agent, labels in inside.items())
    return bool(inside)


def may_be_empty(ring: str) -> bool:
    """Whether there need not be an agent in ``ring`` at all."""
    return isinstance(ring_kind(ring), Selector)
