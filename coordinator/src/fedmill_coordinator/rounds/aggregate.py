# SPDX-License-Identifier: Apache-2.0
"""What the rules of a job make of the updates of a round, read one by one from their blobs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import msgpack
from numpy.typing import NDArray

from fedmill_coordinator.aggregation import Report, State, Update, in_order, norm_of
from fedmill_coordinator.aggregation import aggregate as combine
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_shared.codec.base import Dense, Payload
from fedmill_shared.codec.frame import open_frame
from fedmill_shared.errors import FedmillError, FrameError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.learning.optimisers import learning_rate
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.seeds import seed_for


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The outcome of a rule: delta (learned,), its next state as MessagePack, and its report."""

    delta: NDArray[np.float32]
    rule_state: bytes
    report: Report


class SpoiltUpdateError(StoreError):
    """An update that was received cannot be read any more."""

    def __init__(self, update: UpdateRecord, error: FedmillError) -> None:
        """``error`` is what reading ``update`` said."""
        super().__init__(error.message, remedy=error.remedy)
        self.update = update


def aggregate(
    job: Job,
    rule_state: bytes,
    used: Sequence[UpdateRecord],
    blobs: Blobs,
    *,
    elements: int,
    round_: int,
    golden: NDArray[np.float32] | None = None,
    quarantined: Collection[str] = (),
) -> Aggregate:
    """Combine ``used`` in ``round_`` by the job's rules; ``rule_state`` is empty before the first.

    Args:
        job: names the rules.
        rule_state: what they remember, as MessagePack.
        used: the updates.
        blobs: where their frames are.
        elements: elements of a delta.
        round_: number of the round.
        golden: the coordinator's own update (elements,), for the rule ``trust``.
        quarantined: agents whose updates are looked at and count for nothing.

    Raises:
        ModelError: there is nothing to combine, or the result is no model.
        SpoiltUpdateError: the blob of an update cannot be read.
    """
    state = msgpack.decode(rule_state, type=State) if rule_state else State(elements)
    outcome = combine(
        state,
        in_order(_handed_in(update, blobs, elements, round_) for update in used),
        job.federation,
        job.robustness,
        seed=seed_for(job.name, round_, "aggregation"),
        golden=Dense(golden) if golden is not None else None,
        quarantined=quarantined,
        rate=rate_of(job, round_),
    )
    return Aggregate(outcome.delta, msgpack.encode(outcome.state), outcome.report)


def rate_of(job: Job, round_: int) -> float:
    """The agents' learning rate in ``round_`` over that of the first one; never 0."""
    rate = learning_rate(job.learning, round_, job.federation.rounds)
    return max(1e-3, rate / job.learning.learning_rate)


def heaviest(used: Sequence[UpdateRecord], blobs: Blobs, *, elements: int) -> UpdateRecord | None:
    """The update of ``used`` that moves the model most: by its norm times its examples.

    Raises:
        SpoiltUpdateError: the blob of an update cannot be read.
    """
    heft = [
        update.examples * _handed_in(update, blobs, elements, update.round).norm for update in used
    ]
    return used[int(np.argmax(heft))] if heft else None


def _handed_in(update: UpdateRecord, blobs: Blobs, elements: int, round_: int) -> Update:
    """``update`` as it goes into ``round_``; its frame is read whenever it is opened."""

    def open_() -> Payload:
        return _payload(update, blobs, elements)

    return Update(
        agent=update.agent,
        examples=update.examples,
        open=open_,
        # Rows of older software have no norm.
        norm=norm_of(open_()) if update.norm is None else update.norm,
        round=update.round,
        staleness=max(0, round_ - update.round),
        steps=update.steps,
    )


def _payload(update: UpdateRecord, blobs: Blobs, elements: int) -> Payload:
    try:
        # The blob's SHA-256 has just been checked, and its sums were when it came in.
        return open_frame(blobs.get(update.blob, BLOB_LIMIT), elements=elements, intact=True)[1]
    except (StoreError, FrameError) as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise  # the disk fails, and may work again
        raise SpoiltUpdateError(update, error) from error
