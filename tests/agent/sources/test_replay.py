# SPDX-License-Identifier: Apache-2.0
"""Events of a recording in memory."""

import numpy as np
import pytest

from fedmill_agent.sources.base import Event, LabelInterval, RunEnded, Samples
from fedmill_agent.sources.replay import CHUNK, recording


def replay(values: np.ndarray, label: str = "") -> list[Event]:
    """Events of run r of unit u from 1000 ns on, 10 ns apart."""
    return list(recording(values, run="r", unit="u", start_ns=1000, period_ns=10, label=label))


class TestRecording:
    @pytest.mark.parametrize(
        ("count", "sizes"),
        [
            (1, [1]),
            (CHUNK, [CHUNK]),
            (CHUNK + 1, [CHUNK, 1]),
            (2 * CHUNK + 7, [CHUNK, CHUNK, 7]),
        ],
    )
    def test_chunks_join_to_the_whole(self, count: int, sizes: list[int]) -> None:
        """Nothing is lost between chunks, and each starts where the one before ends."""
        values = np.arange(2.0 * count).reshape(2, count)
        found = replay(values)
        samples = [event for event in found if isinstance(event, Samples)]
        assert [event.values.shape[1] for event in samples] == sizes
        assert [event.start_ns for event in samples] == [
            1000 + 10 * CHUNK * i for i in range(len(sizes))
        ]
        np.testing.assert_array_equal(np.hstack([event.values for event in samples]), values)
        assert found[-1] == RunEnded("r")

    def test_label_spans_first_to_last_sample(self) -> None:
        """Both ends are included, so three samples last two periods."""
        assert replay(np.ones((1, 3)), "worn")[1] == LabelInterval("r", 1000, 1020, text="worn")
        assert [type(event) for event in replay(np.ones((1, 3)))] == [Samples, RunEnded]

    def test_chunks_do_not_keep_the_recording(self) -> None:
        """A consumer that keeps one chunk, or writes into it, holds no more than that chunk."""
        values = np.ones((1, 10))
        first = replay(values)[0]
        assert isinstance(first, Samples)
        assert first.values.base is None
        first.values[:] = 0
        assert values.all()
