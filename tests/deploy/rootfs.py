# SPDX-License-Identifier: Apache-2.0
"""A Debian 12 that boots systemd, made once and kept outside the repository.

It has what a freshly installed server has, and the broker's package, since machines of the tests
have no network; nothing in it is of fedmill.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(os.environ.get("FEDMILL_ROOTFS", "/var/cache/fedmill-test"))
SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "mosquitto",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
)
MIRROR = "http://deb.debian.org/debian/"
_FORM = "2"  # of what _prepare leaves behind


class RootfsError(RuntimeError):
    """No Debian could be made here."""


def rootfs() -> Path:
    """The folder of the Debian; made now if there is none of these packages.

    Raises:
        RootfsError: debootstrap failed, for instance because there is no network.
    """
    key = hashlib.sha256("\n".join([SUITE, _FORM, *PACKAGES]).encode()).hexdigest()[:12]
    made = FOLDER / f"debian-{key}"
    with _alone():
        if not made.is_dir():
            building = FOLDER / "building"
            shutil.rmtree(building, ignore_errors=True)
            _debootstrap(building)
            _prepare(building)
            building.rename(made)
    return made


@contextmanager
def _alone() -> Iterator[None]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _debootstrap(folder: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    command = ["debootstrap", "--variant=minbase", include, SUITE, str(folder), _mirror()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise RootfsError(f"debootstrap failed: {''.join(last)}")


def _mirror() -> str:
    """The one this machine itself uses, if it is of the same Debian."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    )
    uses = (line.split() for line in listed.stdout.splitlines())
    return next((words[1] for words in uses if words[:1] == [SUITE]), MIRROR)


def _prepare(folder: Path) -> None:
    """No identity that two machines would share, no service that starts by itself or fails."""
    for name in ("machine-id", "fstab"):
        (folder / "etc" / name).write_text("")
    for key in (folder / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    # the machines share a loopback: the broker runs only where it is put
    (folder / "etc/systemd/system/multi-user.target.wants/mosquitto.service").unlink()
    for unit in ("ssh.service", "ssh.socket"):
        link = folder / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    for archive in (folder / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    shutil.rmtree(folder / "var/lib/apt/lists", ignore_errors=True)
