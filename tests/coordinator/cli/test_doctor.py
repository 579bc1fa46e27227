# SPDX-License-Identifier: Apache-2.0
"""``fedmill doctor``: what is wrong is found, and has a remedy."""

import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from fedmill_coordinator.pki.authority import Authority
from fedmill_coordinator.trust.founding import found as found_plant
from fedmill_coordinator.trust.repository import Repository
from fedmill_shared.audit import FILE, AuditLog
from fedmill_shared.clock import ManualClock
from fedmill_shared.crypto.keys import read_key
from fedmill_shared.files import state_folder
from fedmill_shared.trust import TrustRole

Run = Callable[..., Result]
Found = dict[str, dict[str, str]]


@pytest.fixture
def port() -> Iterator[int]:
    """Something listens where the broker should."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def config(plant: SimpleNamespace, port: int) -> Path:
    """A coordinator that could run."""
    path: Path = plant.config
    path.write_text(f"[broker]\nport = {port}\n")
    (path.parent / "state").chmod(0o700)
    log = AuditLog(path.parent / "state" / FILE, ManualClock())
    for _ in range(3):
        log.record(who="anna", what="order.pause", subject="tiny")
    return path


def _forget_version(database: Path) -> None:
    with closing(sqlite3.connect(database)) as rows, rows:
        rows.execute("DELETE FROM schema_version")


def _found(run: Run, config: Path, code: int = 0) -> Found:
    result = run("doctor", "--config", config, "--json")
    assert result.exit_code == code, result.stdout + result.stderr
    return {each["check"]: each for each in json.loads(result.stdout)}


def test_healthy(run: Run, config: Path) -> None:
    """Nothing fails; every check has a line."""
    with state_folder(config.parent / "state", "coordinator"):
        found = _found(run, config)
    names = {"configuration", "state folder", "disk", "daemon", "database", "broker", "audit log"}
    assert {name: found[name]["state"] for name in names} == dict.fromkeys(names, "ok")
    assert found["audit log"]["detail"].startswith("3 records, head 3:")
    assert "python" in found["software"]["detail"]


def test_everything_that_is_not_ok_has_a_remedy(run: Run, empty: Path) -> None:
    """Of a coordinator that never ran."""
    empty.write_text("[broker]\nport = 1\n")
    found = _found(run, empty, 1)
    wrong = [each for each in found.values() if each["state"] != "ok"]
    assert {"state folder", "broker"} <= {each["check"] for each in wrong}
    assert [each for each in wrong if not each["remedy"]] == []


def test_wrong_configuration(run: Run, empty: Path) -> None:
    """What needs none is checked anyway."""
    empty.write_text("[broker]\nport = true\n")
    found = _found(run, empty, 1)
    assert found["configuration"]["state"] == "failed"
    assert "software" in found


@pytest.mark.parametrize(
    ("harm", "check", "state"),
    [
        (lambda state: (state / "fedmill.sqlite").write_bytes(b"x" * 9999), "database", "failed"),
        (lambda state: _forget_version(state / "fedmill.sqlite"), "database", "failed"),
        (lambda state: state.chmod(0o755), "state folder", "warning"),
        (lambda state: (state / FILE).write_text("{}\n"), "audit log", "failed"),
        (lambda state: (state / FILE).unlink(), "audit log", "warning"),
    ],
)
def test_what_is_wrong(
    run: Run, config: Path, harm: Callable[[Path], object], check: str, state: str
) -> None:
    """Each by its own check."""
    harm(config.parent / "state")
    found = _found(run, config, 1 if state == "failed" else 0)
    assert found[check]["state"] == state
    assert found[check]["remedy"]


def test_job_file_that_is_gone(run: Run, config: Path) -> None:
    """The daemon would not start."""
    config.write_text(config.read_text() + '[coordinator]\njobs = ["none.toml"]\n')
    assert "none.toml" in _found(run, config, 1)["jobs"]["detail"]


def test_for_people(run: Run, config: Path) -> None:
    """A line each, the state first."""
    result = run("doctor", "--config", config)
    assert "ok       database: whole, schema" in result.stdout
    assert "warning  daemon: no coordinator runs" in result.stdout


def test_certificate_that_is_missing(run: Run, config: Path) -> None:
    """Its file is named."""
    config.write_text(config.read_text() + "[broker.tls]\n")
    found = _found(run, config, 1)
    assert "certificate.pem" in found["certificate"]["detail"]


@pytest.mark.parametrize(("days", "state"), [(365, "ok"), (27, "warning")])
def test_certificate_of_the_broker(run: Run, config: Path, days: int, state: str) -> None:
    """As it was last issued: a warning while there is time, and how to get another one."""
    config.write_text(config.read_text() + "[pki]\n")
    at = ["--config", config]
    assert run("ca", "init", *at).exit_code == 0
    out = config.parent / "broker"
    issued = run("ca", "issue-broker", "plant", "--out", out, "--days", str(days), *at)
    assert issued.exit_code == 0, issued.stderr
    found = _found(run, config)["broker's certificate"]
    assert found["state"] == state
    assert found["detail"].startswith("good until 20")
    assert ("issue-broker" in found["remedy"]) is (state == "warning")


@pytest.mark.parametrize(("days", "state"), [(0, "ok"), (-11, "warning"), (-31, "failed")])
def test_list_of_revocations(run: Run, config: Path, days: int, state: str) -> None:
    """A broker whose list has run out turns everybody away."""
    config.write_text(config.read_text() + "[pki]\n")
    assert run("ca", "init", "--config", config).exit_code == 0
    folder = config.parent / "state" / "pki"
    made_ns = time.time_ns() + days * 86_400 * 10**9
    authority = Authority.load((folder / "ca.pem").read_bytes(), read_key(folder / "ca.key"))
    (folder / "crl.pem").write_bytes(authority.revocations([], made_ns))
    found = _found(run, config, 1 if state == "failed" else 0)["revocations"]
    assert found["state"] == state
    assert ("fedmill ca crl" in found["remedy"]) is (state != "ok")


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("nonsense")])
def test_list_that_is_none(run: Run, config: Path, harm: Callable[[Path], object]) -> None:
    """The same."""
    config.write_text(config.read_text() + "[pki]\n")
    assert run("ca", "init", "--config", config).exit_code == 0
    harm(config.parent / "state" / "pki" / "crl.pem")
    found = _found(run, config, 1)["revocations"]
    assert "crl.pem" in found["detail"]
    assert "fedmill ca crl" in found["remedy"]


@pytest.mark.parametrize(
    ("days", "states"),
    [
        (0, {"ok"}),
        (3, {"ok", "failed"}),
        (80, {"ok", "warning", "failed"}),
    ],
)
def test_signed_metadata(run: Run, config: Path, days: int, states: set[str]) -> None:
    """Each role by its own term; what is over, or will be, has the command that renews it."""
    config.write_text(config.read_text() + '[trust]\nfolder = "trust"\nkeys = "online"\n')
    folder = config.parent
    clock = ManualClock(time.time_ns() - days * 86_400 * 10**9)
    found_plant(Repository(folder / "trust"), folder / "sticks", folder / "online", clock)
    found = _found(run, config, 1 if "failed" in states else 0)
    roles = {
        name.removeprefix("signed metadata: "): each
        for name, each in found.items()
        if name.startswith("signed metadata: ")
    }
    assert set(roles) == set(TrustRole)
    assert {each["state"] for each in roles.values()} == states
    assert [name for name, each in roles.items() if each["state"] != "ok"] == [
        name for name, each in roles.items() if each["remedy"]
    ]
    if days == 80:
        assert "`fedmill trust renew targets" in roles["targets"]["remedy"]
        assert "start the coordinator" in roles["timestamp"]["remedy"]


def test_repository_that_is_not_there(run: Run, config: Path) -> None:
    """Agents would take nothing."""
    config.write_text(config.read_text() + "[trust]\n")
    assert "fedmill trust init" in _found(run, config, 1)["signed metadata"]["remedy"]


def test_metrics_on_another_kind_of_address(run: Run, config: Path) -> None:
    """The daemon listens on those, too."""
    config.write_text(config.read_text() + '[metrics]\nhost = "::1"\nport = 9\n')
    assert _found(run, config)["metrics"]["detail"] == "::1:9 is free"


def test_port_of_metrics(run: Run, config: Path, port: int) -> None:
    """That another program has."""
    config.write_text(config.read_text() + f"[metrics]\nport = {port}\n")
    assert "another program" in _found(run, config, 1)["metrics"]["detail"]
