# SPDX-License-Identifier: Apache-2.0
"""The commands of an identity as people and machines give them."""

import io
import os
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import NOBODY
from tests.pki import DAY, Authority, now

from fedmill_agent.cli import enrol as enrol_command
from fedmill_agent.cli import main
from fedmill_agent.cli.identity import DEFAULT_CONFIG
from fedmill_agent.cli.identity_lines import identity_lines
from fedmill_agent.config import load
from fedmill_agent.identity import operations
from fedmill_agent.identity.enrolling import Box
from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.listener import Listener
from fedmill_agent.identity.operations import install, request
from fedmill_agent.identity.term import IdentityTold, standing
from fedmill_shared.audit import FILE
from fedmill_shared.audit.person import who
from fedmill_shared.audit.verifying import entries
from fedmill_shared.crypto.certificates import read_certificate, read_request
from fedmill_shared.crypto.codes import make_code
from fedmill_shared.crypto.keys import read_key
from fedmill_shared.errors import StoreError

PLANT = Authority()
CODE = make_code(read_certificate(PLANT.pem).fingerprint)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Configuration of a machine that has no identity yet."""
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nid = "press-4"\n[broker]\nport = 8883\n[broker.tls]\n')
    return path


def folder(config: Path) -> IdentityFolder:
    """Where its identity will be."""
    return IdentityFolder(config.parent / "state" / "identity")


def call(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """The JSON that a command prints."""
    assert main([*map(str, arguments), "--json"]) == code
    return msgspec.json.decode(capsys.readouterr().out)


def issue(config: Path, **fields: Any) -> Path:
    """A certificate for the request that waits."""
    path = config.parent / "issued.pem"
    made = PLANT.issue("press-4", key=read_key(folder(config).next / "key.pem"), **fields)
    path.write_bytes(made.pem)
    (config.parent / "ca.pem").write_bytes(PLANT.pem)
    return path


def files(config: Path) -> list[object]:
    """Arguments of an installation."""
    folder_ = config.parent
    return ["--certificate", folder_ / "issued.pem", "--ca", folder_ / "ca.pem"]


class TestIdentity:
    def test_request_and_install(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Repeated, they change nothing, also after the certificate is there."""
        out = config.parent / "request.pem"
        asked = call(capsys, "identity", "request", config, "--out", out)
        assert asked["changed"] is True
        assert read_request(out.read_bytes())[0] == "press-4"
        assert call(capsys, "identity", "request", config, "--out", out)["changed"] is False
        (made,) = entries(Path(load(config).agent.state) / FILE)
        assert (made.who, made.what, made.after) == (who(), "key.made", asked["key"])
        issue(config)
        taken = call(capsys, "identity", "install", config, *files(config))
        assert taken["changed"] is True
        assert taken["key"] == asked["key"]
        assert call(capsys, "identity", "install", config, *files(config))["changed"] is False
        again = call(capsys, "identity", "request", config, "--out", out)
        assert (again["changed"], again["key"]) == (False, asked["key"])
        assert not folder(config).next.exists()
        another = call(capsys, "identity", "request", config, "--out", out, "--new-key")
        assert another["changed"] is True
        assert another["key"] != asked["key"]

    def test_no_key_is_there_that_is_not_on_record(
        self,
        config: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A kill right before it is written leaves a record too many, never one too few."""
        out, log = config.parent / "request.pem", Path(load(config).agent.state) / FILE

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(operations, "write_key", killed)
            assert main(["identity", "request", str(config), "--out", str(out)]) != 0
        assert [each.what for each in entries(log)] == ["key.made"]
        assert not (folder(config).next / "key.pem").exists()
        asked = call(capsys, "identity", "request", config, "--out", out)
        records = list(entries(log))
        assert [each.what for each in records] == ["key.made"] * 2
        assert records[1].after == asked["key"] != records[0].after

    def test_a_key_that_cannot_be_recorded_is_not_made(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Else the next call would take it for one that is on record."""
        out, log = config.parent / "request.pem", Path(load(config).agent.state) / FILE
        log.mkdir(parents=True)
        assert main(["identity", "request", str(config), "--out", str(out)]) == StoreError.exit_code
        assert f"{FILE}: cannot be written" in capsys.readouterr().err
        assert not (folder(config).next / "key.pem").exists()
        assert not out.exists()
        log.rmdir()
        asked = call(capsys, "identity", "request", config, "--out", out)
        assert [each.after for each in entries(log)] == [asked["key"]]

    def test_for_people(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One line each."""
        out = config.parent / "request.pem"
        assert main(["identity", "request", str(config), "--out", str(out)]) == 0
        assert capsys.readouterr().out.startswith("changed: request for agent press-4, key ")
        issue(config)
        assert main(["identity", "install", str(config), *map(str, files(config))]) == 0
        assert capsys.readouterr().out.startswith("changed: certificate ")

    def test_a_request_that_is_due(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """In the last third of its life a certificate is asked for anew, with another key."""
        out = config.parent / "request.pem"
        first = call(capsys, "identity", "request", config, "--out", out)
        issue(config, begin=now() - 80 * DAY)
        call(capsys, "identity", "install", config, *files(config))
        assert call(capsys, "identity", "request", config, "--out", out)["key"] != first["key"]

    def test_show(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit code 0 while the agent can sign in, else 24 and what to do."""
        told = call(capsys, "identity", "show", config, code=24)
        assert (told["state"], told["waiting_key"]) == ("none", "")
        assert not folder(config).path.exists()
        asked = request(folder(config), "press-4")
        assert call(capsys, "identity", "show", config, code=24)["waiting_key"] == asked.key
        path = issue(config)
        facts, _ = install(
            folder(config), "press-4", path.read_bytes(), PLANT.pem, int(now().timestamp()) * 10**9
        )
        told = call(capsys, "identity", "show", config)
        assert told["serial"] == facts.serial
        assert told["renewal_ns"] > told["not_before_ns"]
        assert main(["identity", "show", str(config)]) == 0
        lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert lines["state"] == "valid"
        assert lines["key"] == facts.key
        private = (folder(config).path / "key.pem").read_text().splitlines()[1]
        assert private not in str(lines)

    def test_show_damage(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Told, not thrown."""
        request(folder(config), "press-4")
        path = issue(config)
        install(
            folder(config), "press-4", path.read_bytes(), PLANT.pem, int(now().timestamp()) * 10**9
        )
        (folder(config).current / "facts.json").write_text("{}")
        assert main(["identity", "show", str(config)]) == 24
        assert "problem" in capsys.readouterr().out
        # what is damaged is put right by installing the same again
        assert call(capsys, "identity", "install", config, *files(config))["changed"] is True
        assert call(capsys, "identity", "show", config)["state"] == "valid"

    def test_files_elsewhere(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """They are shown; nothing is requested or installed that would not be used."""
        PLANT.issue("press-4").write(config.parent / "certs", PLANT.pem)
        names = [f'{name} = "certs/{name}.pem"\n' for name in ("ca", "certificate", "key")]
        config.write_text(config.read_text() + "".join(names))
        assert call(capsys, "identity", "show", config)["renewal_ns"] == 0
        assert main(["identity", "request", str(config), "--out", "x"]) == 10
        assert "names files of its own" in capsys.readouterr().err

    def test_refused(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Files that are missing, and certificates of others, with exit code 24."""
        assert main(["identity", "install", str(config), *map(str, files(config))]) == 24
        assert "issued.pem: the certificate cannot be read" in capsys.readouterr().err
        request(folder(config), "press-4")
        issue(config).write_bytes(PLANT.issue("press-5").pem)
        assert main(["identity", "install", str(config), *map(str, files(config))]) == 24
        assert "of 'press-5', and this is agent 'press-4'" in capsys.readouterr().err

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")
    def test_as_root(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """In a folder that belongs to the service, all files do; what root asked for is root's."""
        state = config.parent / "state"
        state.mkdir()
        os.chown(state, NOBODY, NOBODY)
        out = config.parent / "request.pem"
        call(capsys, "identity", "request", config, "--out", out)
        issue(config)
        call(capsys, "identity", "install", config, *files(config))
        call(capsys, "identity", "show", config)
        owners = {path.lstat().st_uid for path in state.rglob("*")}
        assert owners == {NOBODY}
        assert out.stat().st_uid == 0
        assert stat.S_IMODE((state / "identity" / "key.pem").stat().st_mode) == 0o600
        assert "certificate.installed" in (state / "audit.jsonl").read_text()

    def test_the_usual_place(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a path the configuration is where services have it."""
        if DEFAULT_CONFIG.exists():
            pytest.skip(f"{DEFAULT_CONFIG} is there")
        assert main(["identity", "show"]) == 10
        assert "/etc/fedmill/agent.toml" in capsys.readouterr().err


class TestEnrol:
    @pytest.fixture
    def boxes(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Box, Listener, float]]:
        """Who enrolled where; they get a certificate at once."""
        made: list[tuple[Box, Listener, float]] = []

        def enrol(box: Box, listener: Listener, seconds: float) -> Facts:
            made.append((box, listener, seconds))
            request(box.folder, box.agent)
            issued = PLANT.issue(box.agent, key=read_key(box.folder.next / "key.pem"))
            now_ns = box.clock.now_ns()
            return install(box.folder, box.agent, issued.pem, PLANT.pem, now_ns)[0]

        monkeypatch.setattr(enrol_command, "enrol", enrol)
        return made

    def test_ways_to_give_the_code(
        self,
        config: Path,
        boxes: list[Any],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As an argument, in a file, on standard input; it is never printed."""
        path = config.parent / "code"
        path.write_text(f"  {CODE}\n")
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{CODE}\n"))
        for given in (["--code", str(CODE)], ["--code-file", str(path)], []):
            assert main(["enrol", str(config), *given]) == 0
            assert str(CODE) not in capsys.readouterr().out
        assert [each[0].code for each in boxes] == [CODE] * 3

    def test_where(
        self, config: Path, boxes: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The enrolment listener of the broker, under the name that its certificate has."""
        text = config.read_text().replace("port = 8883", 'port = 8883\nhost = "10.0.0.7"')
        config.write_text(text + 'server_name = "broker.plant"\n')
        assert main(["enrol", str(config), "--code", str(CODE), "--timeout", "5"]) == 0
        box, listener, seconds = boxes[0]
        assert box.agent == "press-4"
        assert (listener.host, listener.port, listener.name) == ("10.0.0.7", 8884, "broker.plant")
        assert seconds == 5.0
        out = capsys.readouterr().out
        assert out.startswith("agent press-4 enrols at 10.0.0.7:8884\n")
        assert "restart" not in out

    def test_without_the_section(
        self, config: Path, boxes: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What is missing for the certificate to be used is told."""
        config.write_text(config.read_text().replace("[broker.tls]\n", ""))
        assert main(["enrol", str(config), "--code", str(CODE)]) == 0
        assert "add [broker.tls]" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            (["--code", "ABCD"], 24, "56 letters and digits, 4 letters and digits were typed"),
            (["--code", "x", "--code-file", "y"], 2, "not allowed with"),
            (["--code-file", "/nowhere"], 2, "/nowhere: cannot be read"),
            (["--code", str(CODE), "--timeout", "0"], 2, "timeout"),
            (["--code", str(CODE), "--timeout", "nan"], 2, "timeout"),
        ],
    )
    def test_wrong(
        self,
        config: Path,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        code: int,
        told: str,
    ) -> None:
        """One line."""
        assert main(["enrol", str(config), *arguments]) == code
        assert told in capsys.readouterr().err


class TestStatus:
    def test_lines(self) -> None:
        """Number and times; what is wrong, and what to do; nothing for a link in the clear."""
        assert list(identity_lines(None)) == []
        [line] = identity_lines(IdentityTold(state="none", problem="none yet", remedy="enrol"))
        assert line == "none yet: enrol"
        facts = Facts(
            agent="press-4",
            serial="2a",
            not_before_ns=0,
            not_after_ns=90 * 86_400 * 10**9,
            fingerprint="0" * 64,
            key="1" * 16,
            authority="f" * 64,
        )
        [line] = identity_lines(standing(facts, 1))
        assert line == (
            "certificate 2a until 1970-04-01 00:00 UTC, renewed from 1970-03-02 00:00 UTC"
        )
        assert len(list(identity_lines(standing(facts, 2**62)))) == 2
