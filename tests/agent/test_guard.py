# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pytest
from tests.agent.kit import Journal

from fedmill_agent.guard import guarded
from fedmill_shared.errors import BrokerError, FedmillError, FrameError, StoreError


def failing(error: Exception) -> Callable[[], None]:
    """Something that goes wrong in this way."""

    def fail() -> None:
        raise error

    return fail


class TestGuarded:
    def test_what_goes_well_is_done_once(self) -> None:
        """And nothing is logged."""
        journal, done = Journal(), []
        guarded(journal, lambda: done.append(1))
        assert done == [1]
        assert journal.entries == []

    @pytest.mark.parametrize("error", [FrameError("no block"), BrokerError("too large")])
    def test_what_came_or_went_by_the_wire_is_a_warning(self, error: FedmillError) -> None:
        """Anybody may send anything."""
        journal = Journal()
        guarded(journal, failing(error))
        assert journal.of("message.refused") == [{"error": str(error)}]

    def test_any_other_fault_is_an_error_of_its_kind(self) -> None:
        """With the class that operators find in the list of exit codes."""
        journal = Journal()
        guarded(journal, failing(StoreError("the disk is full")))
        assert journal.of("event.failed") == [{"kind": "StoreError", "error": "the disk is full"}]

    def test_a_fault_of_the_program_passes(self) -> None:
        """It must not be hidden."""
        with pytest.raises(ZeroDivisionError):
            guarded(Journal(), failing(ZeroDivisionError()))
