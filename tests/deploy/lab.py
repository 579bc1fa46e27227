# SPDX-License-Identifier: Apache-2.0
"""Machines that boot real systemd, in one network that has nothing but a loopback."""

import os
import secrets
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.deploy import leftovers
from tests.deploy.rootfs import FOLDER

BOOT_SECONDS = 60.0
PROGRAMS = ("debootstrap", "systemd-nspawn", "ip", "ssh", "ssh-keygen", "nsenter", "mount")
_HIERARCHIES = ("unified", "systemd", ".")  # of control groups; which there are, the host decides
_HOSTS = "127.0.0.1 localhost plant\n::1 localhost\n"


class BootError(RuntimeError):
    """No machine boots here."""


def impediment() -> str:
    """Why no machine can be booted here; empty if nothing is in the way."""
    if os.geteuid() != 0:
        return "machines are booted by root only"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    return f"missing: {', '.join(missing)}; `make test-deploy` installs it" if missing else ""


@dataclass
class Machine:
    """One booted system.

    Attributes:
        name: its host name, as in the inventory.
        folder: of its overlay, which outlives a reboot.
        record: of the run it belongs to.
        base: the Debian below the overlay.
    """

    name: str
    folder: Path
    record: leftovers.Record
    base: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def root(self) -> Path:
        """Its file system, as the host sees it."""
        return self.folder / "root"

    @property
    def leader(self) -> int:
        """Its first process, by the number it has on the host."""
        return int((self.folder / "leader").read_text())

    @property
    def door(self) -> list[str]:
        """The command that enters it; the command to run inside follows."""
        spaces = ("-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wd")
        enter = ["nsenter", "-t", str(self.leader), *spaces]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return [*enter, "env", "-i", path, "LANG=C.UTF-8", "TERM=dumb", "HOME=/root"]

    def run(self, *command: str, ok: bool = True, timeout: float = 120) -> str:
        """Standard output of ``command`` inside; ``ok``: whether it must succeed."""
        done = subprocess.run(
            [*self.door, *command], capture_output=True, text=True, check=False, timeout=timeout
        )
        if ok and done.returncode != 0:
            said = done.stdout[-3000:] + done.stderr[-3000:]
            raise AssertionError(f"{self.name}: {shlex.join(command)}: {done.returncode}\n{said}")
        return done.stdout

    def journal(self) -> str:
        """All that it has logged since it was made, or how its boot went where it is down."""
        if self._process is None or self._process.poll() is not None:
            return self._log()
        return self.run("journalctl", "--merge", "--namespace=*", "--no-pager", ok=False)

    def up(self) -> None:
        """Boot, and wait until all units are up.

        Raises:
            BootError: it does not come up here.
        """
        self._mount()
        with (self.folder / "boot.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._nspawn(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,
            )
        self._wait()

    def power_off(self, *, pull: bool = False) -> None:
        """End it: in order, or like a plug that is ``pull``-ed."""
        process = self._process
        if process is None:
            return
        if pull:
            os.kill(self.leader, 9)
        else:
            # who came in by ssh is stopped at shutdown, and so is the way in, which waits for it
            self.run("pkill", "--exact", "sshd", ok=False)
            self.run("systemctl", "poweroff", "--no-wall", ok=False)
        try:
            process.wait(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        (self.folder / "leader").unlink(missing_ok=True)
        self._process = None

    def _mount(self) -> None:
        if os.path.ismount(self.root):
            return
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={self.base},upperdir={self.folder}/upper,workdir={self.folder}/work"
        self.record.mounts.append(str(self.root))
        self.record.save()
        command = ["mount", "-t", "overlay", "fedmill-test", "-o", options, str(self.root)]
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
        if mounted.returncode != 0:
            raise BootError(f"no overlay can be mounted here: {mounted.stderr.strip()}")
        self._personalise()

    def _personalise(self) -> None:
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(_HOSTS)
        ssh = self.root / "root/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        key = leftovers.RECORDS / self.record.run / "id.pub"
        (ssh / "authorized_keys").write_bytes(key.read_bytes())
        _keygen(self.root / "etc/ssh/ssh_host_ed25519_key")

    def _nspawn(self) -> list[str]:
        """The program, in control groups of its own: two systemds in one would kill each other.

        Nothing is registered: this host need not run systemd itself.
        """
        groups = _groups(f"{self.record.run}-{self.name}")
        self.record.groups += [
            str(group) for group in groups if str(group) not in self.record.groups
        ]
        self.record.save()
        for group in groups:
            group.mkdir(exist_ok=True)
        join = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
        return [
            *("sh", "-c", join, "sh", *map(str, groups), "--", "systemd-nspawn", "--quiet"),
            *(f"--directory={self.root}", f"--machine=fedmill-{self.record.run}-{self.name}"),
            *(f"--hostname={self.name}", "--boot", "--register=no", "--keep-unit"),
            *(f"--network-namespace-path=/run/netns/{self.record.network}", "--private-users=no"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe"),
        ]

    def _wait(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        state = ""
        while state not in {"running", "degraded"}:
            if self._process is None or self._process.poll() is not None:
                raise BootError(f"systemd-nspawn ends at once: {self._log()}")
            if time.monotonic() > deadline:
                raise BootError(f"{self.name} is {state or 'silent'}: {self._log()}")
            time.sleep(0.1)
            first = _child(self._process.pid)
            if first:
                (self.folder / "leader").write_text(str(first))
                state = self.run("systemctl", "is-system-running", ok=False).strip()

    def _log(self) -> str:
        return (self.folder / "boot.log").read_text(errors="replace")[-2000:].strip()


class Lab:
    """Machines of one run, and what they share; use it as a context."""

    def __init__(self, base: Path) -> None:
        leftovers.sweep_dead()
        run = f"{os.getpid()}-{secrets.token_hex(2)}"
        self._base = base
        self.record = leftovers.Record(run, leftovers.this_process(), network=f"fedmill-{run}")
        self.work = FOLDER / "runs" / run
        self.record.folders.append(str(self.work))
        self.record.save()
        self.machines: list[Machine] = []

    @property
    def folder(self) -> Path:
        """For short paths of sockets and keys."""
        return leftovers.RECORDS / self.record.run

    def __enter__(self) -> Self:
        self._guard = leftovers.guard(self.record.run)
        self.work.mkdir(parents=True)
        _keygen(self.folder / "id")
        network = self.record.network
        for command in (
            ["ip", "netns", "add", network],
            ["ip", "-n", network, "link", "set", "lo", "up"],
        ):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                self.__exit__()
                raise BootError(f"no network of its own: {done.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.power_off(pull=True)
        assert self._guard.stdin
        self._guard.stdin.close()
        self._guard.wait(BOOT_SECONDS)

    def machine(self, name: str) -> Machine:
        """A new machine, not booted yet."""
        made = Machine(name, self.work / name, self.record, self._base)
        self.machines.append(made)
        return made


def _groups(name: str) -> list[Path]:
    roots = [Path("/sys/fs/cgroup") / hierarchy for hierarchy in _HIERARCHIES]
    return [root / f"fedmill-{name}" for root in roots if os.access(root / "cgroup.procs", os.W_OK)]


def _child(pid: int) -> int:
    """The first child of a process; 0 if it has none."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return int((found.stdout.split() or ["0"])[0])


def _keygen(path: Path) -> None:
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
