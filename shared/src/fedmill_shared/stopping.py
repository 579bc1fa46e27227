# SPDX-License-Identifier: Apache-2.0
"""How a process is asked to end: SIGTERM from a service manager, SIGINT from Ctrl-C."""

import signal
from collections.abc import Callable
from types import FrameType


def on_stop(stop: Callable[[], None]) -> None:
    """Call ``stop`` for either signal from now on, where Python would end at once."""

    def asked(_number: int, _frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
