# SPDX-License-Identifier: Apache-2.0
"""Waits for what another thread or process does and nobody tells."""

import threading
import time
from collections.abc import Callable

PATIENCE = 20.0
"""Seconds after which a test gives up; none takes nearly as long."""
LOOK_SECONDS = 0.005


def eventually(done: Callable[[], object]) -> None:
    """Return once ``done``."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(LOOK_SECONDS)
