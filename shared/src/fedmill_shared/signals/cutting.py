# SPDX-License-Identifier: Apache-2.0
"""How a job wants its streams cut."""

from collections.abc import Sequence
from math import inf

from fedmill_shared.job import Signal
from fedmill_shared.job import Window as WindowSettings
from fedmill_shared.signals.windows import Windower


def windower_for(signals: Sequence[Signal], window: WindowSettings) -> Windower:
    """What cuts windows of ``signals`` at a stride, or where a signal triggers them."""
    if not window.trigger:
        return Windower(window.length, window.stride or window.length, window.pad)
    from fedmill_shared.signals.triggered import (  # noqa: PLC0415  few jobs need it
        Trigger,
        TriggeredWindower,
    )

    place = [signal.name for signal in signals].index(window.trigger)
    low, high = signals[place].range or (-inf, inf)
    trigger = Trigger(
        signal=place,
        level=window.trigger_level,
        falling=window.trigger_edge == "falling",
        hysteresis=window.trigger_hysteresis,
        before=window.trigger_before,
        low=low,
        high=high,
    )
    return TriggeredWindower(window.length, trigger)
