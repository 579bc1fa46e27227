# SPDX-License-Identifier: Apache-2.0
"""Children do what takes cryptography, and tell what went wrong in words."""

import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pki import DAY, Authority, now

from fedmill_agent.identity import children, operations
from fedmill_agent.identity.__main__ import outcome_of
from fedmill_agent.identity.children import Children, Outcome, read_outcome
from fedmill_agent.identity.folder import CA, CERTIFICATE, KEY, IdentityFolder
from fedmill_agent.identity.term import standing
from fedmill_shared.clock import SystemClock
from fedmill_shared.crypto.keys import read_key
from fedmill_shared.errors import IdentityError, StoreError
from fedmill_shared.messages import RenewalRequest, decode

AGENT = "press-4"


@pytest.fixture
def plant() -> Authority:
    """Who issues."""
    return Authority()


@pytest.fixture
def folder(tmp_path: Path, plant: Authority) -> IdentityFolder:
    """The identity of an agent that has one."""
    made = IdentityFolder(tmp_path / "identity")
    plant.issue(AGENT).write(made.path, plant.pem)
    assert operations.look(made, AGENT) is not None
    return made


class TestProcesses:
    def test_a_renewal(self, folder: IdentityFolder, plant: Authority) -> None:
        """From the request to the certificate in use, in processes of their own."""
        worker = Children(folder.path, AGENT)
        before = worker.look()
        message = decode(worker.ask(), RenewalRequest)
        assert before is not None
        assert message.key == before.key
        issued = plant.issue(AGENT, key=read_key(folder.next / KEY))
        outcome = worker.take(issued.pem)
        assert outcome.changed
        assert outcome.facts == folder.facts() == worker.look()
        assert folder.number == 2

    def test_what_goes_wrong(self, folder: IdentityFolder, plant: Authority) -> None:
        """Comes back as the error that it was, with its remedy."""
        worker = Children(folder.path, AGENT)
        with pytest.raises(IdentityError, match="for a key that is not here") as caught:
            worker.take(plant.issue(AGENT).pem)
        assert "identity request" in caught.value.remedy
        (folder.path / CA).unlink()
        (folder.path / CA).mkdir()
        with pytest.raises(StoreError, match="Is a directory"):
            worker.ask()

    def test_nothing_is_imported_from_where_the_daemon_runs(
        self, folder: IdentityFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A file there that is called as one of ours is no program."""
        (tmp_path / "fedmill_agent.py").write_text("raise SystemExit(9)")
        monkeypatch.chdir(tmp_path)
        assert Children(folder.path, AGENT).look() == folder.facts()

    def test_files_elsewhere(self, tmp_path: Path, plant: Authority) -> None:
        """Are looked at."""
        issued = plant.issue(AGENT)
        place = issued.write(tmp_path / "certs", plant.pem)
        worker = Children(tmp_path / "identity", AGENT)
        facts = worker.look_at(place / CERTIFICATE, place / KEY, place / CA)
        assert facts is not None
        assert facts.serial == issued.serial
        assert not (tmp_path / "identity").exists()

    def test_a_certificate_that_never_ends(self, tmp_path: Path, plant: Authority) -> None:
        """As those that makers put into their boxes: it holds as long as we count."""
        begin, end = now() - DAY, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
        place = plant.issue(AGENT, begin=begin, life=end - begin).write(tmp_path / "c", plant.pem)
        worker = Children(tmp_path / "identity", AGENT)
        facts = worker.look_at(place / CERTIFICATE, place / KEY, place / CA)
        assert facts is not None
        assert standing(facts, SystemClock().now_ns()).state == "valid"


class TestTrouble:
    def test_a_child_that_hangs(
        self, folder: IdentityFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is ended, and told."""

        def hang(*_: object, **__: object) -> None:
            raise subprocess.TimeoutExpired("x", 120.0)

        monkeypatch.setattr(subprocess, "run", hang)
        with pytest.raises(IdentityError, match="took over 120 s"):
            Children(folder.path, AGENT).ask()

    def test_no_process_can_be_started(
        self, folder: IdentityFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As without memory."""
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(IdentityError, match="No such file"):
            Children(folder.path, AGENT).ask()

    def test_a_child_that_dies(
        self, folder: IdentityFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says nothing, and that is told."""
        monkeypatch.setattr(children, "_output", lambda *_: b"")
        with pytest.raises(IdentityError, match="without a word"):
            Children(folder.path, AGENT).ask()

    @given(st.binary(max_size=100))
    def test_foreign_bytes(self, data: bytes) -> None:
        """What is no outcome is told as such."""
        with suppress(IdentityError):
            assert isinstance(read_outcome(data), Outcome)

    @pytest.mark.parametrize("arguments", [[], ["ask"], ["eat", "a", "b"], ["look-at", "a", "b"]])
    def test_other_arguments(self, arguments: list[str]) -> None:
        """Are an error, not a traceback."""
        assert "of no use" in outcome_of(arguments, b"", time.time_ns()).error


class TestDaemon:
    def test_imports_no_cryptography(self) -> None:
        """All that the daemon uses of an identity: no cryptography, no TLS, no parser."""
        code = (
            "import sys\n"
            "from fedmill_agent.identity import children, folder, renewal, term, watch\n"
            "print(*sorted({'cryptography', 'ssl', 'argparse', 'shutil'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "\n"
