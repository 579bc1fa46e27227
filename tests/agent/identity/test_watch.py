# SPDX-License-Identifier: Apache-2.0
"""The daemon notices another certificate by itself, and says what is wrong with the one it has."""

from pathlib import Path

import pytest
from tests.agent.identity.scenarios import NEW, OLD, facts, put
from tests.agent.identity.stand import DAY, Hands, Later
from tests.agent.kit import Journal

from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import CA, CERTIFICATE, FACTS, KEY, NAMES, IdentityFolder
from fedmill_agent.identity.place import Place
from fedmill_agent.identity.watch import AGAIN_SECONDS, Watch
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import IdentityError


class Stand:
    """A watch over the identity folder, or over files elsewhere."""

    def __init__(self, folder: Path, *, ours: bool = True) -> None:
        self.clock, self.journal, self.later, self.hands = (
            ManualClock(DAY_NS),
            Journal(),
            Later(),
            Hands(),
        )
        self.folder = IdentityFolder(folder)
        self.changes: list[tuple[Facts | None, Facts]] = []
        self.watch = Watch(
            Place(folder / CERTIFICATE, folder / KEY, folder / CA, ours),
            self.folder,
            self.hands,
            self.later,  # type: ignore[arg-type]
            lambda before, after: self.changes.append((before, after)),
            clock=self.clock,
            log=self.journal,
        )

    def turn(self, seconds: float = 0.0) -> str:
        """Let time pass, turn, work and turn again; where the agent stands then."""
        self.clock.advance(seconds)
        self.watch.tick()
        self.later.work()
        self.watch.tick()
        return self.watch.standing().state


DAY_NS = 24 * 3600 * 10**9


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """Over an identity folder that is not there."""
    return Stand(tmp_path / "identity")


class TestOurs:
    def test_nothing_there(self, stand: Stand) -> None:
        """Told once a day, with what to do."""
        assert stand.turn() == "none"
        stand.turn(3600)
        [told] = stand.journal.of("certificate.missing")
        assert "fedmill-agent enrol" in told["remedy"]
        stand.turn(DAY)
        assert len(stand.journal.of("certificate.missing")) == 2

    def test_what_is_there_at_the_start(self, stand: Stand) -> None:
        """Is used from the start: the link need not be told."""
        put(stand.folder, OLD)
        assert stand.turn() == "valid"
        assert stand.watch.facts == facts(OLD)
        assert stand.changes == []
        assert stand.journal.of("certificate.loaded") == [{"agent": "press-4", "serial": "1"}]

    def test_somebody_enrols(self, stand: Stand) -> None:
        """The first, and any later one, is noticed with the next turn."""
        stand.turn()
        put(stand.folder, OLD)
        stand.turn(1)
        assert stand.changes == [(None, facts(OLD))]
        put(stand.folder, NEW)
        stand.turn(1)
        assert stand.changes[1:] == [(facts(OLD), facts(NEW))]
        stand.turn(1)
        assert len(stand.changes) == 2

    def test_it_ends(self, stand: Stand) -> None:
        """Warned of in time, each day, then told as an error; scoring needs none of it."""
        put(stand.folder, OLD)
        assert stand.turn(70 * DAY) == "valid"
        assert stand.turn(6 * DAY) == "ending"
        assert stand.turn(1) == "ending"
        assert len(stand.journal.of("certificate.expires_soon")) == 1
        stand.turn(DAY)
        assert len(stand.journal.of("certificate.expires_soon")) == 2
        assert stand.turn(20 * DAY) == "expired"
        [told] = stand.journal.of("certificate.expired")
        assert "was valid until 1970-04-01" in told["problem"]

    def test_files_put_there_by_hand(self, stand: Stand) -> None:
        """Are looked at by a child, who takes them over; the link has used them all the time."""
        stand.folder.path.mkdir()
        for name in NAMES:
            (stand.folder.path / name).write_text(NEW)
        stand.hands.facts = facts()
        assert stand.turn() == "valid"
        put(stand.folder, NEW)
        stand.turn(1)
        assert stand.changes == []

    def test_damage(self, stand: Stand) -> None:
        """Told, and looked at again later: somebody may have put it right."""
        put(stand.folder, OLD)
        path = stand.folder.current / FACTS
        whole = path.read_bytes()
        path.write_text("{}")
        assert stand.turn() == "unknown"
        [told] = stand.journal.of("certificate.unusable")
        assert "facts.json: damaged" in told["problem"]
        path.write_bytes(whole)
        assert stand.turn(1) == "unknown"
        assert stand.turn(AGAIN_SECONDS) == "valid"


class TestElsewhere:
    def test_is_looked_at_by_a_child(self, tmp_path: Path) -> None:
        """Once, and again when a file is another."""
        stand = Stand(tmp_path, ours=False)
        stand.hands.facts = facts(OLD)
        stand.watch.tick()
        assert stand.watch.standing().problem == "its files are being looked at"
        assert stand.journal.entries == []
        assert stand.turn() == "valid"
        stand.hands.facts = facts(NEW)
        assert stand.turn(1) == "valid"
        assert stand.changes == []
        (tmp_path / KEY).write_text("another")
        stand.turn(1)
        assert stand.changes == [(facts(OLD), facts(NEW))]
        assert stand.watch.standing().renewal_ns == 0

    def test_of_no_use(self, tmp_path: Path) -> None:
        """The child's words are told, with its remedy."""
        stand = Stand(tmp_path, ours=False)
        stand.hands.error = IdentityError("certificate and key differ", remedy="give others")
        assert stand.turn() == "unknown"
        [told] = stand.journal.of("certificate.unusable")
        assert told == {"problem": "certificate and key differ", "remedy": "give others"}
        stand.hands.error, stand.hands.facts = None, facts()
        assert stand.turn(AGAIN_SECONDS) == "valid"
