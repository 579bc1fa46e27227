# SPDX-License-Identifier: Apache-2.0
"""A round's updates become one step of the model, in stages that each have a file.

Check the updates; say what each weighs (``shares``) and how far its training went (``fednova``);
shorten what is too long (``clipping``); combine them by the mean or a robust rule (``combining``),
in one pass over the updates (``summing``, ``columns``); let the optimiser step (``optimisers``).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmill_coordinator.aggregation.base import (
    Outcome,
    Report,
    State,
    Update,
    Vector,
    check_updates,
)
from fedmill_coordinator.aggregation.clipping import Clip, clip
from fedmill_coordinator.aggregation.combining import Material, combine
from fedmill_coordinator.aggregation.fednova import stretches
from fedmill_coordinator.aggregation.norms import norm
from fedmill_coordinator.aggregation.optimisers import OPTIMISERS
from fedmill_coordinator.aggregation.robust.agreement import Directions, agreement
from fedmill_coordinator.aggregation.robust.base import Judgement, Verdict
from fedmill_coordinator.aggregation.robust.verdicts import verdicts
from fedmill_coordinator.aggregation.shares import shares_of, staleness_weight
from fedmill_shared.codec.base import Dense, Payload
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Federation, Robustness

Numbers = NDArray[np.float64]


def aggregate(
    state: State,
    updates: Sequence[Update],
    federation: Federation,
    robustness: Robustness,
    *,
    seed: int,
    golden: Payload | None = None,
    quarantined: Collection[str] = (),
    rate: float = 1.0,
    workers: int = 1,
) -> Outcome:
    """One step of the model from the ``updates`` of a round, which come as ``in_order`` puts them.

    Pure, and the same bits for any number of ``workers``: threads, which pay where opening is most
    of the work. ``state`` is ``State(elements)`` before the first round. ``seed`` deals the
    buckets. ``golden`` is the coordinator's own update (elements,), for the rule ``trust``. The
    updates of ``quarantined`` agents are judged and count for nothing. ``rate`` is the agents'
    learning rate over that of the first round: lengths of rounds are compared per learning rate.

    Raises:
        ModelError: no update counts; one is a duplicate, out of order or of another length, or has
            a number that cannot be; the state is of another rule or model; ``trust`` has no golden
            update; or the result overflows float32.
    """
    check_updates(updates)
    shares = shares_of(updates, excluded=quarantined, most=robustness.claim)
    stretch = _stretch(updates, shares, federation)
    norms = stretch * [each.norm for each in updates]
    clipped = clip(norms / rate, shares > 0, state.norms, robustness.clip, peak=state.peak)
    late = [staleness_weight(u.staleness, federation.staleness_exponent) for u in updates]
    reference = _reference(state, golden, robustness)
    updates, directions = _watched(updates, state.elements, robustness)
    material = Material(updates, shares, stretch * clipped.factors, np.array(late), reference)
    mean, judged = combine(state.elements, material, robustness, seed=seed, workers=workers)
    delta, stepped = OPTIMISERS[federation.rule](state, mean, federation)
    found = _verdicts(material, norms, clipped, judged, directions)
    report = structs.replace(_report(updates, norms, clipped, delta, rate), verdicts=found)
    return Outcome(delta, _next(stepped, mean, clipped, robustness), report)


def _watched(
    updates: Sequence[Update], elements: int, robustness: Robustness
) -> tuple[Sequence[Update], Directions | None]:
    """The updates, and their directions, taken as they are opened, if anybody asks for them."""
    if not robustness.quarantine_rounds:
        return updates, None
    directions = Directions([each.open for each in updates], elements)
    pairs = zip(updates, directions.openers, strict=True)
    return [replace(each, open=opener) for each, opener in pairs], directions


def _verdicts(
    material: Material,
    norms: Numbers,
    clipped: Clip,
    judged: Judgement | None,
    directions: Directions | None,
) -> dict[str, Verdict]:
    agents, agreed = [each.agent for each in material.updates], None
    if directions is not None:
        # Of an agent that has several, the newest is what others are compared with.
        newest = [a != b for a, b in zip(agents, [*agents[1:], None], strict=True)]
        agreed = agreement(directions.rows(), np.array(newest) & (material.shares > 0))
    return verdicts(agents, norms, clipped.factors, material.votes, judged, agreements=agreed)


def _report(
    updates: Sequence[Update], norms: Numbers, clipped: Clip, delta: Vector, rate: float
) -> Report:
    """All that is to be reported but for the verdicts."""
    agents = [each.agent for each in updates]
    return Report(
        agents=len(updates),
        examples=sum(each.examples for each in updates),
        norms=dict(zip(agents, norms.tolist(), strict=True)),
        norm=norm(delta),
        stale=sum(each.staleness > 0 for each in updates),
        bound=clipped.bound * rate,
        clipped=sorted({agents[number] for number in np.flatnonzero(clipped.factors < 1)}),
    )


def _stretch(updates: Sequence[Update], shares: Numbers, federation: Federation) -> Numbers:
    if federation.rule != "fednova":
        return np.ones_like(shares)
    return stretches(np.array([each.steps for each in updates]), shares)


def _reference(state: State, golden: Payload | None, robustness: Robustness) -> Payload | None:
    """The vector (elements,) beside the updates that the robust rule goes by, if there is one."""
    if robustness.rule == "trust":
        return golden
    if robustness.rule != "centred_clipping" or not state.centre:
        return None
    if len(state.centre) != 4 * state.elements:
        raise ModelError(
            f"aggregation: {len(state.centre)} bytes of the round before do not fit a model of "
            f"{state.elements} elements",
            remedy="start the job anew: its model was changed",
        )
    return Dense(np.frombuffer(state.centre, "<f4"))


def _next(stepped: State, mean: Vector, clipped: Clip, robustness: Robustness) -> State:
    centre = b""
    if robustness.rule == "centred_clipping":
        centre = mean.astype("<f4", copy=False).tobytes()
    return structs.replace(
        stepped,
        steps=stepped.steps + 1,
        norms=clipped.remembered,
        centre=centre,
        peak=clipped.peak,
    )
