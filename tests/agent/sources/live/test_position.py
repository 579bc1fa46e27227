# SPDX-License-Identifier: Apache-2.0
"""How far a source was read, across restarts."""

from pathlib import Path

import msgspec
import pytest

from fedmill_agent.cli import observe
from fedmill_agent.cli.observe import look
from fedmill_agent.sources.position import SAVE_SECONDS, Position, placed, unplaced
from fedmill_agent.sources.rest import RestOptions
from fedmill_agent.sources.rig import RigOptions
from fedmill_agent.sources.tail import TailOptions
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import ConfigError


class Place(msgspec.Struct, frozen=True):
    """A place with a number."""

    of: str
    number: int = 0


def position(path: Path, clock: ManualClock | None = None) -> Position[Place]:
    """One that keeps places in ``path``."""
    return Position(str(path), Place, clock or ManualClock())


class TestPosition:
    def test_is_written_when_it_was_taken(self, tmp_path: Path) -> None:
        """What was handed over a moment ago may still be lost with its receiver."""
        path, clock = tmp_path / "a" / "p.json", ManualClock()
        own = position(path, clock)
        own.reach(Place("x", 1))
        assert position(path).load("x") is None
        assert own.take()
        assert position(path).load("x") == Place("x", 1)

    def test_is_written_once_a_second_and_at_the_end(self, tmp_path: Path) -> None:
        """Flash memory wears out."""
        path, clock = tmp_path / "p.json", ManualClock()
        own = position(path, clock)
        for number in range(1, 4):
            own.reach(Place("x", number))
            own.take()
        assert position(path).load("x") == Place("x", 1)
        clock.advance(SAVE_SECONDS)
        own.take()
        assert position(path).load("x") == Place("x", 3)
        own.reach(Place("x", 4))
        assert own.close()
        assert position(path).load("x") == Place("x", 4)

    def test_what_may_not_have_arrived_is_not_written(self, tmp_path: Path) -> None:
        """Where whoever took it failed, it comes again."""
        path, clock = tmp_path / "p.json", ManualClock()
        own = position(path, clock)
        own.reach(Place("x", 1))
        own.take()
        own.reach(Place("x", 2))
        own.take()
        own.reach(Place("x", 3))

        def fail() -> None:
            try:
                raise OSError("the disk is full")
            finally:
                own.close()

        with pytest.raises(OSError, match="full"):
            fail()
        assert position(path).load("x") == Place("x", 2)

    def test_of_something_else_does_not_count(self, tmp_path: Path) -> None:
        """Another path or URL is read from its own beginning."""
        own = position(tmp_path / "p.json")
        own.reach(Place("x", 1))
        own.close()
        assert position(tmp_path / "p.json").load("y") is None

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"of": 1}'])
    def test_a_damaged_file_is_set_aside(self, tmp_path: Path, content: bytes) -> None:
        """And the source begins anew."""
        path = tmp_path / "p.json"
        path.write_bytes(content)
        assert position(path).load("x") is None
        assert (tmp_path / "p.json.damaged").read_bytes() == content

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        """Is refused at the start; one that goes away later is told."""
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="file"):
            position(tmp_path / "file" / "p.json")
        own = position(tmp_path / "folder" / "p.json")
        (tmp_path / "folder").rmdir()
        own.reach(Place("x", 1))
        assert not own.take()

    def test_without_a_file_nothing_is_kept(self) -> None:
        """As for a look."""
        own = Position("", Place, ManualClock())
        own.reach(Place("x", 1))
        assert own.take()
        assert own.close()
        assert own.load("x") is None


class TestPlaces:
    def test_every_source_has_a_file_of_its_own(self, tmp_path: Path) -> None:
        """Whatever its name; a kind that keeps nothing has none."""
        names = ["line 3", "line/3", "line_3", "../x", "ö" * 100]
        files = [placed(RestOptions(name=name), tmp_path).position_file for name in names]  # type: ignore[attr-defined]
        assert len(set(files)) == len(names)
        assert {Path(file).parent for file in files} == {tmp_path}
        assert files[2] == str(tmp_path / "line_3.json")
        rig = RigOptions(name="x")
        assert placed(rig, tmp_path) is rig
        assert unplaced(rig) is rig

    def test_one_that_is_named_stays(self, tmp_path: Path) -> None:
        """The operator's choice."""
        own = RestOptions(name="x", position_file="/var/lib/p.json")
        assert placed(own, tmp_path) is own
        assert unplaced(own) == RestOptions(name="x", history_seconds=3600.0)

    def test_a_look_shows_what_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file to which nothing is added in these seconds is no empty one."""
        monkeypatch.setattr(observe, "LOOK_SECONDS", 0.1)
        path = tmp_path / "log.csv"
        path.write_text("v\n1\n2\n")
        own = TailOptions(
            name="x", path=str(path), interval_seconds=0.01, position_file=str(tmp_path / "p.json")
        )
        (seen,) = look(own, ["v"], SystemClock()).seen.values()
        assert (seen.values, seen.low, seen.high) == (2, 1.0, 2.0)

    def test_a_look_moves_nothing(self, tmp_path: Path) -> None:
        """``check`` reads beside the daemon, which then still gets everything."""
        from tests.agent.sources.live.stands.rest import Stand

        stand, path = Stand(tmp_path), tmp_path / "p.json"
        stand.start()
        try:
            stand.say("speed.value", 1.0)
            seen = look(stand.options(position_file=str(path)), ["speed.value"], ManualClock())
        finally:
            stand.stop()
        assert seen.seen["speed.value"].good
        assert not path.exists()
