# SPDX-License-Identifier: Apache-2.0
"""An agent's configuration under a signed remote one: good as a whole, or as it was."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.trusted import digest_of

from fedmill_agent.config import AgentConfig
from fedmill_agent.reloading import ConfigFile
from fedmill_agent.trust.overlay import load_overlaid
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import SignedText, Verified, write_verified
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError
from fedmill_shared.log import get_logger

OWN = """
[agent]
id = "press-1"
[training]
nice = 5
[trust]
root = "root.json"
"""


class Rig:
    """A configuration file, its state folder, and what is signed for it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "agent.toml"
        self.path.write_text(OWN)
        self.state = folder / "state"
        self.places = TrustPlaces(self.state)
        self.file = ConfigFile(self.path, AuditLog(folder / FILE, ManualClock()))
        self.audit = folder / FILE

    def sign(self, *texts: str) -> None:
        """Metadata was checked that signs these for the agent."""
        configs = [
            SignedText(path="config/all.toml", sha256=digest_of(str(number)), text=text)
            for number, text in enumerate(texts)
        ]
        write_verified(self.places.verified, Verified(checked_ns=1, configs=configs))

    def start(self) -> AgentConfig:
        """What the daemon begins with."""
        config = self.file.load()
        self.file.keep(config.agent.state, get_logger())
        return config


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """An agent with [trust]."""
    return Rig(tmp_path)


class TestOverlay:
    def test_lies_over_the_agents_own(self, rig: Rig) -> None:
        """And what is not in it stays."""
        rig.sign("[training]\nidle_seconds = 7")
        config = rig.start()
        assert (config.training.idle_seconds, config.training.nice) == (7.0, 5)

    def test_is_taken_up_while_the_daemon_runs(self, rig: Rig) -> None:
        """By the way of every changed configuration, and it is on record."""
        old = rig.start()
        rig.sign("[training]\nnice = 7")
        taken: list[AgentConfig] = []
        with capture_logs() as logs:
            rig.file.reload(old, get_logger(), lambda config, _found: taken.append(config))
        assert [each.training.nice for each in taken] == [7]
        (event,) = [each for each in logs if each["event"] == "config.remote_applied"]
        assert (event["before"], event["after"]) == ("", "config/all.toml 000000000000")
        assert rig.file.outcome.remote == "config/all.toml 000000000000"
        assert "config.remote_applied" in rig.audit.read_text()

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[training]\nnice = 99", "training.nice"),
            ("[sources.nowhere]\nhold_seconds = 1", "sources.nowhere"),
            ('[training]\nshifts = ["never"]', "training.shifts"),
            ('[broker]\nhost = "evil"', "broker"),
        ],
    )
    def test_one_that_does_not_fit_changes_nothing(self, rig: Rig, text: str, why: str) -> None:
        """The last good one holds, also after a restart, and it is told why."""
        rig.sign("[training]\nnice = 7")
        old = rig.start()
        rig.sign(text)
        with capture_logs() as logs:
            rig.file.reload(old, get_logger(), lambda *_: pytest.fail("nothing has changed"))
        assert any(each["event"] == "config.remote_refused" for each in logs)
        assert why in rig.file.outcome.remote_error
        again = ConfigFile(rig.path)
        assert again.load().training.nice == 7
        assert why in again.outcome.remote_error

    def test_is_gone_once_it_is_no_longer_signed(self, rig: Rig) -> None:
        """The file says again what counts."""
        rig.sign("[training]\nnice = 7")
        assert rig.start().training.nice == 7
        rig.sign()
        assert rig.start().training.nice == 5

    def test_holds_where_what_was_checked_is_lost(self, rig: Rig) -> None:
        """A power cut does not change a configuration."""
        rig.sign("[training]\nnice = 7")
        rig.start()
        rig.places.verified.write_bytes(b"")
        assert rig.start().training.nice == 7

    def test_does_not_hide_that_the_file_is_wrong(self, rig: Rig) -> None:
        """Which is told as ever."""
        rig.sign("[training]\nnice = 7")
        rig.path.write_text(OWN.replace("nice = 5", "nice = 77"))
        with pytest.raises(ConfigError, match=r"agent\.toml:5: training\.nice"):
            rig.file.load()

    def test_is_nothing_to_an_agent_that_trusts_nobody(self, rig: Rig) -> None:
        """Without [trust], whatever lies in its state folder."""
        rig.sign("[training]\nnice = 7")
        rig.path.write_text(OWN.partition("[trust]")[0])
        found = load_overlaid(rig.path)
        assert (found.config.training.nice, found.applied) == (5, ())
