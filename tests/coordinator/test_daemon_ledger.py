# SPDX-License-Identifier: Apache-2.0
"""Bytes through a restart of the daemon."""

from collections.abc import Callable

import pytest
from tests.coordinator.plant import Plant

pytestmark = pytest.mark.usefixtures("exported_once")


class TestLedger:
    """Bytes through a restart."""

    def test_an_orderly_end_loses_nothing(
        self, make_plant: Callable[..., Plant], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next start goes on in the same round with the same counts."""
        plant = make_plant()
        plant.running()
        counted = plant.daemon._services.traffic.records("tiny", 1)
        assert plant.store.traffic("tiny", 1) == []
        plant.daemon.stop()
        plant.daemon.run()
        assert plant.store.traffic("tiny", 1) == counted
        assert plant.make()._services.traffic.records("tiny", 1) == counted

    def test_a_kill_loses_half_a_minute(self, make_plant: Callable[..., Plant]) -> None:
        """Counts are saved that often, where something was sent."""
        plant = make_plant()
        plant.running()
        plant.wait(29)
        assert plant.store.traffic("tiny", 1) == []
        plant.wait(2)
        saved = plant.store.traffic("tiny", 1)
        assert [record.agent for record in saved] == ["a", "b"]
        assert plant.make()._services.traffic.records("tiny", 1) == saved

    def test_a_full_disk_ends_nothing(self, make_plant: Callable[..., Plant]) -> None:
        """It is tried again half a minute later."""
        plant = make_plant()
        plant.running()
        plant.disk.failing, plant.disk.only = 1, "tiny"
        plant.daemon._ledger._due = 0.0
        plant.work()
        assert (plant.disk.failed, plant.store.traffic("tiny", 1)) == (1, [])
        plant.wait(31)
        assert plant.store.traffic("tiny", 1) != []

    def test_the_end_of_a_round_saves_its_bytes(self, make_plant: Callable[..., Plant]) -> None:
        """The record has their sums, and the next round begins with what follows."""
        plant = make_plant()
        plant.running()
        plant.update("a")
        plant.update("b")
        [closed, opened] = plant.store.rounds("tiny")
        assert (closed.state, opened.round) == ("closed", 2)
        saved = plant.store.traffic("tiny", 1)
        assert [record.agent for record in saved] == ["a", "b"]
        assert closed.uplink_bytes == sum(record.uplink_bytes for record in saved)
        assert closed.downlink_bytes == sum(record.downlink_bytes for record in saved)
        assert 0 < closed.published_bytes < closed.downlink_bytes
        assert plant.daemon._services.traffic.records("tiny", 2) != []
        assert plant.store.traffic("tiny", 2) == []
