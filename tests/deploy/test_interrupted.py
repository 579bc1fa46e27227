# SPDX-License-Identifier: Apache-2.0
"""A run that ends early, at whatever point, is made good by the next one."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.roles import ANSIBLE, all_tasks, load, played, role_tasks

from fedmill_coordinator.store.schema import VERSION
from fedmill_coordinator.store.sql import SqlStore

UNREAD = ANSIBLE / "roles/common/files/unread.py"
KEEP = ANSIBLE / "roles/coordinator/files/keep.py"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="what the plays write is root's")
_LONG_AGO = 1e9
_SYSTEMCTL = """#!/bin/sh
case "$*" in
    *MainPID*) echo {pid} ;;
    *NeedDaemonReload*changed.slice) echo yes ;;
    *NeedDaemonReload*) echo no ;;
    *) printf 'LoadState=loaded\\nActiveState=inactive\\n' ;;
esac
"""


def _systemctl(folder: Path, pid: int) -> None:
    """A systemd by which every service is the process ``pid``; 0: none runs."""
    program = folder / "bin/systemctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(_SYSTEMCTL.format(pid=pid))
    program.chmod(0o755)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A file that was there before the service."""
    path = tmp_path / "older"
    path.write_text("1")
    time.sleep(0.05)  # times of processes are told to 10 ms
    return path


@pytest.fixture
def service(older: Path, tmp_path: Path) -> Iterator[int]:
    """A process that runs."""
    with subprocess.Popen(["sleep", "600"]) as process:
        _systemctl(tmp_path, process.pid)
        time.sleep(0.05)
        yield process.pid
        process.kill()


def _unread(folder: Path, units: str, *files: Path) -> list[str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    told = subprocess.run(
        [sys.executable, str(UNREAD), units, *map(str, files)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return list(json.loads(told))


@pytest.mark.usefixtures("service")
class TestUnread:
    def test_a_file_is_unread_that_is_younger_than_the_process(
        self, tmp_path: Path, older: Path
    ) -> None:
        """Whoever wrote it, and however that run ended; one that is not there is not read."""
        assert _unread(tmp_path, "it.service", older, tmp_path / "none") == []
        younger = tmp_path / "younger"
        younger.write_text("1")
        assert _unread(tmp_path, "it.service", older, younger) == [str(younger)]

    def test_a_service_that_does_not_run_reads_all_at_its_start(
        self, tmp_path: Path, older: Path
    ) -> None:
        """Nothing is to be restarted on a fresh machine."""
        _systemctl(tmp_path, 0)
        assert _unread(tmp_path, "it.service", older) == []

    def test_systemd_itself_says_which_units_it_has_not_read(self, tmp_path: Path) -> None:
        """Those of a process that has begun since still run by what was there before."""
        assert _unread(tmp_path, "it.service,changed.slice") == ["changed.slice"]

    @root_only
    def test_a_copy_is_as_old_as_its_inode(self, tmp_path: Path, older: Path) -> None:
        """A certificate is copied with the time at which it was issued."""
        os.utime(older, (_LONG_AGO, _LONG_AGO))
        assert _unread(tmp_path, "it.service", older) == [str(older)]

    @root_only
    def test_a_folder_that_is_given_to_the_service_is_not_changed(
        self, tmp_path: Path, older: Path
    ) -> None:
        """At a start with another user systemd gives all in it to that one."""
        os.chown(older, 12345, 12345)
        assert _unread(tmp_path, "it.service", older) == []


class TestServices:
    @pytest.mark.parametrize("options", [(), ("--check",)])
    @pytest.mark.parametrize("changed", [True, False])
    def test_what_was_never_read_is_read_by_the_next_run(
        self, tmp_path: Path, older: Path, service: int, options: tuple[str], *, changed: bool
    ) -> None:
        """And a check says so."""
        assert service
        if changed:
            older.write_text("2")
        play = {
            "hosts": "gw1",
            "tasks": [role_tasks("common", "unread")],
            "handlers": [{"name": "Restart it", "ansible.builtin.debug": {"msg": "anew"}}],
        }
        given = {
            "common_python": sys.executable,
            "common_unread_units": ["it.service"],
            "common_unread_files": [str(older)],
            "common_unread_handler": "Restart it",
        }
        code, text = played(tmp_path, play, *options, **given)
        assert code == 0, text
        assert ("anew" in text) == changed
        assert (" changed=1 " in text) == changed

    @pytest.mark.parametrize("role", ["agent", "broker", "coordinator"])
    def test_every_file_that_restarts_a_service_is_looked_at(
        self, tmp_path: Path, role: str
    ) -> None:
        """Who adds one adds it to `<role>_internal_files`, too."""
        tasks = [
            self._asked(role, task)
            for name in (role, "pki")
            for task in all_tasks(name)
            if f"Restart the {role}" in str(task.get("notify", ""))
            and any(
                module in task for module in ("ansible.builtin.copy", "ansible.builtin.template")
            )
            and "first list" not in task["name"]  # a broker that has none does not run
        ]
        assert len(tasks) > 2
        variables = [
            str(path)
            for name in ("common", "pki", role)
            for kind in ("defaults", "vars")
            if (path := ANSIBLE / "roles" / name / kind / "main.yml").exists()
        ]
        play = {"hosts": "gw1", "vars_files": variables, "tasks": tasks}
        given = {"agent_secrets": {"one": "1", "two": "2"}, "coordinator_jobs": ["a/b.toml"]}
        code, text = played(tmp_path, play, common_components=["agent"], **given)
        assert code == 0, text
        assert "skipped=0" in text

    def test_it_is_looked_at_before_handlers_run(self) -> None:
        """Else the restart would come with the run after the next."""
        for role in ("agent", "broker", "coordinator"):
            names = [task["name"] for task in load(ANSIBLE / f"roles/{role}/tasks/run.yml")]
            asked = names.index("Run | Look what it has not read")
            assert asked < names.index("Run | Use what has changed")

    def _asked(self, role: str, task: dict[str, Any]) -> dict[str, Any]:
        """The task, as one that only says whether its file is one of those that are looked at."""
        path = next(task[key] for key in task if key.endswith((".copy", ".template")))["dest"]
        return {
            "name": task["name"],
            "loop": task.get("loop", ["once"]),
            "vars": {"path": path},
            "ansible.builtin.assert": {"that": f"path in {role}_internal_files"},
        }


@root_only
class TestUpgrade:
    def _plays(self) -> list[dict[str, Any]]:
        (gateways,) = [each for each in load(ANSIBLE / "upgrade.yml") if "serial" in each]
        first, *keeping, _ = gateways["tasks"]
        assert "install the release" in first["name"]
        return [{"hosts": "gw1", "vars": gateways["vars"], "tasks": keeping}, gateways]

    def _files(self, folder: Path) -> dict[str, Any]:
        for name in ("0.1.0", "0.1.1"):
            (folder / "releases" / name).mkdir(parents=True)
        (folder / "current").symlink_to(folder / "releases/0.1.0")
        (folder / "plant.conf").write_text("[Service]\n")
        return {
            "common_root": str(folder),
            "common_internal_release": str(folder / "releases/0.1.1"),
            "upgrade_files": [str(folder / "agent.toml"), str(folder / "plant.conf")],
            "common_version": "0.1.1",
        }

    def test_the_configuration_of_then_is_kept_once(self, tmp_path: Path) -> None:
        """The run after one that ended between configuration and link finds the new one there."""
        given = self._files(tmp_path)
        play, _ = self._plays()
        kept = tmp_path / "releases/0.1.0/agent.toml"
        for written in ("old", "new"):
            (tmp_path / "agent.toml").write_text(written)
            code, text = played(tmp_path, play, **given)
            assert code == 0, text
            assert kept.read_text() == "old"

    def test_another_upgrade_keeps_what_there_is_then(self, tmp_path: Path) -> None:
        """`site.yml` has made the release current again meanwhile, with other settings."""
        given = self._files(tmp_path)
        play, _ = self._plays()
        (tmp_path / "agent.toml").write_text("old")
        assert played(tmp_path, play, **given)[0] == 0
        current = {**given, "common_internal_release": str(tmp_path / "releases/0.1.0")}
        _systemctl(tmp_path, 0)
        activate = {"hosts": "gw1", "tasks": [role_tasks("common", "activate")]}
        quiet = {"common_components": [], "common_internal_programs": []}
        code, text = played(tmp_path, activate, **{**current, **quiet})
        assert code == 0, text
        (tmp_path / "agent.toml").write_text("other")
        assert played(tmp_path, play, **given)[0] == 0
        assert (tmp_path / "releases/0.1.0/agent.toml").read_text() == "other"

    def test_what_goes_wrong_before_the_link_gets_the_configuration_of_then(
        self, tmp_path: Path
    ) -> None:
        """Also in the second run, after which nothing is left any more."""
        given = self._files(tmp_path)
        play, gateways = self._plays()
        (tmp_path / "agent.toml").write_text("old")
        assert played(tmp_path, play, **given)[0] == 0
        (tmp_path / "agent.toml").write_text("new")
        broken = {
            "block": [{"ansible.builtin.fail": {}}],
            "rescue": gateways["tasks"][-1]["rescue"],
        }
        play["tasks"].append(broken)
        code, text = played(tmp_path, play, **given)
        assert code != 0
        assert "gw1 did not come back with 0.1.1" in text
        assert (tmp_path / "agent.toml").read_text() == "old"
        assert not (tmp_path / "leaving").is_symlink()


_KILLED = """
import os, sqlite3, sys
store = sqlite3.connect(sys.argv[1])
store.execute("pragma journal_mode = wal")
store.execute("create table late (word)")
store.execute("insert into late values ('in the log')")
store.commit()
os._exit(9)
"""


class TestDatabase:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        """One of a coordinator that was killed: its newest rows are not in its file yet."""
        path = tmp_path / "fedmill.sqlite"
        with SqlStore.in_file(path) as store:
            store.live_blobs()
        subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False)
        assert path.with_name("fedmill.sqlite-wal").stat().st_size > 0
        return path

    def _keep(self, database: Path) -> Path:
        copy = database.with_name("fedmill.sqlite.0.1.0")
        command = [sys.executable, "-I", "-", str(database), str(copy)]
        subprocess.run(command, input=KEEP.read_text(), text=True, check=True)
        return copy

    def _value(self, path: Path, statement: str) -> object:
        with closing(sqlite3.connect(path)) as store:
            (value,) = store.execute(statement).fetchone()
            return value

    def _execute(self, path: Path, statement: str) -> None:
        with closing(sqlite3.connect(path)) as store:
            store.execute(statement)
            store.commit()

    def test_a_kill_loses_nothing_of_it(self, database: Path) -> None:
        """The copy is one whole file, and needs no other beside it."""
        copy = self._keep(database)
        assert sorted(copy.parent.glob(f"{copy.name}*")) == [copy]
        assert self._value(copy, "select word from late") == "in the log"
        assert self._value(copy, "select version from schema_version") == VERSION
        assert self._value(copy, "pragma integrity_check") == "ok"

    def test_older_tables_are_not_written_over(self, database: Path) -> None:
        """A run that ended early may have changed them: the way back needs those of then."""
        copy = self._keep(database)
        self._execute(database, "update schema_version set version = version + 1")
        self._execute(database, "update late set word = 'of the newer release'")
        self._keep(database)
        assert self._value(copy, "select version from schema_version") == VERSION
        assert self._value(copy, "select word from late") == "in the log"

    def test_another_upgrade_keeps_what_there_is_then(self, database: Path) -> None:
        """The coordinator has gone on with the release that is left."""
        copy = self._keep(database)
        self._execute(database, "update late set word = 'later'")
        self._keep(database)
        assert self._value(copy, "select word from late") == "later"

    def test_a_copy_that_is_none_is_replaced(self, database: Path) -> None:
        """Half of one, or one that nobody can read."""
        database.with_name("fedmill.sqlite.0.1.0").write_bytes(b"half of one" * 1000)
        assert self._value(self._keep(database), "select word from late") == "in the log"

    @root_only
    def test_the_role_keeps_it(self, tmp_path: Path, database: Path) -> None:
        """Under the name of the release that is left."""
        release = tmp_path / "releases/0.1.1"
        (release / "bin").mkdir(parents=True)
        (release / "bin/python").symlink_to(sys.executable)
        (tmp_path / "current").symlink_to(tmp_path / "releases/0.1.0")
        _systemctl(tmp_path, 0)
        code, text = played(
            tmp_path,
            {"hosts": "gw1", "tasks": [role_tasks("coordinator", "keep")]},
            common_root=str(tmp_path),
            common_internal_release=str(release),
            coordinator_internal_database=str(database),
            pki_internal_as_user=["env"],
        )
        assert code == 0, text
        copy = database.with_name("fedmill.sqlite.0.1.0")
        assert self._value(copy, "select word from late") == "in the log"
