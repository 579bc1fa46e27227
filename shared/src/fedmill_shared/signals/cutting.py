# SPDX-License-Identifier: Apache-2.0
"""How a job wants its streams cut."""

from collections.abc import Sequence

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

    trigger = Trigger(
        signal=[signal.name for signal in signals].index(window.trigger),
        level=window.trigger_level,
        falling=window.trigger_edge == "falling",
        hysteresis=window.trigger_hysteresis,
        before=window.trigger_before,
    )
    return TriggeredWindower(window.length, trigger)
