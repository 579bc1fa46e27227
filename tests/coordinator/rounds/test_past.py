# SPDX-License-Identifier: Apache-2.0
"""How the rounds before the open one ended."""

from types import SimpleNamespace

import pytest

from fedmill_coordinator.rounds import past


class TestManyAgents:
    def test_a_notice_names_no_more_than_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Too many for a message: nobody is named, and each asks."""
        updates = [SimpleNamespace(agent=f"a{n}", sha256=f"{n:064x}") for n in range(5)]
        assert len(past.newest_of(updates)) == 5
        monkeypatch.setattr(past, "MOST_NAMED", 4)
        assert past.newest_of(updates) == {}
