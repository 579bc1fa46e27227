# SPDX-License-Identifier: Apache-2.0
"""A real daemon takes a changed configuration, without a broker."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fedmill_agent.cli import main
from fedmill_agent.status import Status, read_status
from fedmill_shared.audit import FILE
from fedmill_shared.audit.person import who
from fedmill_shared.audit.verifying import entries
from fedmill_shared.errors import StoreError

TEXT = (
    '[agent]\nid = "a"\n[broker]\nport = 1\n[training]\nnice = 3\n'
    '[[sources]]\nkind = "host"\nname = "box"\ninterval_seconds = 0.2\n'
    'tags = {cpu = "cpu_percent"}\n'
)
PATIENCE = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A configuration file."""
    made = tmp_path / "agent.toml"
    made.write_text(TEXT)
    return made


@pytest.fixture
def daemon(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A running agent."""
    log = path.with_suffix(".log")
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, "-m", "fedmill_agent", "run", str(path)], stdout=stream, stderr=stream
        )
    try:
        wait(path, lambda status: status.sources["box"].readings > 0)
        yield child
    finally:
        child.terminate()
        assert child.wait(PATIENCE) == 0


def wait(path: Path, until: object) -> Status:
    """The daemon's status once it is as wanted."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            status = read_status(path.parent / "state")
            if until(status):  # type: ignore[operator]
                return status
        except (StoreError, KeyError):
            pass
        time.sleep(0.05)
    raise AssertionError(path.with_suffix(".log").read_text())


@pytest.mark.system
class TestReload:
    def test_a_source_that_is_the_same_keeps_its_connection(
        self, path: Path, daemon: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Another one comes beside it, and goes again, many times."""
        more = (
            '[[sources]]\nkind = "host"\nname = "other"\ninterval_seconds = 0.2\n'
            'tags = {cpu = "cpu_percent"}\n'
        )
        for turn in range(5):
            path.write_text(TEXT + (more if turn % 2 == 0 else ""))
            assert main(["reload", str(path)]) == 0
        acts = list(entries(path.parent / "state" / FILE))
        asked = [each.who for each in acts if each.what == "ordered.reload"]
        assert asked == [who()] * 5
        out = capsys.readouterr().out
        assert out.count("sources.other                    added    taken") == 3
        assert out.count("sources.other                    removed  taken") == 2
        status = wait(path, lambda status: status.sources["other"].readings > 0)
        assert status.sources["box"].connections == 1
        assert status.config.count == 5

    def test_what_it_says(
        self, path: Path, daemon: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing; what would be taken; what needs a restart; what is wrong."""
        assert main(["reload", str(path)]) == 0
        assert capsys.readouterr().out == "nothing has changed\n"
        path.write_text(TEXT.replace("nice = 3", "nice = 4").replace("port = 1", "port = 2"))
        assert main(["reload", str(path), "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert "training.nice                    changed  would be taken" in out
        assert "broker.port                      changed  restart required" in out
        assert main(["reload", str(path), "--json"]) == 0
        body = msgspec.json.decode(capsys.readouterr().out)
        assert body["taken"] is True
        assert [each["field"] for each in body["changes"]] == ["broker.port", "training.nice"]
        status = read_status(path.parent / "state")
        assert status.config.restart_required == ("broker.port",)
        for more in (["--dry-run"], []):  # what waits for a restart goes on waiting
            assert main(["reload", str(path), *more]) == 0
            told = "broker.port                      changed  restart required\n"
            assert capsys.readouterr().out == told
        path.with_name("good.toml").write_text(TEXT)
        path.write_text(TEXT.replace("nice = 3", "nice = 99"))
        assert main(["reload", str(path)]) == 10
        assert "training.nice is 99" in capsys.readouterr().err
        daemon.send_signal(signal.SIGHUP)  # who does not ask the command is told by the status
        wait(path, lambda status: status.config.error)
        assert main(["status", str(path.with_name("good.toml"))]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "config the changed file is not in use" in out
        assert "training.nice is 99" in out
        assert "config restart required: broker.port" in out

    def test_a_daemon_of_another_user(
        self,
        path: Path,
        daemon: object,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Is not ours to ask; comparing needs no right to write beside the file."""

        def refuse(_pid: int, signal: int) -> None:
            if signal:
                raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.kill", refuse)
        monkeypatch.setattr(Path, "write_bytes", lambda *_: pytest.fail("a file was written"))
        assert main(["reload", str(path), "--dry-run"]) == 0
        assert main(["reload", str(path)]) == 21
        assert "cannot be asked: Operation not permitted" in capsys.readouterr().err


class TestNoDaemon:
    def test_it_never_ran(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """There is nothing to compare with."""
        assert main(["reload", str(path)]) == 21
        assert "has the agent been started" in capsys.readouterr().err
