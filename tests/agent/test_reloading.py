# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.records import Records

from fedmill_agent.changes import Change
from fedmill_agent.config import AgentConfig
from fedmill_agent.places import good_config
from fedmill_agent.reloading import ConfigFile, Reloaded
from fedmill_shared.files import sha256
from fedmill_shared.log import get_logger

TEXT = '[agent]\nid = "a"\n[training]\nnice = 3\n[[sources]]\nkind = "rig"\nname = "r"\n'


class Taker:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[AgentConfig, list[str]]] = []

    def __call__(self, config: AgentConfig, found: Sequence[Change]) -> None:
        """Take a change."""
        self.taken.append((config, [each.field for each in found]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A configuration file."""
    made = tmp_path / "agent.toml"
    made.write_text(TEXT)
    return made


class TestKeep:
    def test_a_good_file_is_copied(self, path: Path) -> None:
        """To the state folder, byte for byte."""
        config = ConfigFile(path).load()
        ConfigFile(path).keep(config.agent.state, get_logger())
        assert good_config(config.agent.state).read_text() == TEXT

    def test_a_copy_that_cannot_be_kept_ends_nothing(self, path: Path) -> None:
        """The agent scores also with a full disk; it is told."""
        (path.parent / "file").write_text("")
        with capture_logs() as events:
            ConfigFile(path).keep(str(path.parent / "file"), get_logger())
        assert [each["event"] for each in events] == ["config.not_kept"]


class TestBegin:
    def test_a_change_since_the_last_start_is_in_the_audit_log(self, path: Path) -> None:
        """By the digests of both; none where it is the same."""
        audit, state = Records(), ConfigFile(path).load().agent.state
        changed = TEXT.replace("nice = 3", "nice = 7")
        for text in (TEXT, TEXT, changed):
            path.write_text(text)
            ConfigFile(path, audit).begin(state, get_logger())
        first, second = (sha256(text.encode()) for text in (TEXT, changed))
        assert audit == [
            ("daemon", "config.changed", str(path), "", first),
            ("daemon", "config.changed", str(path), first, second),
        ]


class TestReload:
    def test_is_in_the_audit_log(self, path: Path) -> None:
        """By the digests of the file before and after, and the fields; a refused one too."""
        audit = Records()
        file, old = ConfigFile(path, audit), ConfigFile(path).load()
        file.keep(old.agent.state, get_logger())
        path.write_text(TEXT.replace("nice = 3", "nice = 7"))
        new = sha256(path.read_bytes())
        file.reload(old, get_logger(), Taker())
        path.write_text("[agent]")
        file.reload(old, get_logger(), Taker())
        reloaded, refused = audit
        assert (reloaded.what, reloaded.before) == ("config.reloaded", sha256(TEXT.encode()))
        assert reloaded.after == f"{new}: training.nice changed"
        assert (refused.what, refused.before) == ("config.refused", new)
        assert "has no id" in refused.after

    def test_what_changed_is_taken(self, path: Path) -> None:
        """With the fields that did; the copy is the new file."""
        file, taker = ConfigFile(path), Taker()
        old = file.load()
        path.write_text(TEXT.replace("nice = 3", "nice = 7").replace('"r"', '"s"'))
        with capture_logs() as events:
            file.reload(old, get_logger(), taker)
        ((config, fields),) = taker.taken
        assert fields == ["training.nice", "sources.r", "sources.s"]
        assert config.training.nice == 7
        assert file.outcome == Reloaded(1)
        assert good_config(old.agent.state).read_text() == path.read_text()
        assert events[0]["event"] == "config.reloaded"
        assert events[0]["changed"] == ("training.nice changed,sources.r removed,sources.s added")

    def test_of_a_wrong_file_nothing_is_taken(self, path: Path) -> None:
        """What is wrong is told, and where the last good one is; a right one later is taken."""
        file, taker = ConfigFile(path), Taker()
        old = file.load()
        path.write_text(TEXT.replace("nice = 3", "nice = 99"))
        with capture_logs() as events:
            file.reload(old, get_logger(), taker)
        assert taker.taken == []
        assert file.outcome.count == 1
        assert "training.nice is 99" in file.outcome.error
        assert events[0]["event"] == "config.refused"
        assert events[0]["last_good"] == str(good_config(old.agent.state))
        path.write_text(TEXT.replace("nice = 3", "nice = 9"))
        file.reload(old, get_logger(), taker)
        assert file.outcome == Reloaded(2)
        assert len(taker.taken) == 1

    def test_what_needs_a_restart_is_said_and_not_taken(self, path: Path) -> None:
        """Until it is restarted, each time anew."""
        file, taker = ConfigFile(path), Taker()
        old = file.load()
        path.write_text(TEXT + "[broker]\nport = 1884\n")
        for _ in range(2):
            file.reload(old, get_logger(), taker)
        assert taker.taken == []
        assert file.outcome == Reloaded(2, restart_required=("broker.port",))

    def test_an_unchanged_file_changes_nothing(self, path: Path) -> None:
        """However often it is read."""
        file, taker = ConfigFile(path), Taker()
        old = file.load()
        for _ in range(100):
            file.reload(old, get_logger(), taker)
        assert taker.taken == []
        assert file.outcome == Reloaded(100)

    def test_a_file_that_is_gone(self, path: Path) -> None:
        """Is a wrong one."""
        file, taker = ConfigFile(path), Taker()
        old = file.load()
        path.unlink()
        file.reload(old, get_logger(), taker)
        assert file.outcome.error
        assert taker.taken == []
