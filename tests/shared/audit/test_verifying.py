# SPDX-License-Identifier: Apache-2.0
"""Whatever somebody does to the lines of an audit log is found, and its line is named."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_shared.audit import AuditLog
from fedmill_shared.audit.entry import Head, parse_head
from fedmill_shared.audit.files import full_files
from fedmill_shared.audit.verifying import MOST_FAULTS, Verdict, entries, verify
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError, UsageError

Lines = list[bytes]


def _log(folder: Path, count: int, **options: int) -> AuditLog:
    log = AuditLog(folder / "audit.jsonl", ManualClock(), **options)
    for number in range(count):
        log.record(who="anna", what="job.paused", subject=f"press {number}")
    return log


def _after(folder: Path, tamper: Callable[[Lines], Lines]) -> Verdict:
    """The verdict on ten records whose lines were tampered with."""
    log = _log(folder, 10)
    log.path.write_bytes(b"".join(tamper(log.path.read_bytes().splitlines(keepends=True))))
    return verify(log.path)


def _edited(lines: Lines) -> Lines:
    return [*lines[:4], lines[4].replace(b"anna", b"otto"), *lines[5:]]


def _missing(lines: Lines) -> Lines:
    return lines[:4] + lines[6:]


def _swapped(lines: Lines) -> Lines:
    return [*lines[:4], lines[5], lines[4], *lines[6:]]


def _twice(lines: Lines) -> Lines:
    return lines[:5] + lines[4:]


def _garbled(lines: Lines) -> Lines:
    return [*lines[:4], b"nonsense\n", *lines[5:]]


def _torn(lines: Lines) -> Lines:
    return [*lines[:9], lines[9][:-20]]


def _without_beginning(lines: Lines) -> Lines:
    return lines[3:]


class TestTampering:
    @pytest.mark.parametrize(
        ("tamper", "line", "problem"),
        [
            (_edited, 6, "record 5, the one before, is not as it was"),
            (_missing, 5, "records 5 to 6 are missing"),
            (_swapped, 6, "record 5 is out of its place"),
            (_twice, 6, "record 5 is out of its place"),
            (_garbled, 5, "no record: it was changed"),
            (_torn, 10, "torn"),
            (_without_beginning, 1, "begins with record 4, and none says why"),
        ],
    )
    def test_is_found(
        self, tmp_path: Path, tamper: Callable[[Lines], Lines], line: int, problem: str
    ) -> None:
        """And told by file, line and what is wrong."""
        verdict = _after(tmp_path, tamper)
        assert not verdict.ok
        found = [each for each in verdict.flaws if problem in each.problem]
        assert [(each.file, each.line) for each in found] == [("audit.jsonl", line)]
        assert f"audit.jsonl, line {line}: " in str(found[0])

    def test_untouched(self, tmp_path: Path) -> None:
        """Nothing is said of a whole log; it reaches its own head."""
        head = _log(tmp_path, 10).head()
        verdict = verify(tmp_path / "audit.jsonl", head=head)
        assert verdict == Verdict(records=10, first=1, head=head, flaws=[])

    def test_shortened_is_found_by_a_head_that_was_kept(self, tmp_path: Path) -> None:
        """Its lines alone look whole."""
        log = _log(tmp_path, 10)
        head = log.head()
        lines = log.path.read_bytes().splitlines(keepends=True)
        log.path.write_bytes(b"".join(lines[:8]))
        assert verify(log.path).ok
        (flaw,) = verify(log.path, head=head).flaws
        assert flaw.problem == "the log was shortened: it ends with record 8, and had 10"

    def test_last_line_that_was_changed_is_found_by_its_head(self, tmp_path: Path) -> None:
        """No record behind it names it."""
        head = _log(tmp_path, 10).head()
        path = tmp_path / "audit.jsonl"
        path.write_bytes(path.read_bytes().replace(b"press 9", b"press X"))
        assert verify(path).ok
        (flaw,) = verify(path, head=head).flaws
        assert flaw.line == 10

    def test_chain_that_was_made_anew_is_found_by_an_older_head(self, tmp_path: Path) -> None:
        """Who may write the file can write a chain that fits; it does not fit what was kept."""
        old = _log(tmp_path, 5).head()
        (tmp_path / "audit.jsonl").unlink()
        log = AuditLog(tmp_path / "audit.jsonl", ManualClock())
        for _ in range(10):
            log.record(who="otto", what="job.paused", subject="press")
        assert verify(log.path).ok
        (flaw,) = verify(log.path, head=old).flaws
        assert flaw.line == 5

    def test_chain_that_was_made_anew_and_has_grown(self, tmp_path: Path) -> None:
        """The newest head was told by the forger; one from before shows where it begins."""
        log = _log(tmp_path, 10)
        earlier = [log.head()]
        lines = log.path.read_bytes().splitlines(keepends=True)
        log.path.write_bytes(b"".join(lines[:8]))
        for number in range(5):
            log.record(who="otto", what="job.paused", subject=f"mill {number}")
        assert verify(log.path, head=log.head()).ok
        (flaw,) = verify(log.path, head=log.head(), earlier=earlier).flaws
        assert (flaw.line, "whose head was kept" in flaw.problem) == (10, True)

    def test_heads_from_before_the_log_are_passed_over(self, tmp_path: Path) -> None:
        """What went by the log's bound cannot be compared; as the only head it is told."""
        log = _log(tmp_path, 3, file_bytes=1000, max_bytes=4000)
        old = log.head()
        for number in range(40):
            log.record(who="anna", what="job.paused", subject=f"mill {number}")
        assert verify(log.path).first > old.n
        assert verify(log.path, head=log.head(), earlier=[old, log.head()]).ok
        (flaw,) = verify(log.path, head=old).flaws
        assert flaw.problem.endswith("is from before the log: give a later head")

    def test_file_in_the_middle_that_was_cut(self, tmp_path: Path) -> None:
        """The one behind it names what is missing."""
        log = _log(tmp_path, 30, file_bytes=1000)
        cut = full_files(log.path)[1]
        cut.write_bytes(b"".join(cut.read_bytes().splitlines(keepends=True)[:-1]))
        (flaw,) = verify(log.path).flaws
        assert "missing before this one" in flaw.problem
        assert flaw.file == full_files(log.path)[2].name

    def test_file_in_the_middle_that_was_taken_away(self, tmp_path: Path) -> None:
        """The one behind it names what is missing."""
        log = _log(tmp_path, 30, file_bytes=1000)
        full_files(log.path)[1].unlink()
        (flaw,) = verify(log.path).flaws
        assert "are missing before this one" in flaw.problem
        assert flaw.file == full_files(log.path)[1].name

    def test_growing_file_that_was_taken_away(self, tmp_path: Path) -> None:
        """The full ones alone look whole: a head tells."""
        log = _log(tmp_path, 30, file_bytes=1000)
        head = log.head()
        log.path.unlink()
        assert verify(log.path).ok
        assert not verify(log.path, head=head).ok

    def test_beginning_may_not_go_without_a_record(self, tmp_path: Path) -> None:
        """Only what `audit.discarded` names may be gone."""
        log = _log(tmp_path, 40, file_bytes=1000, max_bytes=4000)
        assert verify(log.path).ok
        full_files(log.path)[0].unlink()
        (flaw,) = verify(log.path).flaws
        assert "none says why" in flaw.problem

    @pytest.mark.parametrize("time", [b"1" + b"0" * 30, b"-1" + b"0" * 30])
    def test_time_that_is_none(self, tmp_path: Path, time: bytes) -> None:
        """The line is told, and left out where records are shown: nobody blinds who looks."""
        log = _log(tmp_path, 5)
        lines = log.path.read_bytes().splitlines(keepends=True)
        lines[2] = re.sub(rb'"time_ns":\d+', b'"time_ns":' + time, lines[2])
        log.path.write_bytes(b"".join(lines))
        assert verify(log.path).flaws[0].line == 3
        assert [each.n for each in entries(log.path)] == [1, 2, 4, 5]

    def test_many_flaws_are_counted(self, tmp_path: Path) -> None:
        """Of a wreck the first are shown."""
        log = _log(tmp_path, 100)
        data = log.path.read_bytes().splitlines(keepends=True)
        log.path.write_bytes(b"".join(data[::-1]))
        verdict = verify(log.path)
        assert len(verdict.flaws) == MOST_FAULTS
        assert verdict.more > 50

    def test_line_without_end(self, tmp_path: Path) -> None:
        """Is read in pieces, and is one flaw."""
        log = _log(tmp_path, 1)
        with log.path.open("ab") as file:
            file.write(b"x" * 1_000_000 + b"\n")
        (flaw,) = verify(log.path).flaws
        assert flaw.line == 2

    @settings(max_examples=60)
    @given(st.data())
    def test_any_byte(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        """Any change of one byte is found, with the head that was kept."""
        folder = tmp_path_factory.mktemp("log")
        log = _log(folder, 4)
        head, content = log.head(), bytearray(log.path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        log.path.write_bytes(content)
        assert not verify(log.path, head=head).ok


class TestReading:
    def test_log_that_grows_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was there at the beginning is judged, also while files change their names."""
        log = _log(tmp_path, 5, file_bytes=1000)
        real = verify.__globals__["entry_of"]

        def slowly(line: bytes) -> object:
            if log.head().n < 25:
                log.record(who="anna", what="job.paused", subject="meanwhile")
            return real(line)

        monkeypatch.setitem(verify.__globals__, "entry_of", slowly)
        verdict = verify(log.path)
        assert verdict.ok, verdict.flaws
        assert verdict.records == 5

    def test_no_log(self, tmp_path: Path) -> None:
        """One error that names the file."""
        with pytest.raises(StoreError, match=r"audit\.jsonl"):
            verify(tmp_path / "audit.jsonl")

    def test_empty_log(self, tmp_path: Path) -> None:
        """Nothing is wrong with it, unless something is known of it."""
        path = tmp_path / "audit.jsonl"
        path.touch()
        assert verify(path).ok
        assert not verify(path, head=Head(1, "ab" * 32)).ok
        assert verify(path, head=Head()).ok


class TestHead:
    def test_is_read_as_it_is_shown(self) -> None:
        """As `status` shows it."""
        head = Head(17, "ab" * 32)
        assert parse_head(str(head)) == head

    @pytest.mark.parametrize("text", ["", "17", "17:abc", ":" + "ab" * 32, "-1:" + "ab" * 32])
    def test_other_texts(self, text: str) -> None:
        """A usage error."""
        with pytest.raises(UsageError, match="N:HASH"):
            parse_head(text)
