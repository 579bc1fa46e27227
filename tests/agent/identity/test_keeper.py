# SPDX-License-Identifier: Apache-2.0
"""The daemon signs in with another certificate, writes that down, and asks for the next."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agent.identity.scenarios import NEW, OLD, facts, put
from tests.agent.identity.stand import DAY, Hands, Later
from tests.agent.kit import Journal

from fedmill_agent.config import AgentConfig, AgentSection, BrokerSection, load
from fedmill_agent.identity.children import Outcome
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.keeper import Keeper
from fedmill_agent.identity.opening import open_keeper
from fedmill_agent.identity.place import check_ours, identity_folder, place_of
from fedmill_shared.audit import AuditLog, NoAudit
from fedmill_shared.audit.trail import Trail
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError
from fedmill_shared.messages import RenewalAnswer


class Line:
    """Stands in for the line to the broker."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[tuple[str, bytes]] = []
        self.renewed = 0

    def send(self, kind: str, message: bytes) -> None:
        """Take a message."""
        self.sent.append((kind, message))

    def renew(self) -> None:
        """Sign in anew."""
        self.renewed += 1


def configured(tmp_path: Path, tls: str) -> AgentConfig:
    """An agent whose file says so."""
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nid = "press-4"\n[broker]\nport = 8883\n{tls}')
    return load(path)


class Stand:
    """A keeper whose clock stands at the beginning of its certificate."""

    def __init__(self, tmp_path: Path, tls: str = "[broker.tls]\n") -> None:
        self.config = configured(tmp_path, tls)
        self.folder = IdentityFolder(identity_folder(Path(self.config.agent.state)))
        self.clock, self.journal, self.later = ManualClock(0), Journal(), Later()
        self.hands, self.line, self.hurries = Hands(), Line(), 0
        place = place_of(self.config)
        assert place is not None
        self.audit = AuditLog(tmp_path / "audit.jsonl", self.clock)
        self.keeper = Keeper(
            place,
            self.config,
            self.line,  # type: ignore[arg-type]
            Trail(self.audit, self.journal),
            background=self.later,  # type: ignore[arg-type]
            hurry=self._hurry,
            clock=self.clock,
            log=self.journal,
            worker=self.hands,
        )

    def _hurry(self) -> None:
        self.hurries += 1

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, turn, and work."""
        self.clock.advance(seconds)
        self.keeper.tick()
        self.later.work()


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """With an identity of its own."""
    made = Stand(tmp_path)
    put(made.folder, OLD)
    return made


class TestRenewal:
    def test_from_one_to_the_next(self, stand: Stand) -> None:
        """Asked over the line, taken, signed in with, told to others and written down."""
        stand.turn()
        stand.turn(65 * DAY)
        assert stand.line.sent == [("renew", b"request 1")]

        def take(_certificate: bytes) -> Outcome:
            put(stand.folder, NEW)
            return Outcome(facts=facts(NEW), changed=True)

        stand.hands.take = take  # type: ignore[method-assign]
        stand.keeper.hear(RenewalAnswer(state="issued", certificate=b"new"))
        stand.later.work()
        assert stand.line.renewed == 0
        stand.turn()
        stand.later.work()
        assert stand.line.renewed == 1
        assert stand.hurries == 1
        assert stand.keeper.standing().serial == "2"
        [line] = stand.audit.path.read_bytes().splitlines()
        for part in (b"certificate.changed", b"press-4", b'"before":"1"', b'"after":"2"'):
            assert part in line

    def test_without_the_broker(self, stand: Stand) -> None:
        """Nothing is asked; the end is told, and what to do."""
        stand.line.connected = False
        stand.turn()
        stand.turn(91 * DAY)
        assert stand.line.sent == []
        assert stand.keeper.standing().state == "expired"
        assert len(stand.journal.of("certificate.expired")) == 1


class TestPlaces:
    def test_in_the_clear(self, tmp_path: Path) -> None:
        """There is nothing to keep."""
        config = AgentConfig(agent=AgentSection(id="a", state=str(tmp_path)))
        assert config.broker == BrokerSection()
        assert place_of(config) is None
        parts: dict[str, Any] = {"background": Later(), "hurry": list, "log": Journal()}
        line: Any = Line()
        assert open_keeper(config, line, NoAudit(), clock=ManualClock(), **parts) is None
        check_ours(config, tmp_path)

    def test_what_keeps_one_is_imported_where_there_is_one(self) -> None:
        """A daemon in the clear has neither keeper nor folder in memory; none has cryptography."""
        code = (
            "import sys, fedmill_agent.daemon, fedmill_agent.safe\n"
            "from fedmill_agent.config import AgentConfig, AgentSection, BrokerSection\n"
            "from fedmill_agent.identity.opening import open_keeper\n"
            "from fedmill_shared.clock import SystemClock\n"
            "from fedmill_shared.link.options import TlsSection\n"
            "clock, names = SystemClock(), ('keeper', 'folder', 'place', 'watch', 'children')\n"
            "def opened(tls):\n"
            "    config = AgentConfig(agent=AgentSection(id='a'), broker=BrokerSection(tls=tls))\n"
            "    told = dict(background=None, hurry=list, clock=clock, log=None)\n"
            "    made = open_keeper(config, None, None, **told)\n"
            "    found = [f'fedmill_agent.identity.{each}' in sys.modules for each in names]\n"
            "    print(made is None, *{*found}, 'cryptography' in sys.modules)\n"
            "opened(None)\n"
            "opened(TlsSection())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert done.stdout == "True False False\nFalse True False\n"

    def test_files_of_others(self, tmp_path: Path) -> None:
        """They are watched and not renewed; nobody enrols into files that are not used."""
        tls = '[broker.tls]\nca = "x/ca.pem"\ncertificate = "x/c.pem"\nkey = "x/k.pem"\n'
        stand = Stand(tmp_path, tls)
        stand.hands.facts = facts(OLD)
        stand.turn()
        stand.turn(65 * DAY)
        assert stand.keeper.standing().state == "valid"
        assert stand.line.sent == []
        stand.keeper.hear(RenewalAnswer(state="issued", certificate=b"new"))
        assert not stand.later.waiting
        with pytest.raises(ConfigError, match=r"agent.toml: \[broker.tls\] names files of its own"):
            check_ours(stand.config, tmp_path / "agent.toml")

    def test_the_identity_folder(self, tmp_path: Path) -> None:
        """Is where it is unless told, also where somebody writes that down."""
        for tls in ("[broker.tls]\n", '[broker.tls]\nca = "state/identity/ca.pem"\n'):
            place = place_of(configured(tmp_path, tls))
            assert place is not None
            assert place.ours
            assert place.ca == tmp_path / "state" / "identity" / "ca.pem"
