# SPDX-License-Identifier: Apache-2.0
"""What of a window its prediction comes from: as numbers, and as one sentence."""

from msgspec import Struct


class Cause(Struct, frozen=True, omit_defaults=True):
    """One part of a window.

    Attributes:
        signal: its name.
        share: of the change of the score between usual values and this window; 1 is all of it.
        feature: of the signal, where the model sees features.
        low: where a band of frequencies begins, where the model sees samples.
        high: where it ends.
        unit: what the band is counted in.
    """

    signal: str
    share: float
    feature: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""


class Explanation(Struct, frozen=True, omit_defaults=True):
    """Why a score is not what it is usually.

    Attributes:
        text: one sentence; empty where nothing can be said.
        causes: at most three parts, the largest share first.
    """

    text: str = ""
    causes: tuple[Cause, ...] = ()


UNEXPLAINED = Explanation()
