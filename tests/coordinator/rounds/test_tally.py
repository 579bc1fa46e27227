# SPDX-License-Identifier: Apache-2.0
"""Updates that were not used are counted, each once."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from fedmill_shared.errors import StoreError

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestCounts:
    def test_every_update_is_counted_once(self, make_world: Make) -> None:
        """Taken, refused and late ones stand with the round that was open when they came."""
        world = make_world(goal=2, rounds=9, max_staleness=0).running(A, B, C)
        late = world.update(C)
        world.send(C, *world.update(C, examples=0))
        world.deliver(A, B)
        world.send(C, *late)
        world.send(C, *world.update(C, base="00" * 32))
        world.deliver(A, B)
        counts = [(r.accepted, r.rejected, r.discarded) for r in world.rows.rounds("tiny")]
        assert counts == [(2, 1, 0), (2, 1, 1), (0, 0, 0)]

    def test_a_close_that_fails_counts_nothing_twice(self, make_world: Make) -> None:
        """The disk is full three times in a row; the record is as if it never had been."""
        world = make_world(goal=2, rounds=9).running(A, B, C)
        world.send(C, *world.update(C, examples=0))
        world.deliver(A)
        offer, frame = world.update(B)
        world.offer(B, offer)
        for at in (2, 1, 1):
            burn(world, at)
            with pytest.raises(StoreError):
                world.blocks(B, frame, [0]) if at == 2 else world.step()
            assert world.number == 1
        world.step()
        [closed, _] = world.rows.rounds("tiny")
        assert (closed.accepted, closed.rejected, closed.discarded) == (2, 1, 0)


def burn(world: SimpleNamespace, at: int) -> None:
    """Closing the round fails the next time, at whatever it writes."""
    real = world.rows.close_round

    def call(*_: object, **__: object) -> None:
        world.rows.close_round = real
        raise StoreError("no space left on device")

    world.rows.close_round = call
