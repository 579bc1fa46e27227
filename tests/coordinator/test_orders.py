# SPDX-License-Identifier: Apache-2.0
"""Rows of the operator are carried out, once and in turn."""

from collections.abc import Callable

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.coordinator.plant import Plant

pytestmark = pytest.mark.usefixtures("exported_once")


class TestOrders:
    """Rows of the operator's commands, carried out in turn."""

    def test_is_carried_out_once(self, make_plant: Callable[..., Plant]) -> None:
        """Within a second, with its outcome for whoever waits for it."""
        plant = make_plant()
        plant.running()
        number = plant.store.give_order("tiny", "pause", "anna", plant.clock.now_ns())
        with capture_logs() as logs:
            plant.wait(1)
        order = plant.store.order(number)
        assert order is not None
        assert (order.outcome, order.done_ns is not None) == ("the job is paused", True)
        assert [each for each in logs if each["event"] == "order.done"] == [
            {
                "event": "order.done",
                "log_level": "info",
                "job": "tiny",
                "verb": "pause",
                "by": "anna",
                "outcome": "the job is paused",
            }
        ]
        assert plant.take("a", "round")[-1].round == 0

    def test_is_in_the_audit_log(self, make_plant: Callable[..., Plant]) -> None:
        """Who gave it, and how the job stood before and stands now; a refused one too."""
        plant = make_plant()
        plant.running()
        for verb in ("pause", "close"):
            plant.store.give_order("tiny", verb, "anna", plant.clock.now_ns())
        plant.wait(1)
        assert [each for each in plant.audit if each.what.startswith("order.")] == [
            ("anna", "order.pause", "tiny", "running", "running, paused: the job is paused"),
            (
                "anna",
                "order.close",
                "tiny",
                "running, paused",
                "running, paused: refused: the job is paused",
            ),
        ]

    def test_in_the_order_of_their_giving(self, make_plant: Callable[..., Plant]) -> None:
        """Each sees what the one before it did."""
        plant = make_plant()
        plant.running()
        plant.update("a")
        verbs = ("pause", "close", "resume", "close", "abort")
        numbers = [
            plant.store.give_order("tiny", verb, "anna", plant.clock.now_ns()) for verb in verbs
        ]
        plant.wait(1)
        outcomes = [order.outcome for order in map(plant.store.order, numbers) if order is not None]
        assert outcomes == [
            "the job is paused",
            "refused: the job is paused",
            "the job goes on",
            "round 1 was closed with the updates of 1 agents",
            "the job is stopped; round 2 was abandoned",
        ]

    def test_of_a_job_that_is_not_run_here(self, make_plant: Callable[..., Plant]) -> None:
        """The store may know jobs of an earlier configuration."""
        plant = make_plant()
        plant.running()
        record = plant.store.job("tiny")
        assert record is not None
        plant.store.add_job(msgspec.structs.replace(record, name="gone"))
        number = plant.store.give_order("gone", "abort", "anna", plant.clock.now_ns())
        plant.wait(1)
        order = plant.store.order(number)
        assert order is not None
        assert order.outcome.startswith("refused: job gone is not in")

    def test_without_a_broker(self, make_plant: Callable[..., Plant]) -> None:
        """An order is carried out at once; agents hear of it when the broker is back."""
        plant = make_plant()
        number = plant.store.give_order("tiny", "abort", "anna", plant.clock.now_ns())
        plant.wait(2)
        order = plant.store.order(number)
        assert order is not None
        assert order.outcome == "job stopped"

    def test_a_close_that_comes_too_late(self, make_plant: Callable[..., Plant]) -> None:
        """It was meant for the round that was open when it was given, and closes no other."""
        plant = make_plant()
        plant.running()
        given = plant.clock.now_ns()
        plant.wait(1)
        for name in ("a", "b"):
            plant.update(name)
        plant.wait(1)
        plant.update("a")
        number = plant.store.give_order("tiny", "close", "anna", given)
        plant.wait(1)
        order = plant.store.order(number)
        assert order is not None
        assert order.outcome == "refused: round 2 has opened since"

    def test_waits_for_the_disk(self, make_plant: Callable[..., Plant]) -> None:
        """An order whose outcome cannot be stored is carried out again, to the same end."""
        plant = make_plant()
        plant.running()
        number = plant.store.give_order("tiny", "pause", "anna", plant.clock.now_ns())
        plant.disk.failing = 3
        plant.wait(5)
        order = plant.store.order(number)
        assert order is not None
        assert order.outcome == "the job is paused"
        assert plant.store.open_orders() == []
