# SPDX-License-Identifier: Apache-2.0
"""What the rules of a job make of the updates of a round."""

from collections.abc import Callable
from types import SimpleNamespace

from fedmill_shared.job import Robustness

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


class TestClip:
    def test_is_always_on(self, make_world: Make, kit: SimpleNamespace) -> None:
        """By default one long update moves the model little more than the others do."""
        moves = {}
        for clip in (Robustness().clip, 1e6):
            world = make_world(
                robustness=Robustness(clip=clip), goal=3, folder=f"clip-{clip}", downlink="fp32"
            ).running(A, B, C)
            for agent, scale in ((A, 1.0), (B, 1.0), (C, 1000.0)):
                world.deliver(agent, delta=scale * kit.delta(agent, 1, world.elements))
            moved = world.learned(1) - world.learned(0)
            moves[clip] = float((moved**2).sum() ** 0.5)
        assert moves[1e6] > 300 * moves[Robustness().clip]
