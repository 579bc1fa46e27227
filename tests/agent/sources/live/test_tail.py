# SPDX-License-Identifier: Apache-2.0
"""CSV files that grow, are rotated, cut, copied and replaced."""

import math
import os
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_agent.config import load
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.sources.live import BAD, GOOD, Delivered, Readings
from fedmill_agent.sources.tail import KIND, TailOptions, tracked
from fedmill_agent.sources.tail import folder as following
from fedmill_agent.sources.tail.session import TailSession
from fedmill_agent.sources.tail.stretch import Stretch
from fedmill_agent.sources.timeline import parse_iso
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError, SourceError

LIVE = KIND.live
assert LIVE is not None
SECOND = 10**9
Nobody = Callable[[], AbstractContextManager[None]]


def values(delivered: Sequence[Delivered], tag: str = "v") -> list[float]:
    """All values of a tag."""
    return [
        float(value)
        for each in delivered
        if isinstance(each, Readings) and each.tag == tag
        for value in each.values
    ]


def labels(delivered: Sequence[Delivered]) -> list[LabelInterval]:
    """What is a label."""
    return [each for each in delivered if isinstance(each, LabelInterval)]


class Follower:
    """A source on a file of a test, with a clock that the test moves."""

    def __init__(self, path: Path, tags: Sequence[str] = ("v",), **changes: Any) -> None:
        usual = {"name": "line", "start": "beginning", "time_column": "t", "interval_seconds": 0.1}
        self.clock = ManualClock()
        self.options = TailOptions(path=str(path), **(usual | changes))
        session = LIVE.open(self.options, list(tags), self.clock)  # type: ignore[union-attr]
        assert isinstance(session, TailSession)
        self.session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    @property
    def counts(self) -> dict[str, int]:
        """What was left out."""
        return {why: n for why, n in self.session.counts.items() if n and why != "late poll"}

    def all(self, seconds: float = 1.0) -> list[Delivered]:
        """What comes until two looks bring nothing."""
        found: list[Delivered] = []
        empty = 0
        while empty < 2:
            self.clock.advance(seconds)
            came = self.session.read(0.0)
            found += came
            empty = 0 if came else empty + 1
        return found

    def values(self, seconds: float = 1.0) -> list[float]:
        """Values of ``v`` in what comes."""
        return values(self.all(seconds))


def rows(first: int, last: int) -> str:
    """Rows in which time and value are the number of the row."""
    return "".join(f"{number},{number}\n" for number in range(first, last))


def append(path: Path, text: str) -> None:
    """Write to the end of a file."""
    with path.open("a", newline="") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a logger writes, with a header and five rows."""
    path = tmp_path / "log.csv"
    path.write_text("t,v\n" + rows(0, 5))
    return path


class TestGrowth:
    def test_rows_as_they_come(self, log: Path) -> None:
        """Values with the times of their rows, each once."""
        with Follower(log) as follower:
            (first,) = follower.all()
            assert isinstance(first, Readings)
            assert first.values.tolist() == [0, 1, 2, 3, 4]
            assert first.times_ns.tolist() == [i * SECOND for i in range(5)]
            assert set(first.quality.tolist()) == {GOOD}
            append(log, rows(5, 7))
            assert follower.values() == [5, 6]
            assert follower.values() == []

    def test_a_half_line_waits_for_its_end(self, log: Path) -> None:
        """However small the pieces in which it comes."""
        with Follower(log) as follower:
            follower.all()
            for piece in ("5", ",12", ".", "5"):
                append(log, piece)
                assert follower.values() == []
            append(log, "\r\n6,")
            assert follower.values() == [12.5]

    @settings(max_examples=30)
    @given(st.lists(st.integers(1, 40), max_size=12))
    def test_any_pieces_give_the_same_rows(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
    ) -> None:
        """Wherever the writer is interrupted."""
        path = tmp_path_factory.mktemp("any") / "log.csv"
        text = 't,v,"a, b"\n' + "".join(f'{i},{i}.25,"x, {i}"\n' for i in range(12))
        path.write_text("")
        seen: list[float] = []
        with Follower(path) as follower:
            for size in [*sizes, len(text)]:
                append(path, text[:size])
                text = text[size:]
                seen += follower.values()
        assert seen == [i + 0.25 for i in range(12)]

    def test_the_end_is_where_it_begins_by_default(self, log: Path) -> None:
        """What was there before anybody looked is not read; a half line is, once it is whole."""
        append(log, "5,")
        with Follower(log, start="end") as follower:
            assert follower.values() == []
            append(log, "50\n6,60\n")
            assert follower.values() == [50, 60]

    def test_a_file_that_comes_later_is_read_from_its_beginning(self, tmp_path: Path) -> None:
        """Also where it begins at the end of what is there."""
        path = tmp_path / "log.csv"
        with Follower(path, start="end") as follower:
            assert follower.values() == []
            assert follower.session.problems == {"v": f"there is no file {path}"}
            path.write_text("t,v\n" + rows(0, 2))
            assert follower.values() == [0, 1]
            assert follower.session.problems == {}

    def test_it_is_looked_at_when_it_is_time(self, log: Path) -> None:
        """Not in between; a backlog is read without waiting."""
        log.write_text("t,v\n" + "".join(f"{i},{i}\n" for i in range(100_000)))
        with Follower(log) as follower:
            count = 0
            while came := follower.session.read(0.0):
                count += len(values(came))
            assert count == 100_000
            append(log, "100000,1\n")
            assert follower.session.read(0.0) == []

    def test_memory_is_bounded(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A large backlog comes in pieces."""
        monkeypatch.setattr(tracked, "PIECE", 1 << 14)
        log.write_text("t,v\n" + "".join(f"{i},{i}.5\n" for i in range(60_000)))
        with Follower(log) as follower:
            follower.session.read(0.0)
            tracemalloc.start()
            while follower.session.read(0.0):
                pass
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert log.stat().st_size > 800_000
        assert peak < 2_000_000


class TestRows:
    def test_dialect(self, tmp_path: Path) -> None:
        """As CSV sources read it: separators, decimal commas, status texts, Windows' letters."""
        path = tmp_path / "log.csv"
        path.write_bytes(
            "sep=;\r\nZeit;Kraft °;Teil\r\n31.01.2024 12:00:00;1,5;A7\r\n"
            "31.01.2024 12:00:01;Bad Input;A7\r\n\r\n31.01.2024 12:00:02;off;A8\r\n".encode(
                "cp1252"
            )
        )
        with Follower(
            path, ["Kraft °", "Teil"], time_column="Zeit", time_format="%d.%m.%Y %H:%M:%S",
            time_zone="Europe/Berlin", delimiter=";", decimal=",", missing=["bad input"],
            encoding="cp1252", run_tag="Teil",
        ) as follower:  # fmt: skip
            found = [each for each in follower.all() if isinstance(each, Readings)]
        assert [(each.tag, each.text, len(each)) for each in found] == [
            ("Teil", "A7", 2), ("Teil", "A8", 1), ("Kraft °", "", 2), ("Kraft °", "off", 1)
        ]  # fmt: skip
        assert found[0].times_ns[0] == parse_iso("2024-01-31T11:00:00Z")
        assert found[2].values[0] == 1.5
        assert math.isnan(found[2].values[1])
        assert found[2].quality.tolist() == [GOOD, BAD]
        assert follower.counts == {"type": 1}

    @pytest.mark.parametrize(
        ("cell", "time", "changes"),
        [
            ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z", {}),
            ("2024-01-01 00:00:00.25", "2024-01-01T00:00:00.25Z", {}),
            ("2024-07-01 02:00:00", "2024-07-01T00:00:00Z", {"time_zone": "Europe/Berlin"}),
            ("2024-07-01T00:00:00Z", "2024-07-01T00:00:00Z", {"time_zone": "Europe/Berlin"}),
            ("1704067200.5", "2024-01-01T00:00:00.5Z", {}),
            ("1704067200500", "2024-01-01T00:00:00.5Z", {"time_unit": "ms"}),
        ],
    )
    def test_times(self, log: Path, cell: str, time: str, changes: dict[str, Any]) -> None:
        """ISO 8601 with or without a zone, and numbers in a unit."""
        log.write_text(f"t,v\n{cell},1\n")
        with Follower(log, **changes) as follower:
            (found,) = follower.all()
        assert isinstance(found, Readings)
        assert found.times_ns.tolist() == [parse_iso(time)]

    def test_without_a_time_column_rows_are_as_old_as_the_look(self, log: Path) -> None:
        """That is all that is known."""
        with Follower(log, time_column="") as follower:
            (found,) = follower.all()
            assert isinstance(found, Readings)
            assert set(found.times_ns.tolist()) == {found.arrived_ns}

    def test_files_without_a_header(self, log: Path) -> None:
        """Columns get their names from the options."""
        log.write_text("0,7\n1,8\n")
        with Follower(log, columns=["t", "v"]) as follower:
            assert follower.values() == [7, 8]
            assert follower.values() == []

    def test_what_is_no_row_is_counted(self, log: Path) -> None:
        """Torn lines, wrong times, what is no text: the rows around them come."""
        log.write_bytes(
            b"t,v\n1,1\n2\n3,3,3\nnoon,4\n\0\0\0,\0\n\xff,6\n7,7\n\n  \n" + b'8,"8\n9,9\n'
        )
        with Follower(log) as follower:
            assert follower.values() == [1, 7, 9]
            assert follower.counts == {"garbage": 6}

    def test_a_missing_column_is_its_own_problem(self, log: Path) -> None:
        """Of that tag; the others come."""
        with Follower(log, ["v", "w"]) as follower:
            assert follower.values() == [0, 1, 2, 3, 4]
            problem = follower.session.problems["w"]
        assert problem == f"{log} has no column 'w'; columns are t, v"

    def test_a_header_in_the_middle(self, log: Path) -> None:
        """A logger that starts again writes it again, perhaps with other columns."""
        with Follower(log) as follower:
            append(log, "t,v\n5,5\nt,new,v\n6,0,6\n")
            assert follower.values() == [0, 1, 2, 3, 4, 5, 6]
            append(log, "7,0,7\n")
            assert follower.values() == [7]
            append(log, "v,t\n8,8\n")
            assert follower.values() == [8]
        assert follower.counts == {}

    def test_overlong_lines_are_left_out(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """And memory with them; the next line counts."""
        append(log, "5," + "1" * (5 << 20))
        with Follower(log) as follower:
            assert follower.values() == [0, 1, 2, 3, 4]
            append(log, "1" * (3 << 20))
            assert follower.values() == []
            append(log, "\n6,6\n")
            assert follower.values() == [6]
            assert follower.counts == {"garbage": 1}

    def test_a_first_row_behind_much_else(self, log: Path) -> None:
        """A hole, as a power cut leaves it: what tells the file from others stays short."""
        with log.open("wb") as file:
            file.truncate(64 << 20)
        append(log, "\nt,v\n7,7\n")
        found: list[float] = []
        with Follower(log) as follower:
            tracemalloc.start()
            while not found:
                follower.clock.advance(1.0)
                found += values(follower.session.read(0.0))
            append(log, "8,8\n")
            found += follower.values()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert found == [7, 8]
        assert peak < 20 << 20

    @settings(max_examples=40)
    @given(st.binary(max_size=300))
    def test_arbitrary_bytes(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        """Are rows or garbage, and end nothing."""
        path = tmp_path_factory.mktemp("any") / "log.csv"
        path.write_bytes(b"t,v\n" + data + b"\n1,77\n")
        with Follower(path) as follower:
            assert follower.values()[-1:] in ([77.0], [])


class TestRotation:
    def test_rename_and_create(self, log: Path) -> None:
        """The old file is read to its end under its new name, then the new one."""
        with Follower(log) as follower:
            follower.all()
            append(log, rows(5, 7))
            log.rename(log.with_suffix(".csv.1"))
            log.write_text("t,v\n" + rows(7, 9))
            assert follower.values() == [5, 6, 7, 8]
            append(log.with_suffix(".csv.1"), rows(100, 101))
            assert follower.values() == [100]

    def test_rename_and_create_while_nobody_looks(self, log: Path, tmp_path: Path) -> None:
        """The agent comes back and finds the old file by what the kernel calls it."""
        own = {"position_file": str(tmp_path / "state" / "p.json")}
        with Follower(log, **own) as follower:
            follower.all()
        append(log, rows(5, 7))
        log.rename(log.with_suffix(".csv.1"))
        log.write_text("t,v\n" + rows(7, 9))
        with Follower(log, **own) as follower:
            assert follower.values() == [5, 6, 7, 8]

    def test_deleted_files_are_read_to_their_end(self, log: Path) -> None:
        """As long as they are open, which the newest one is."""
        with Follower(log) as follower:
            follower.all()
            append(log, rows(5, 7))
            log.unlink()
            assert follower.values() == [5, 6]
            log.write_text("t,v\n" + rows(7, 9))
            assert follower.values() == [7, 8]

    def test_truncation(self, log: Path) -> None:
        """A file that is written anew is read anew."""
        with Follower(log) as follower:
            follower.all()
            log.write_text("t,v\n" + rows(10, 12))
            assert follower.values() == [10, 11]
            assert follower.counts == {"truncated": 1}

    def test_truncation_that_has_overtaken_us(self, log: Path) -> None:
        """Larger than before, and yet another one: it begins otherwise."""
        with Follower(log) as follower:
            follower.all()
            log.write_text("t,v\n" + rows(10, 30))
            assert follower.values() == list(range(10, 30))

    @pytest.mark.parametrize("looked", [True, False])
    def test_copytruncate(self, tmp_path: Path, *, looked: bool) -> None:
        """The copy is read on where the original was: nothing twice, nothing lost."""
        log = tmp_path / "log.csv"
        log.write_text("t,v\n" + rows(0, 5))
        with Follower(tmp_path / "log.csv*") as follower:
            assert follower.values() == [0, 1, 2, 3, 4]
            append(log, rows(5, 7))
            shutil.copy2(log, tmp_path / "log.csv.1")
            seen = follower.values() if looked else []
            with log.open("r+") as file:
                file.truncate(0)
            seen += follower.values()
            append(log, "t,v\n" + rows(7, 9))
            seen += follower.values()
        assert seen == [5, 6, 7, 8]

    def test_a_file_that_is_rewritten_with_more(self, log: Path) -> None:
        """Exporters write all of it anew and rename it over the old one: only new rows count."""
        with Follower(log) as follower:
            follower.all()
            for last in (7, 9):
                new = log.with_name("new.tmp")
                new.write_text("t,v\n" + rows(0, last))
                new.replace(log)
                assert follower.values() == [last - 2, last - 1]

    def test_an_end_that_was_cut_off(self, log: Path) -> None:
        """What is before it was read already."""
        with Follower(log) as follower:
            follower.all()
            os.truncate(log, len("t,v\n" + rows(0, 3)))
            assert follower.values() == []
            append(log, rows(3, 6))
            assert follower.values() == [3, 4, 5]
            assert follower.counts == {"shortened": 1}


class TestFolders:
    def test_older_files_first_then_the_newest(self, tmp_path: Path) -> None:
        """By the time of their last change; files of other names are not touched."""
        for age, name in enumerate(("c", "a", "b")):
            path = tmp_path / f"day-{name}.csv"
            path.write_text("t,v\n" + rows(10 * age, 10 * age + 2))
            os.utime(path, (1000 + age, 1000 + age))
        (tmp_path / "other.csv").write_text("t,v\n99,99\n")
        with Follower(tmp_path / "day-*.csv") as follower:
            assert follower.values() == [0, 1, 10, 11, 20, 21]
            append(tmp_path / "day-b.csv", rows(22, 24))
            assert follower.values() == [22, 23]
            (tmp_path / "day-z.csv").write_text("t,v\n" + rows(30, 32))
            assert follower.values() == [30, 31]

    def test_headers_may_differ(self, tmp_path: Path) -> None:
        """Each file is read by its own."""
        for number, text in enumerate(("t,v\n1,1\n", "v,x,t\n2,0,2\n", "t,x\n3,3\n", "t,v\n4,4\n")):
            path = tmp_path / f"{number}.csv"
            path.write_text(text)
            os.utime(path, (number, number))
        with Follower(tmp_path / "*.csv") as follower:
            assert follower.values() == [1, 2, 4]
            assert follower.session.problems == {}

    def test_the_last_line_of_a_finished_file(self, tmp_path: Path) -> None:
        """Counts without its end, once nothing more comes and a newer file is there."""
        (tmp_path / "1.csv").write_text("t,v\n1,1\n2,2")
        os.utime(tmp_path / "1.csv", (1000, 1000))
        with Follower(tmp_path / "*.csv") as follower:
            assert follower.values() == [1]
            (tmp_path / "2.csv").write_text("t,v\n3,3\n")
            assert follower.values(0.1) == [3]
            assert follower.values(following.QUIET_SECONDS) == [2]
            assert follower.values() == []

    def test_compressed_files_are_told(self, tmp_path: Path) -> None:
        """They are not read: they were, before somebody packed them."""
        (tmp_path / "log.csv.1.gz").write_bytes(b"x")
        with Follower(tmp_path / "log*") as follower:
            assert follower.values() == []
            assert follower.counts == {"compressed": 1}

    def test_many_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """More than can be open, and more than are remembered: each row once."""
        monkeypatch.setattr(following, "MOST_MARKS", 30)
        for number in range(70):
            path = tmp_path / f"{number:03}.csv"
            path.write_text(f"t,v\n{number},{number}\n")
            os.utime(path, (1000 + number, 1000 + number))
        own = {"position_file": str(tmp_path / "state" / "p.json")}
        with Follower(tmp_path / "*.csv", **own) as follower:
            assert follower.values() == list(range(70))
            assert follower.values() == []
            open_files = [
                link for link in Path("/proc/self/fd").iterdir()
                if str(tmp_path) in os.path.realpath(link)
            ]  # fmt: skip
            assert len(open_files) <= following.MOST_OPEN
        with Follower(tmp_path / "*.csv", **own) as follower:
            assert follower.values() == []
            (tmp_path / "new.csv").write_text("t,v\n70,70\n")
            assert follower.values() == [70]

    def test_too_many_files_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pattern that means everything is a mistake."""
        monkeypatch.setattr(following, "MOST_FILES", 3)
        for number in range(4):
            (tmp_path / f"{number}.csv").write_text("t,v\n")
        with pytest.raises(SourceError, match="more than 3"):
            Follower(tmp_path / "*.csv")

    def test_what_is_no_file_is_left_alone(self, tmp_path: Path) -> None:
        """Folders, pipes and links into nowhere."""
        (tmp_path / "a.csv").mkdir()
        os.mkfifo(tmp_path / "b.csv")
        (tmp_path / "c.csv").symlink_to(tmp_path / "gone")
        (tmp_path / "d.csv").write_text("t,v\n1,1\n")
        with Follower(tmp_path / "*.csv") as follower:
            assert follower.values() == [1]

    def test_a_link_that_is_moved_on(self, tmp_path: Path) -> None:
        """``current.csv`` leads to the newest file; what the old one still has comes too."""
        old, new, link = (tmp_path / name for name in ("1.log", "2.log", "current.csv"))
        old.write_text("t,v\n" + rows(0, 2))
        link.symlink_to(old)
        with Follower(link) as follower:
            assert follower.values() == [0, 1]
            append(old, rows(2, 3))
            new.write_text("t,v\n" + rows(3, 5))
            link.unlink()
            link.symlink_to(new)
            assert follower.values() == [2, 3, 4]


class TestPosition:
    def test_a_restart_neither_loses_nor_repeats(self, log: Path, tmp_path: Path) -> None:
        """Whatever is written while the agent is away."""
        own = {"position_file": str(tmp_path / "state" / "p.json"), "start": "end"}
        with Follower(log, **own) as follower:
            assert follower.values() == []
        append(log, rows(5, 7))
        with Follower(log, **own) as follower:
            assert follower.values() == [5, 6]
        append(log, "7")
        with Follower(log, **own) as follower:
            assert follower.values() == []
            append(log, ",7\n")
            assert follower.values() == [7]

    def test_rows_that_nobody_took_come_again(self, log: Path, tmp_path: Path) -> None:
        """A power cut between the reading and the next one repeats, and does not lose."""
        own = {"position_file": str(tmp_path / "state" / "p.json")}
        first = Follower(log, **own)
        assert values(first.session.read(0.0)) == [0, 1, 2, 3, 4]
        with Follower(log, **own) as second:
            assert second.values() == [0, 1, 2, 3, 4]
        first.session.close()

    def test_a_header_is_known_after_a_restart(self, log: Path, tmp_path: Path) -> None:
        """Also one in the middle of the file."""
        own = {"position_file": str(tmp_path / "state" / "p.json")}
        append(log, "v,x,t\n5,0,5\n")
        with Follower(log, **own) as follower:
            follower.all()
        append(log, "6,0,6\n")
        with Follower(log, **own) as follower:
            assert follower.values() == [6]

    def test_without_a_file_every_session_begins_anew(self, log: Path) -> None:
        """As a look by hand does."""
        for _ in range(2):
            with Follower(log) as follower:
                assert follower.values() == [0, 1, 2, 3, 4]

    def test_another_path_begins_anew(self, log: Path, tmp_path: Path) -> None:
        """The position is of the path that it was made for."""
        own = {"position_file": str(tmp_path / "state" / "p.json")}
        with Follower(log, **own) as follower:
            follower.all()
        with Follower(tmp_path / "log*", **own) as follower:
            assert follower.values() == [0, 1, 2, 3, 4]

    @settings(max_examples=25)
    @given(
        st.lists(
            st.sampled_from(["rows", "half", "rotate", "truncate", "copy", "restart", "read"]),
            max_size=25,
        )
    )
    def test_any_order_of_events(
        self, tmp_path_factory: pytest.TempPathFactory, events: list[str]
    ) -> None:
        """Every row once, whatever logger, rotation and agent do, if it is read before a cut."""
        folder = tmp_path_factory.mktemp("any")
        log, own = folder / "log.csv", {"position_file": str(folder / "state" / "p.json")}
        log.write_text("t,v\n")
        count, seen, half, rotated = 0, list[float](), False, 0
        follower = Follower(folder / "log.csv*", **own)
        for event in events:
            if event == "rows":
                append(log, f"{count}\n" if half else "")
                count += half
                half = False
                append(log, rows(count, count + 3))
                count += 3
            elif event == "half" and not half:
                append(log, f"{count},")
                half = True
            elif half:
                continue
            elif event in ("rotate", "copy"):
                rotated += 1
                target = folder / f"log.csv.{rotated}"
                if event == "rotate":
                    log.rename(target)
                    log.write_text("t,v\n")
                else:
                    seen += follower.values()
                    shutil.copy2(log, target)
                    log.write_text("t,v\n")
                    seen += follower.values()
            elif event == "truncate":
                seen += follower.values()
                log.write_text("t,v\n")
                seen += follower.values()
            elif event == "read":
                seen += follower.values()
            elif event == "restart":
                follower.session.close()
                follower = Follower(folder / "log.csv*", **own)
        seen += follower.values()
        follower.session.close()
        assert sorted(seen) == list(range(count))


class TestLabels:
    def test_classes_as_stretches(self, tmp_path: Path) -> None:
        """Told when they end, and each minute before that."""
        log = tmp_path / "log.csv"
        log.write_text("t,v,state\n" + "".join(f"{i},0,good\n" for i in range(100)))
        with Follower(log, label_column="state") as follower:
            first = labels(follower.all(0.1))
            assert first == [LabelInterval("line", 0, 60 * SECOND, text="good")]
            append(log, "100,0,bad\n101,0,\n102,0,good\n")
            assert labels(follower.all(0.1)) == [
                LabelInterval("line", 0, 99 * SECOND, text="good"),
                LabelInterval("line", 100 * SECOND, 100 * SECOND, text="bad"),
            ]
            assert labels(follower.all(6.0)) == [
                LabelInterval("line", 102 * SECOND, 102 * SECOND, text="good")
            ]
            assert labels(follower.all(6.0)) == []

    def test_numbers_and_runs(self, tmp_path: Path) -> None:
        """Runs are called as the samples of the run are; a label without a run is nobody's."""
        log = tmp_path / "log.csv"
        log.write_text("t,v,wear,part\n0,0,1,7\n1,0,2,7\n2,0,3,7\n3,0,9,8\n4,0,9,\n5,0,x,A\n")
        with Follower(
            log,
            ["v", "part"],
            label_column="wear",
            label_kind="number",
            run_tag="part",
            unit="press",
        ) as follower:
            found = labels(follower.all(6.0))
        assert found == [
            LabelInterval("press/7", 0, 2 * SECOND, start_value=1.0, end_value=3.0),
            LabelInterval("press/8", 3 * SECOND, 3 * SECOND, start_value=9.0, end_value=9.0),
        ]

    @given(st.lists(st.tuples(st.integers(1, 100), st.sampled_from(["a", "b", None])), max_size=60))
    def test_every_row_is_in_what_was_told(self, steps: list[tuple[int, str | None]]) -> None:
        """With its own label, and with no other."""
        stretch, now, truth = Stretch(), 0, dict[int, str | None]()
        told: list[LabelInterval] = []
        for seconds, label in steps:
            now += seconds * SECOND
            truth[now] = label
            told += stretch.take("run", now, label)
        told += stretch.rest()
        for time_ns, label in truth.items():
            covering = {each.text for each in told if each.start_ns <= time_ns <= each.end_ns}
            assert covering == ({label} if label else set())


class TestErrors:
    def test_a_missing_folder(self, tmp_path: Path) -> None:
        """Cannot be opened: it is tried again, and the path is named."""
        with pytest.raises(SourceError, match="gone: No such file"):
            Follower(tmp_path / "gone" / "log.csv")

    def test_a_folder_that_goes_away(self, tmp_path: Path) -> None:
        """Ends the session; a new one works when it is back."""
        place = tmp_path / "share"
        place.mkdir()
        (place / "log.csv").write_text("t,v\n1,1\n")
        with Follower(place / "log.csv") as follower:
            assert follower.values() == [1]
            shutil.rmtree(place)
            with pytest.raises(SourceError, match="share"):
                follower.all()

    def test_a_file_that_may_not_be_read(
        self, log: Path, as_nobody: Nobody, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Is named, where its folder may be read."""
        log.chmod(0)
        log.parent.chmod(0o755)
        monkeypatch.chdir(log.parent)  # a name from here asks for no right in the folders above
        told = pytest.raises(SourceError, match=r"log\.csv: Permission denied")
        with as_nobody(), Follower(Path(log.name)) as follower, told:
            follower.all()

    def test_a_position_that_cannot_be_kept(self, log: Path) -> None:
        """Is refused at the start."""
        with pytest.raises(ConfigError, match="position_file"):
            Follower(log, position_file=str(log / "p.json"))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"path": "a*/b.csv"}, "pattern in a folder"),
            ({"decimal": ",", "delimiter": ","}, "both"),
            ({"columns": ["a", "a"]}, "twice"),
            ({"time_zone": "Mars/Olympus"}, "unknown here"),
            ({"time_zone": "../etc/passwd"}, "unknown here"),
            ({"time_format": "%H:%M"}, "no year"),
            ({"time_format": "%Q"}, "`time_format`"),
            ({"start": "middle"}, "start"),
        ],
    )
    def test_options_that_cannot_be(self, changes: dict[str, Any], message: str) -> None:
        """Refused with the configuration, in words that name the field."""
        raw = {"kind": "tail", "name": "x", "path": "x.csv", **changes}
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert(raw, TailOptions)

    def test_the_path_is_beside_the_configuration(self, tmp_path: Path) -> None:
        """A pattern too."""
        path = tmp_path / "agent.toml"
        path.write_text(
            '[agent]\nid = "a"\n[[sources]]\nkind = "tail"\nname = "x"\npath = "logger/*.csv"\n'
        )
        (source,) = load(path).sources
        assert isinstance(source, TailOptions)
        assert source.path == str(tmp_path / "logger" / "*.csv")
        assert source.silence_seconds == 0


class TestDiscovery:
    def test_columns_of_the_newest_file(self, log: Path) -> None:
        """With the cells of the last line, and what they are."""
        log.write_text("t,v,state,empty\n1,1.5,good,\n2,2.5,bad,\n")
        own = TailOptions(name="x", path=str(log), time_column="t")
        found = [(each.tag, each.type, each.value) for each in LIVE.discover(own, ManualClock())]  # type: ignore[misc, union-attr]
        assert found == [
            ("t", "time", "2"), ("v", "number", "2.5"), ("state", "text", "bad"),
            ("empty", "number", ""),
        ]  # fmt: skip

    def test_a_file_without_rows(self, log: Path) -> None:
        """Has columns all the same."""
        log.write_text("t,v\n")
        own = TailOptions(name="x", path=str(log))
        assert [each.tag for each in LIVE.discover(own, ManualClock())] == ["t", "v"]  # type: ignore[misc, union-attr]

    @pytest.mark.parametrize(("content", "message"), [(None, "no file"), ("", "no header")])
    def test_nothing_to_list(self, tmp_path: Path, content: str | None, message: str) -> None:
        """Says what is missing."""
        if content is not None:
            (tmp_path / "log.csv").write_text(content)
        own = TailOptions(name="x", path=str(tmp_path / "log.csv"))
        with pytest.raises(SourceError, match=message):
            list(LIVE.discover(own, ManualClock()))  # type: ignore[misc, union-attr]


def test_readings_are_what_others_expect(log: Path) -> None:
    """Types of the arrays, as ``Readings`` promises them."""
    with Follower(log) as follower:
        (found,) = follower.all()
    assert isinstance(found, Readings)
    assert (found.times_ns.dtype, found.values.dtype) == (np.int64, np.float64)
    assert found.quality.dtype == np.uint16
