# SPDX-License-Identifier: Apache-2.0
"""Runs the playbooks of a bundle over real ssh, as an engineer at the plant does."""

import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.lab import Lab, Machine

_RECAP = re.compile(
    r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE
)
_PROGRAMS = os.environ.get("FEDMILL_ANSIBLE", Path(sys.executable).parent)
PLAYBOOK = Path(_PROGRAMS) / "ansible-playbook"
"""The program; that of another version if ``FEDMILL_ANSIBLE`` names its folder."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        code: exit code of the program.
        text: all that it printed.
        changed: how many tasks changed something, by host.
        failed: how many failed or found nobody, by host.
    """

    code: int
    text: str
    changed: Mapping[str, int]
    failed: Mapping[str, int]

    def ok(self) -> "Outcome":
        """Itself; an assertion error with the text where something failed."""
        assert self.code == 0, self.text[-12000:]
        return self


class Controller:
    """Where playbooks are run from: an inventory, and a way into each machine.

    Attributes:
        said: all that playbooks have printed.
    """

    def __init__(self, lab: Lab, groups: Mapping[str, list[Machine]]) -> None:
        self._lab = lab
        self._folder = lab.work / "controller"
        self._folder.mkdir()
        password = self._folder / "password"
        password.write_text(secrets.token_hex(8))
        self._password = ["--vault-password-file", str(password)]
        self.said = ""
        lines: list[str] = []
        for group, machines in groups.items():
            lines += [f"[{group}]", *(self._host(machine) for machine in machines), ""]
        self.inventory = self._folder / "hosts.ini"
        self.inventory.write_text("\n".join(lines))

    def variables(self, group: str, text: str) -> None:
        """Give a group its variables."""
        folder = self._folder / "group_vars" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.yml").write_text(text)

    def secrets(self, group: str, text: str) -> None:
        """Give a group variables that lie encrypted in a vault."""
        path = self._folder / "group_vars" / group / "vault.yml"
        path.write_text(text)
        command = [str(PLAYBOOK.with_name("ansible-vault")), "encrypt", *self._password, str(path)]
        subprocess.run(command, check=True, capture_output=True, env=self._environment(path.parent))

    def play(self, bundle: Path, name: str, *options: str) -> Outcome:
        """Run one playbook of ``bundle``."""
        folder = bundle / "deploy/ansible"
        command = [str(PLAYBOOK), "-i", str(self.inventory), *self._password]
        command += [str(folder / name), *options]
        done = subprocess.run(
            command,
            cwd=folder,
            env=self._environment(folder),
            capture_output=True,
            text=True,
            check=False,
        )
        text = f"$ {shlex.join(command)}\n{done.stdout}{done.stderr}"
        self.said += text
        recap = _RECAP.findall(done.stdout)
        changed = {host: int(changes) for host, _, changes, _, _ in recap}
        failed = {host: int(lost) + int(failures) for host, _, _, lost, failures in recap}
        return Outcome(done.returncode, text, changed, failed)

    def _environment(self, folder: Path) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self._folder / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._lab.folder / "ssh"),
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _host(self, machine: Machine) -> str:
        """The way in is an sshd on a pipe, which no port leads to."""
        door = self._folder / f"door-{machine.name}"
        spaces = "-m -u -i -n -p -C --root --wd"
        door.write_text(
            "#!/bin/sh\nset -e\n"
            f"leader=$(cat {shlex.quote(str(machine.folder / 'leader'))})\n"
            f'exec nsenter -t "$leader" {spaces} env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin '
            "sh -c 'mkdir -p /run/sshd; exec /usr/sbin/sshd -i -o UsePAM=no'\n"
        )
        door.chmod(0o755)
        options = (
            f"-o ProxyCommand={door} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
            "-o LogLevel=ERROR -o IdentitiesOnly=yes"
        )
        return (
            f"{machine.name} ansible_user=root ansible_ssh_private_key_file={self._lab.folder}/id "
            f"ansible_ssh_common_args='{options}'"
        )
