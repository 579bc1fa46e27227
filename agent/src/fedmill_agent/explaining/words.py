# SPDX-License-Identifier: Apache-2.0
"""An explanation in one sentence, which says no more than was found."""

from collections.abc import Sequence

from fedmill_agent.explaining.explanation import Cause

MOST_OF_IT = 0.5
"""Share from which on one part is called the reason."""
WORTH_TELLING = 0.1
LEAST_APART = 0.6
"""Where the shares of all signals add up to less, they do not act each for itself."""
MOST_APART = 1.4
"""Nor where they add up to more."""
_LONGEST = 60


def sentence(causes: Sequence[Cause], explained: float) -> str:
    """What ``causes``, the largest first, say of a change; all signals make ``explained`` of it."""
    told = [cause for cause in causes if cause.share >= WORTH_TELLING]
    if not told:
        text = "no single signal explains it"
    else:
        rest = "".join(f", {name(each)} {percent(each.share)}" for each in told[1:])
        text = f"{name(told[0])} carries {percent(told[0].share)} of it{rest}"
        if told[0].share < MOST_OF_IT:
            text = f"no single signal explains it: {text}"
    if explained < LEAST_APART:
        text += f"; signals act together: one by one they make {percent(max(0.0, explained))}"
    elif explained > MOST_APART:
        text += "; signals act together: one by one they make more than all"
    return text


def name(cause: Cause) -> str:
    """A part as people call it."""
    signal = cause.signal if len(cause.signal) <= _LONGEST else f"{cause.signal[:_LONGEST]}…"
    if cause.feature:
        return f"{cause.feature} of {signal}"
    if cause.low is None or cause.high is None:
        return signal
    return f"{signal} at {band(cause.low, cause.high, cause.unit)}"


def band(low: float, high: float, unit: str) -> str:
    """A band of frequencies, to about a tenth of its width."""
    if unit == "Hz" and high >= 1000.0:
        low, high, unit = low / 1000.0, high / 1000.0, "kHz"
    width = high - low
    digits = 0 if width >= 10.0 else 1 if width >= 0.25 else 2 if width >= 0.025 else 3
    return f"{low:.{digits}f}-{high:.{digits}f} {unit}"


def percent(share: float) -> str:
    """A share for people; above all of it there is nothing."""
    return "all" if share >= 0.995 else f"{100 * share:.0f} %"
