# SPDX-License-Identifier: Apache-2.0
"""Updates that a close must do without."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import json

from fedmill_shared.errors import StoreError
from fedmill_shared.messages import Reason

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestSpoilt:
    """An update that was received and can no longer be read."""

    def test_it_is_taken_out(self, make_world: Make, kit: SimpleNamespace) -> None:
        """The round goes on without it; it is counted, and its agent learns of it."""
        exact = {"uplink": "fp32", "downlink": "fp32"}
        world = make_world(goal=3, minimum=2, rounds=2, **exact).running(A, B, C)
        sent = world.update(A)
        world.send(A, *sent)
        world.files.path(sent[0].sha256).write_bytes(b"rust")
        world.deliver(B, C)
        assert world.number == 1
        world.wait(60)
        first = world.rows.rounds("tiny")[0]
        assert (first.included, first.accepted, first.discarded) == ([B, C], 2, 1)
        assert json.decode(first.report)["discarded"] == {"damaged": 1}
        [receipt] = world.send(A, *sent)
        assert (receipt.fate, receipt.code) == ("late", Reason.DAMAGED)
        expected = kit.recomputed(world, kit.delta)[1]
        assert np.allclose(world.learned(1), expected, rtol=1e-5, atol=1e-6)

    def test_too_few_are_left(self, make_world: Make) -> None:
        """Then it waits as any round does that has too few."""
        world = make_world(goal=2, rounds=3).running(A, B, C)
        offer, frame = world.update(A)
        world.send(A, offer, frame)
        world.files.delete(offer.sha256)
        world.deliver(B)
        assert world.number == 1
        world.deliver(C)
        assert world.rows.rounds("tiny")[0].included == [B, C]

    def test_all_of_them(self, make_world: Make) -> None:
        """A disk that lost everything costs the round its updates, not the job its life."""
        world = make_world(goal=3, minimum=3, rounds=3).running(A, B, C)
        for agent in (A, B):
            offer, frame = world.update(agent)
            world.send(agent, offer, frame)
            world.files.delete(offer.sha256)
        world.order("close")
        assert world.number == 1
        assert {u.code for u in world.rows.updates("tiny", 1)} == {"damaged"}

    def test_a_disk_that_only_stutters(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it may read again later is not taken out: the close is tried again."""
        world = make_world(goal=2, rounds=3).running(A, B)
        world.deliver(A)
        offer, frame = world.update(B)
        path = world.files.path(world.rows.updates("tiny", 1)[0].blob)

        def stutter(self: Path, *arguments: object, **options: object) -> object:
            if self == path:
                raise OSError(5, "Input/output error")
            return opened(self, *arguments, **options)

        opened = Path.open
        with monkeypatch.context() as disk:
            disk.setattr(Path, "open", stutter)
            with pytest.raises(StoreError, match="Input/output error"):
                world.send(B, offer, frame)
        assert [u.state for u in world.rows.updates("tiny", 1)] == ["received"] * 2
        world.wait(1)
        assert world.rows.rounds("tiny")[0].included == [A, B]
