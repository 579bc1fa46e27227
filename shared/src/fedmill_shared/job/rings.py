# SPDX-License-Identifier: Apache-2.0
"""The rings of a roll-out: how one is written, and what a list of them must not say."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedmill_shared.errors import JobError
from fedmill_shared.job import Job
from fedmill_shared.selector import Selector, parse
from fedmill_shared.toml.faults import Fault, name_of, value_fault
from fedmill_shared.toml.lines import Field

CANARY, FLEET = "canary", "fleet"
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


@dataclass(frozen=True, slots=True)
class Share:
    """So many of the fleet, in per cent; more than 0, at most 100."""

    percent: float


@dataclass(frozen=True, slots=True)
class Canary:
    """One agent."""


RingKind = Canary | Share | Selector


def ring_kind(text: str) -> RingKind:
    """What the ring ``text`` says; ``"fleet"`` is the share of 100 %.

    Raises:
        JobError: it is neither of the words, nor a share, nor a selector.
    """
    if text == CANARY:
        return Canary()
    if text == FLEET:
        return Share(100.0)
    share = _SHARE.fullmatch(text)
    if share is not None and 0 < float(share[1]) <= 100:
        return Share(float(share[1]))
    if text.rstrip().endswith("%"):
        raise JobError("a share is more than 0 and at most 100 %", remedy='write it as in "10 %"')
    selector = parse(text)
    if not selector.names:
        raise JobError(
            "it asks for no label",
            remedy='write "canary", "10 %", "fleet", or a selector such as line == "A"',
        )
    return selector


def rollout_faults(job: Job) -> Iterator[Fault]:
    """What keeps the releases of ``job`` from going from ring to ring."""
    rollout = job.rollout
    kinds: list[RingKind | None] = []
    for index, text in enumerate(rollout.rings):
        field = ("rollout", "rings", index)
        try:
            kinds.append(ring_kind(text))
        except JobError as error:
            kinds.append(None)
            yield Fault(field, f"{name_of(field)} is {text!r}: {error.message}", error.remedy)
    yield from _order_faults(rollout.rings, kinds)
    if rollout.release == "each" and rollout.rings != [FLEET]:
        yield value_fault(
            ("rollout", "rings"),
            rollout.rings,
            'release = "each" goes to every agent at once',
            'write release = "better", "last" or "manual" below [rollout], or remove the rings',
        )
    yield from _rest_faults(job)


def _order_faults(rings: list[str], kinds: list[RingKind | None]) -> Iterator[Fault]:
    """Each ring must reach agents that those before it did not, and the last one all of them."""
    so_far = 0.0
    for index, (text, kind) in enumerate(zip(rings, kinds, strict=True)):
        field: Field = ("rollout", "rings", index)
        if so_far >= 100:
            yield value_fault(
                field, text, "the ring before it is the whole fleet", "remove it, or move it before"
            )
        elif text in rings[:index]:
            yield value_fault(field, text, "the ring is listed twice", "remove one of them")
        elif isinstance(kind, Canary) and index:
            yield value_fault(
                field, text, "one agent says nothing after others", "let it be the first ring"
            )
        elif isinstance(kind, Share):
            if kind.percent <= so_far:
                problem = f"a ring before it is {so_far:g} % already"
                yield value_fault(field, text, problem, "let the shares go up")
            so_far = max(so_far, kind.percent)
    if None not in kinds and so_far < 100:
        yield value_fault(
            ("rollout", "rings", len(rings) - 1),
            rings[-1],
            "the rest of the fleet would never get a release",
            'let "fleet" be the last ring; federation.select says whom the job is for',
        )


def _rest_faults(job: Job) -> Iterator[Fault]:
    rollout = job.rollout
    if rollout.soak_seconds and len(rollout.rings) == 1:
        yield value_fault(
            ("rollout", "soak_seconds"),
            rollout.soak_seconds,
            "there is one ring, and so nothing between two",
            'write rings = ["canary", "fleet"], or remove it',
        )
    if rollout.release == "better" and not job.evaluation.test:
        yield value_fault(
            ("rollout", "release"),
            rollout.release,
            "evaluation.test = 0 leaves no windows to compare versions on",
            'hold some out, or write release = "last" or "manual"',
        )
