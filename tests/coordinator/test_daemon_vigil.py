# SPDX-License-Identifier: Apache-2.0
"""What the coordinator tells its service manager."""

from collections.abc import Callable

import pytest
from tests.coordinator.plant import Plant

from fedmill_shared.vigil import Look

pytestmark = pytest.mark.usefixtures("exported_once")


class Vigil:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, dict[str, float]]] = []
        self.steps = 0

    def turn(self, status: Callable[[], str], look: Look) -> None:
        """The loop came round."""
        self.turns.append((status(), dict(look())))

    def step(self) -> None:
        """Something long advances."""
        self.steps += 1


class TestVigil:
    def test_what_it_does(self, make_plant: Callable[..., Plant]) -> None:
        """In words, whenever the rounds of a job have been looked after."""
        plant = make_plant()
        vigil = plant.daemon._vigil = Vigil()
        plant.running()
        assert vigil.turns[-1] == ("jobs: 1; agents online: 2; broker connected", {})

    def test_a_link_that_hangs(
        self, make_plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is named, with the time for which it has been overdue."""
        plant = make_plant()
        monkeypatch.setattr(plant.daemon._link, "late", 12.0)
        assert plant.daemon._late() == {"link": 12.0}

    def test_reading_updates_is_progress(self, make_plant: Callable[..., Plant]) -> None:
        """A rule that takes minutes reads them all the while."""
        plant = make_plant()
        assert plant.daemon._services.blobs.reading == plant.daemon._vigil.step
