# SPDX-License-Identifier: Apache-2.0
"""What an audit log promises to who writes it."""

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.audit import DAEMON, AuditLog, NoAudit
from fedmill_shared.audit.entry import LONGEST_LINE, Entry, bounded, entry_of, line_of
from fedmill_shared.audit.files import full_files
from fedmill_shared.audit.verifying import entries, verify
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import AuditError, StoreError


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """An empty log."""
    return AuditLog(tmp_path / "audit.jsonl", ManualClock())


def _write(log: AuditLog, count: int, begin: int = 1) -> None:
    for number in range(begin, begin + count):
        log.record(who=DAEMON, what="test.done", subject=f"thing {number}")


def _many(path: Path, who: str, count: int) -> None:
    log = AuditLog(path, SystemClock(), file_bytes=4000)
    for number in range(count):
        log.record(who=who, what="test.done", subject=str(number))


class TestRecord:
    def test_says_who_did_what(self, log: AuditLog) -> None:
        """One line of JSON with every field that was given, the time, and what links it."""
        log.record(who="anna", what="job.paused", subject="press", before="running", after="paused")
        assert json.loads(log.path.read_text()) == {
            "n": 1,
            "time_ns": ManualClock().now_ns(),
            "who": "anna",
            "what": "job.paused",
            "subject": "press",
            "before": "running",
            "after": "paused",
            "previous": "0" * 64,
        }

    def test_names_the_line_before(self, log: AuditLog) -> None:
        """By its SHA-256 with its line feed, as `sha256sum` gives it."""
        _write(log, 2)
        first, second = log.path.read_bytes().splitlines(keepends=True)
        assert json.loads(second)["previous"] == hashlib.sha256(first).hexdigest()
        assert log.head().digest == hashlib.sha256(second).hexdigest()

    def test_another_writer_goes_on(self, tmp_path: Path, log: AuditLog) -> None:
        """The chain is that of the file, not of a process."""
        _write(log, 2)
        _write(AuditLog(log.path, ManualClock()), 1, begin=3)
        assert verify(log.path).ok
        assert log.head().n == 3

    def test_only_the_owner_reads_it(self, log: AuditLog) -> None:
        """From its first byte on."""
        _write(log, 1)
        assert log.path.stat().st_mode & 0o777 == 0o600

    def test_is_on_the_disk_when_it_returns(
        self, log: AuditLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file after its line, and its folder after a new file."""
        synced: list[str] = []
        real = os.fsync

        def sync(handle: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
            real(handle)

        monkeypatch.setattr(os, "fsync", sync)
        _write(log, 2)
        assert synced == [str(log.path), str(log.path.parent), str(log.path)]

    @pytest.mark.parametrize("text", ["a\nb", "a\x1b[2Jb", "a\u202eb", "a\udc80b"])
    def test_nothing_forges_lines_or_steers_a_terminal(self, log: AuditLog, text: str) -> None:
        """What others have named is written with escapes."""
        log.record(who=text, what=text, subject=text, before=text, after=text)
        line = log.path.read_text()
        assert line[:-1].isprintable()
        assert next(entries(log.path)).subject == text.encode("unicode_escape").decode()

    def test_fields_are_bounded(self, log: AuditLog) -> None:
        """What is cut off is counted, and the line stays short enough to be read again."""
        huge = "\N{GRINNING FACE}" * 100_000
        log.record(who=huge, what=huge, subject=huge, before='"' * 5000, after=huge)
        _write(log, 1)
        first = next(entries(log.path))
        assert len(first.after) <= 1024
        assert first.after.endswith("... (100000 characters)")
        assert len(log.path.read_bytes().splitlines()[0]) < LONGEST_LINE
        assert verify(log.path).ok

    @pytest.mark.slow
    def test_writers_take_turns(self, tmp_path: Path) -> None:
        """A daemon and commands at the same time, while files get full: one whole chain."""
        path = tmp_path / "audit.jsonl"
        context = multiprocessing.get_context("fork")
        writers = [context.Process(target=_many, args=(path, f"w{i}", 60)) for i in range(4)]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        verdict = verify(path)
        assert verdict.ok, verdict.flaws
        assert verdict.records == 240
        assert len(full_files(path)) > 5

    def test_who_keeps_it_locked_is_not_waited_for_long(
        self, log: AuditLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stopped command must not stop a daemon."""
        monkeypatch.setattr("fedmill_shared.audit.files._PAUSE_SECONDS", 0)
        _write(log, 1)
        code = (
            "import fcntl, sys\nfile = open(sys.argv[1])\nfcntl.flock(file, fcntl.LOCK_EX)\n"
            "print('held', flush=True)\nsys.stdin.read()"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(log.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            with pytest.raises(StoreError, match="locked"):
                _write(log, 1)
            holder.communicate()
        _write(log, 1)
        assert log.head().n == 2

    def test_nobody_needs_a_log(self) -> None:
        """Where there is no state folder, nothing is written and nothing fails."""
        NoAudit().record(who="anna", what="job.paused", subject="press")


class TestFailures:
    def test_torn_line_is_set_aside_and_told(self, log: AuditLog) -> None:
        """After a power cut: its bytes are kept beside the log, and the next record says so."""
        _write(log, 2)
        with log.path.open("ab") as file:
            file.write(b'{"n":3,"time_ns":17')
        _write(log, 1)
        told = [each.what for each in entries(log.path)]
        assert told == ["test.done", "test.done", "audit.torn", "test.done"]
        assert verify(log.path).ok
        (aside,) = log.path.parent.glob("audit.torn-*")
        assert aside.read_bytes() == b'{"n":3,"time_ns":17'
        assert list(entries(log.path))[2].subject == aside.name

    def test_second_power_cut_hides_nothing(
        self, log: AuditLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between setting a torn line aside and the record of it: a later record tells of it."""
        _write(log, 1)
        with log.path.open("ab") as file:
            file.write(b"torn")
        with monkeypatch.context() as patch:
            patch.setattr(AuditLog, "_write", _cut)
            with pytest.raises(KeyboardInterrupt):
                _write(log, 1)
        assert log.path.read_bytes().endswith(b"}\n")
        _write(log, 2)
        assert [each.what for each in entries(log.path)].count("audit.torn") == 1

    def test_torn_first_line(self, log: AuditLog) -> None:
        """The chain begins behind it."""
        log.path.write_bytes(b'{"n":1')
        _write(log, 1)
        assert verify(log.path).ok
        assert log.head().n == 2

    def test_torn_line_of_a_full_file(self, tmp_path: Path) -> None:
        """It does not go with the file."""
        log = AuditLog(tmp_path / "audit.jsonl", ManualClock(), file_bytes=200)
        _write(log, 1)
        with log.path.open("ab") as file:
            file.write(b"torn")
        _write(log, 1)
        assert verify(log.path).ok
        assert [each.what for each in entries(log.path)].count("audit.torn") == 1

    def test_full_disk_leaves_it_as_it_was(self, log: AuditLog) -> None:
        """A process that may write 700 bytes: no half line, and one error with a remedy."""
        code = (
            "import resource, signal, sys\n"
            "from pathlib import Path\n"
            "from fedmill_shared.audit import AuditLog\n"
            "from fedmill_shared.clock import SystemClock\n"
            "from fedmill_shared.errors import StoreError\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))\n"
            "log = AuditLog(Path(sys.argv[1]), SystemClock())\n"
            "try:\n"
            "    while True: log.record(who='a', what='b', subject='c')\n"
            "except StoreError as error: print(error)"
        )
        child = subprocess.run(
            [sys.executable, "-c", code, str(log.path)], check=True, capture_output=True, text=True
        )
        assert "check free space" in child.stdout
        assert verify(log.path).ok
        assert log.path.read_bytes().endswith(b"}\n")
        assert verify(log.path).records > 1

    def test_sync_that_fails_takes_the_record_back(
        self, log: AuditLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What may not be on the disk is not in the log."""
        _write(log, 1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _fails)
            with pytest.raises(StoreError, match="Input/output error"):
                _write(log, 1)
        assert log.head().n == 1
        assert verify(log.path).ok

    def test_line_that_is_no_record_is_told_and_gone_on_from(self, log: AuditLog) -> None:
        """The daemon records on, and `verify` names the line for ever."""
        _write(log, 2)
        with log.path.open("ab") as file:
            file.write(b"nonsense\n")
        _write(log, 1)
        assert [each.what for each in entries(log.path)][2:] == ["audit.broken", "test.done"]
        (flaw,) = verify(log.path).flaws
        assert flaw.line == 3

    @pytest.mark.parametrize("data", [b"x" * 100_000, b"x" * 100_000 + b"\n", b"nonsense\n"])
    def test_file_that_is_no_log_is_left_alone(self, log: AuditLog, data: bytes) -> None:
        """It may be somebody's, or a log that was overwritten."""
        log.path.write_bytes(data)
        with pytest.raises(AuditError, match="does not end with a record"):
            _write(log, 1)
        assert log.path.read_bytes() == data

    def test_symbolic_link_is_not_followed(self, log: AuditLog, tmp_path: Path) -> None:
        """Nobody makes a service append to another file."""
        log.path.symlink_to(tmp_path / "other")
        with pytest.raises(StoreError):
            _write(log, 1)
        assert not (tmp_path / "other").exists()

    def test_folder_that_is_missing(self, tmp_path: Path) -> None:
        """One error that names the file."""
        log = AuditLog(tmp_path / "none" / "audit.jsonl", ManualClock())
        with pytest.raises(StoreError, match=r"none/audit\.jsonl"):
            _write(log, 1)


class TestFiles:
    def test_full_file_gets_a_name_and_the_chain_goes_on(self, tmp_path: Path) -> None:
        """Named by its first record; the new one continues its numbers and digests."""
        log = AuditLog(tmp_path / "audit.jsonl", ManualClock(), file_bytes=600)
        _write(log, 12)
        names = [path.name for path in full_files(log.path)]
        assert names[0] == "audit.000000000001.jsonl"
        assert len(names) > 1
        assert verify(log.path).ok
        assert [each.n for each in entries(log.path)] == list(range(1, 13))

    def test_oldest_go_past_the_bound_and_a_record_says_so(self, tmp_path: Path) -> None:
        """With the head of what went, so that the chain still has a beginning."""
        log = AuditLog(tmp_path / "audit.jsonl", ManualClock(), file_bytes=1000, max_bytes=4000)
        _write(log, 60)
        sizes = [path.stat().st_size for path in [*full_files(log.path), log.path]]
        assert sum(sizes) < 4000 + 2000
        verdict = verify(log.path)
        assert verdict.ok, verdict.flaws
        assert verdict.first > 1
        gone = [each for each in entries(log.path) if each.what == "audit.discarded"]
        assert gone[-1].before.startswith(f"{verdict.first - 1}:")

    def test_small_bound_is_kept_with_smaller_files(self, tmp_path: Path) -> None:
        """A quarter of it goes at once, not all but the newest file."""
        log = AuditLog(tmp_path / "audit.jsonl", ManualClock(), max_bytes=4000)
        _write(log, 60)
        assert len(full_files(log.path)) >= 2
        assert sum(path.stat().st_size for path in [*full_files(log.path), log.path]) < 5500
        assert verify(log.path).ok

    def test_cut_between_record_and_deletion(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file is still there, and goes with the next."""
        log = AuditLog(tmp_path / "audit.jsonl", ManualClock(), file_bytes=1000, max_bytes=3000)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", _cut)
            with pytest.raises(KeyboardInterrupt):
                _write(log, 60)
        assert verify(log.path).ok
        _write(log, 60)
        assert verify(log.path).ok
        assert verify(log.path).first > 1

    def test_cut_between_the_files(self, tmp_path: Path) -> None:
        """The full one has its name, and none has begun: the head is that of the full one."""
        log = AuditLog(tmp_path / "audit.jsonl", ManualClock())
        _write(log, 3)
        head = log.head()
        log.path.rename(tmp_path / "audit.000000000001.jsonl")
        assert log.head() == head
        assert verify(log.path).head == head
        _write(log, 1)
        assert verify(log.path).records == 4

    def test_large_log_is_not_read_to_be_appended_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only some KiB at its end."""
        log = AuditLog(
            tmp_path / "audit.jsonl", ManualClock(), file_bytes=1 << 30, max_bytes=1 << 32
        )
        _write(log, 1)
        line = log.path.read_bytes()
        with log.path.open("ab") as file:
            file.truncate(200 << 20)
            file.seek(0, os.SEEK_END)
            file.write(b"\n" + line)
        read: list[int] = []
        real = os.pread

        def pread(handle: int, count: int, offset: int) -> bytes:
            read.append(count)
            return real(handle, count, offset)

        monkeypatch.setattr(os, "pread", pread)
        _write(log, 1)
        assert sum(read) < 100_000


class TestEntry:
    @given(st.text(), st.text(), st.integers(1, 2**62))
    def test_line_gives_the_record_back(self, who: str, after: str, number: int) -> None:
        """Whatever was said, once it is bounded."""
        entry = Entry(
            n=number,
            time_ns=1,
            who=bounded(who, 128),
            what="a",
            subject="b",
            before="",
            after=bounded(after, 1024),
            previous="0" * 64,
        )
        line = line_of(entry)
        assert line.count(b"\n") == 1
        assert entry_of(line) == entry

    @given(st.binary(max_size=400))
    def test_bytes_that_are_no_record(self, data: bytes) -> None:
        """One error of ours."""
        with pytest.raises(AuditError):
            entry_of(data)


def _cut(*_arguments: object, **_options: object) -> None:
    raise KeyboardInterrupt


def _fails(_handle: int) -> None:
    raise OSError(5, "Input/output error")
