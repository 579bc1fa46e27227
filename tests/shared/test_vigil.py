# SPDX-License-Identifier: Apache-2.0
"""When a daemon says that it lives, and when it says nothing."""

from collections.abc import Mapping
from typing import Any

import pytest

from fedmill_shared.clock import ManualClock
from fedmill_shared.notify import Notifier
from fedmill_shared.vigil import Vigil


class Journal:
    """Keeps events."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.entries.append((event, fields))

    error = info


class Said(Notifier):
    """Keeps what would be said; ``deaf`` is a manager that does not hear."""

    def __init__(self, watchdog: float = 60.0, address: str = "/run/notify") -> None:
        super().__init__(address, watchdog)
        self.words: list[str] = []
        self.deaf = False

    def _say(self, text: str) -> bool:
        if not self.deaf:
            self.words.append(text.partition("\n")[0])
        return not self.deaf

    @property
    def signs(self) -> int:
        """Signs of life so far."""
        return self.words.count("WATCHDOG=1")


class Rig:
    """A daemon whose loop comes round once a second."""

    def __init__(self, **fields: Any) -> None:
        self.clock, self.journal, self.said = ManualClock(), Journal(), Said(**fields)
        self.vigil = Vigil(self.said, self.clock, self.journal)
        self.status = "2 jobs"
        self.late: Mapping[str, float] = {}
        self.asked = 0

    def look(self) -> Mapping[str, float]:
        """Who is late."""
        self.asked += 1
        return self.late

    def turn(self, times: int = 1) -> None:
        """Come round."""
        for _ in range(times):
            self.clock.advance(1.0)
            self.vigil.turn(lambda: self.status, self.look)


@pytest.fixture
def rig() -> Rig:
    """A watchdog of 60 s."""
    return Rig()


class TestReady:
    def test_only_once_it_has_begun(self, rig: Rig) -> None:
        """Whoever is not ready says nothing, not even that it lives."""
        rig.turn(10)
        assert rig.said.words == []
        rig.vigil.begin()
        rig.turn(10)
        assert rig.said.words == ["READY=1", "WATCHDOG=1"]

    def test_it_is_said_until_it_is_heard(self, rig: Rig) -> None:
        """The start would else run out of time."""
        rig.said.deaf = True
        rig.vigil.begin()
        rig.turn(10)
        rig.said.deaf = False
        rig.turn(10)
        assert rig.said.words.count("READY=1") == 1

    def test_changes_are_told(self, rig: Rig) -> None:
        """And nothing where nothing has."""
        rig.vigil.begin()
        rig.turn(12)
        rig.status = "1 job"
        rig.turn(12)
        assert [word for word in rig.said.words if word != "WATCHDOG=1"] == [
            "READY=1",
            "STATUS=1 job",
        ]

    def test_the_end(self, rig: Rig) -> None:
        """It is told at once."""
        rig.vigil.end()
        assert rig.said.words == ["STOPPING=1"]


class TestSigns:
    def test_several_in_the_time_of_one(self, rig: Rig) -> None:
        """A loop that is slow for a while is not ended for it."""
        rig.vigil.begin()
        rig.turn(60)
        assert rig.said.signs == 4
        assert rig.asked == 4

    def test_a_part_that_hangs(self, rig: Rig) -> None:
        """No sign while it does; the log says once which one, and that it goes on."""
        rig.vigil.begin()
        rig.turn(1)
        rig.late = {"link": 3.2, "source press": 100.0}
        rig.turn(60)
        assert rig.said.signs == 1
        assert [(event, fields["part"]) for event, fields in rig.journal.entries] == [
            ("watchdog.withheld", "link"),
            ("watchdog.withheld", "source press"),
        ]
        assert rig.journal.entries[1][1]["overdue_seconds"] == 100
        rig.late = {}
        rig.turn(1)
        assert rig.said.signs == 2  # what waited for the loop alone costs no time
        assert rig.journal.entries[-1][0] == "watchdog.resumed"

    def test_a_loop_that_hangs(self, rig: Rig) -> None:
        """It does not come round, and nobody else speaks for it."""
        rig.vigil.begin()
        rig.turn(1)
        rig.clock.advance(1000)
        assert rig.said.signs == 1

    def test_a_long_step_that_advances(self, rig: Rig) -> None:
        """It says so itself, as often as the loop does, whoever waits for the loop meanwhile."""
        rig.vigil.begin()
        rig.late = {"link": 300.0}
        for _ in range(600):
            rig.clock.advance(0.1)
            rig.vigil.step()
        assert rig.said.signs == 4
        assert rig.asked == 0

    def test_a_long_start_that_advances(self, rig: Rig) -> None:
        """It asks for more time: whoever is not ready does not say that it lives."""
        rig.vigil.step()
        rig.vigil.step()
        assert rig.said.words == ["EXTEND_TIMEOUT_USEC=300000000"] * 2

    @pytest.mark.parametrize("fields", [{"watchdog": 0.0}, {"address": ""}])
    def test_nobody_watches(self, fields: dict[str, Any]) -> None:
        """Nobody is asked either."""
        rig = Rig(**fields)
        rig.vigil.begin()
        rig.turn(100)
        rig.vigil.step()
        assert rig.said.signs == rig.asked == 0
