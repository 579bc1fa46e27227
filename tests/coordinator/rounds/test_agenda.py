# SPDX-License-Identifier: Apache-2.0
"""What follows from a round that is stored is done, whatever fails."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.rounds.agenda import Agenda
from fedmill_coordinator.store.blobs import Blobs
from fedmill_shared.errors import StoreError

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestUntold:
    @pytest.mark.parametrize("rounds", [1, 2])
    def test_a_version_that_could_not_be_told(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch, rounds: int
    ) -> None:
        """The disk fails between close and notice: it is told later, of the last round as well."""
        world = make_world(rounds=rounds).running(A, B)
        world.deliver(A)
        world.voice.said.clear()
        offer, frame = world.update(B)
        world.offer(B, offer)
        with monkeypatch.context() as broken:
            broken.setattr(Blobs, "size", fails)
            with pytest.raises(StoreError):
                world.blocks(B, frame, [0])
            with pytest.raises(StoreError):
                world.step()
        assert world.rows.rounds("tiny")[0].state == "closed"
        assert world.voice.take("version") == world.voice.take("round") == []
        world.step()
        assert [notice.number for notice in world.voice.take("version")] == [1]
        [notice] = world.voice.take("round")
        assert (notice.round, notice.closed) == (2 if rounds == 2 else 0, 1)
        world.wait(5)
        assert world.state == "running"


def fails(*_: object) -> int:
    """A disk that is away."""
    raise StoreError("the disk is away")


class TestAgenda:
    @given(
        failures=st.lists(st.integers(0, 3), min_size=1, max_size=6),
        parts=st.lists(st.integers(1, 3), max_size=3),
    )
    def test_each_act_is_done_once_and_in_turn(self, failures: list[int], parts: list[int]) -> None:
        """However often each fails before it succeeds, and in what portions they become due."""
        left, done = dict(enumerate(failures)), list[int]()

        def act(number: int) -> None:
            if left[number]:
                left[number] -= 1
                raise StoreError("the disk is away")
            done.append(number)

        agenda, waiting = Agenda(), list(left)
        for size in [*parts, len(waiting)]:
            due, waiting = waiting[:size], waiting[size:]
            with suppress(StoreError):
                agenda.follow(*(partial(act, number) for number in due))
        for _ in range(sum(failures)):
            with suppress(StoreError):
                agenda.follow()
        assert done == list(range(len(failures)))

    def test_nothing_is_due_at_first(self) -> None:
        """And nothing happens."""
        Agenda().follow()
