# SPDX-License-Identifier: Apache-2.0
"""Whose head it is that serves: the federation's, or one that was fitted here to labels.

Heads are told apart by their numbers and not by the name of a version, so that a restart, a
roll-back or a recalibration of the layers before changes nothing: whatever was fitted here is known
again, and is never mistaken for what the federation has learned.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent import kept
from fedmill_agent.kept import Kept

HEAD_FILE = "feedback.msgpack"
FEDERATED, FITTED, BEFORE = "federated", "fitted", "before"

Head = NDArray[np.float32]


class HeadState(Kept, frozen=True, kw_only=True):
    """What the file holds: the federation's head, and what was fitted last and the time before.

    Attributes:
        method: of ``[feedback]``.
        labels: labelled windows that the last fit had.
        gained: of them, those that only the fit tells right, while it had not seen them.
        lost: those that only the federation's head does.
        used: whether it was worth having.
        moment_ns: when it was fitted, by the agent's clock.
    """

    method: str
    labels: int = 0
    gained: int = 0
    lost: int = 0
    used: bool = False
    moment_ns: int = 0


def find(path: Path, layout: str) -> HeadState | None:
    """What was kept; a file that is damaged or for another layout of the model is set aside.

    Raises:
        StoreError: the disk fails.
    """
    return kept.find(path, HeadState, layout).kept


def federated(state: HeadState | None, serving: Head) -> Head:
    """The federation's head (n,) behind the one that is ``serving`` (n,)."""
    if state is None:
        return serving
    anchor = state.vector(FEDERATED)
    ours = [anchor, state.vector(FITTED), state.vector(BEFORE)]
    fits = anchor is not None and anchor.shape == serving.shape
    if anchor is not None and fits and any(_same(each, serving) for each in ours):
        return anchor
    return serving


def is_known(state: HeadState | None, serving: Head) -> bool:
    """Whether the last fit was to the head behind the one that is ``serving`` (n,)."""
    if state is None:
        return False
    return _same(state.vector(FEDERATED), federated(state, serving))


def vectors(anchor: Head, fitted: Head, serving: Head) -> dict[str, bytearray]:
    """Heads (n,) as the file holds them."""
    return kept.bytes_of({FEDERATED: anchor, FITTED: fitted, BEFORE: serving})


def _same(one: Head | None, other: Head) -> bool:
    return one is not None and np.array_equal(one, other)
