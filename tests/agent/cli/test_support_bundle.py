# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent support-bundle``: everything but secrets and data, also where much is broken."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmill_agent.cli import main
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.clock import ManualClock
from fedmill_shared.files import sha256
from fedmill_shared.support import machine

SECRET = 'hunt"er2-XQ7'  # noqa: S105  planted, to be looked for
CONFIG = f"""
# the password was {SECRET}
[agent]
id = "gw1"
labels = {{line = "{SECRET.replace('"', "")}"}}
[[sources]]
kind = "rest"
name = "mes"
url = "https://anna:{SECRET.replace('"', "")}@mes.example/data?token={SECRET.replace('"', "")}"
headers = {{X-Api-Key = "{SECRET.replace('"', "")}"}}
password_file = "secrets/password"
"""
JOURNAL = f"""#!/bin/sh
echo 'source.failed error="password={SECRET}" {SECRET}'
echo 'broker.connected host=plant'
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An agent with secrets wherever a person may have put one."""
    state = tmp_path / "state"
    (state / "identity").mkdir(parents=True)
    (state / "identity" / "key.pem").write_text(
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
    )
    (state / "windows.sqlite").write_text(f"measured {SECRET}")
    (state / "status.json").write_text(f"{SECRET} is no status")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "password").write_text(SECRET + "\n")
    log = AuditLog(state / FILE, ManualClock())
    log.record(who="anna", what="config.reloaded", subject="x", after=f"password={SECRET}")
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG)
    program = tmp_path / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(JOURNAL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return path


def _bundle(config: Path) -> dict[str, bytes]:
    out = config.parent / "bundle.tar.gz"
    assert main(["support-bundle", str(config), "--out", str(out)]) == 0
    with tarfile.open(out) as archive:
        return {
            each.name.removeprefix("support/"): file.read()
            for each in archive
            if (file := archive.extractfile(each)) is not None
        }


def test_no_secret_is_in_it(config: Path) -> None:
    """Planted in comments, fields, files, logs, keys, data and the audit log."""
    everything = b"\n".join(_bundle(config).values()).decode()
    for secret in (SECRET, SECRET.replace('"', ""), SECRET.replace('"', '\\"'), "XQ7", "PRIVATE"):
        assert secret not in everything
    assert "measured" not in everything


def test_what_helps_is_in_it(config: Path) -> None:
    """Configuration, versions, machine, files with sizes, log and audit log."""
    found = _bundle(config)
    shown = json.loads(found["config.json"])
    assert shown["agent"]["id"] == "gw1"
    assert shown["sources"][0]["url"] == "https://mes.example/data"
    assert "python" in json.loads(found["versions.json"])
    assert json.loads(found["machine.json"])["disk_free_bytes"] > 0
    names = {each["name"] for each in json.loads(found["state-folder.json"])}
    assert {"windows.sqlite", "identity/key.pem"} <= names
    assert b"broker.connected host=plant" in found["journal.txt"]
    assert json.loads(found["audit.json"])["verdict"]["records"] == 1


def test_manifest_names_every_part(config: Path) -> None:
    """By its digest, and what is missing with the reason."""
    found = _bundle(config)
    manifest = json.loads(found.pop("manifest.json"))
    assert {name: each["sha256"] for name, each in manifest["files"].items()} == {
        name: sha256(data) for name, data in found.items()
    }
    assert "status.json" in manifest["missing"]
    assert "certificate.json" in manifest["missing"]


def test_only_its_owner_reads_it(config: Path) -> None:
    """It may say more than its makers think."""
    _bundle(config)
    assert (config.parent / "bundle.tar.gz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [f"[agent\nid = {SECRET}", f'[agent]\nstate = 3\nx = "{SECRET}"'])
def test_broken_configuration(config: Path, text: str) -> None:
    """Of a file that cannot be parsed, nothing is shown."""
    config.write_text(text)
    everything = b"\n".join(_bundle(config).values()).decode()
    assert SECRET not in everything
    assert "versions.json" in everything


def test_nothing_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is missing."""
    found = _bundle(tmp_path / "none.toml")
    assert "versions.json" in found
    assert "missing: config.json" in capsys.readouterr().out


def test_without_a_journal(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert "journal.txt" in json.loads(_bundle(config)["manifest.json"])["missing"]


def test_folder_of_another_user(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is worth sending."""
    refuse: Callable[..., bool] = lambda *_: False  # noqa: E731
    monkeypatch.setattr(machine.os, "access", refuse)
    manifest = json.loads(_bundle(config)["manifest.json"])
    assert "run this as the user" in manifest["missing"]["state-folder.json"]


def test_bundle_that_cannot_be_written(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 21."""
    out = config.parent / "none" / "bundle.tar.gz"
    assert main(["support-bundle", str(config), "--out", str(out)]) == 21
    assert "bundle.tar.gz: cannot be written" in capsys.readouterr().err
