# SPDX-License-Identifier: Apache-2.0
import os
import signal
from collections.abc import Iterator

import pytest

from fedmill_shared.stopping import on_stop


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """Other tests are interrupted as usual."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_either_signal_asks_and_ends_nothing(number: signal.Signals) -> None:
    """The process goes on, and is asked as often as the signal comes."""
    asked: list[None] = []
    on_stop(lambda: asked.append(None))
    for _ in range(2):
        os.kill(os.getpid(), number)
    assert len(asked) == 2
