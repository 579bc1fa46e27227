# SPDX-License-Identifier: Apache-2.0
"""Reads roles, and runs parts of them on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.deploy.playbooks import PLAYBOOK

ANSIBLE = Path(__file__).resolve().parents[2] / "deploy" / "ansible"
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir())


def load(path: Path) -> Any:
    """What a YAML file says."""
    return yaml.safe_load(path.read_text())


def flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All of them, those inside of blocks too."""
    for task in tasks:
        inner = [each for key in ("block", "rescue", "always") for each in task.get(key, [])]
        yield from flat(inner) if inner else [task]


def all_tasks(role: str) -> Iterator[dict[str, Any]]:
    """Those of all files of a role."""
    for path in sorted((ANSIBLE / "roles" / role / "tasks").glob("*.yml")):
        yield from flat(load(path))


def played(
    folder: Path, play: dict[str, Any], *options: str, **variables: object
) -> tuple[int, str]:
    """Exit code and text of a play on this machine, for tasks that keep to ``folder``.

    Programs in its ``bin`` are found before those of the machine.
    """
    hosts = {name: {"ansible_connection": "local"} for name in ("gw1", "gw2")}
    inventory = {"all": {"children": {"gateways": {"hosts": hosts}}}}
    inventory["all"]["vars"] = {"ansible_python_interpreter": sys.executable}  # type: ignore[assignment]
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (folder / "play.yml").write_text(yaml.safe_dump([{"gather_facts": False, **play}]))
    command = [str(PLAYBOOK), "-i", "hosts.yml"]
    command += ["play.yml", "-e", json.dumps(variables), *options]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(ANSIBLE / "roles"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def role_tasks(name: str, tasks: str) -> dict[str, Any]:
    """A task that does one file of a role."""
    return {"ansible.builtin.import_role": {"name": name, "tasks_from": tasks}}
