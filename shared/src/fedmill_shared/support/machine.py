# SPDX-License-Identifier: Apache-2.0
"""What a support bundle says of the machine and of a state folder; never what its files hold."""

import os
import platform
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from fedmill_shared.audit.verifying import entries, verify
from fedmill_shared.crypto.validity import moment, read_file, read_validity
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256

LIBRARIES = (
    "fedmill", "fedmill-shared", "fedmill-agent", "fedmill-coordinator", "cryptography", "msgspec",
    "numpy", "onnxruntime", "paho-mqtt", "structlog", "torch", "tuf", "sqlalchemy", "psutil",
    "asyncua", "pymodbus",
)  # fmt: skip
MOST_FILES = 5000
MOST_LINES = 2000
JOURNAL_SECONDS = 20.0
AUDIT_RECORDS = 500


def versions() -> dict[str, str]:
    """Versions of Python, the system and our libraries; of one that is not here, "absent"."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = distribution(name).version
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def resources(folder: Path) -> dict[str, object]:
    """Disk of ``folder``, memory and load of the machine."""
    disk = os.statvfs(folder)
    return {
        "disk_bytes": disk.f_blocks * disk.f_frsize,
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "inodes_free": disk.f_favail,
        "memory": Path("/proc/meminfo").read_text().splitlines()[:5],
        "load": os.getloadavg(),
        "uptime": Path("/proc/uptime").read_text().split()[0],
    }


def listing(folder: Path) -> list[dict[str, object]]:
    """Name, size, mode and time of every file below ``folder``, up to ``MOST_FILES``."""
    if not os.access(folder, os.R_OK):
        raise StoreError(f"{folder}: cannot be read", remedy="run this as the user of the service")
    found: list[dict[str, object]] = []
    for path in _below(folder):
        if len(found) >= MOST_FILES:
            found.append({"name": "...", "more": True})
            break
        with suppress(FileNotFoundError):  # the daemon works meanwhile
            stat = path.lstat()
            found.append(
                {
                    "name": str(path.relative_to(folder)) + ("/" if path.is_dir() else ""),
                    "bytes": stat.st_size,
                    "mode": oct(stat.st_mode & 0o7777),
                    "owner": stat.st_uid,
                    "changed": moment(stat.st_mtime_ns),
                }
            )
    return found


def _below(folder: Path) -> Iterator[Path]:
    """All that is below ``folder``, but what goes away meanwhile, or may not be entered."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted((*folders, *files)))


def journal(unit: str) -> str:
    """The newest lines that the service manager has of ``unit``, in its namespace or outside.

    Raises:
        StoreError: there is no journal, or it may not be read.
    """
    for where in (["--namespace=fedmill"], []):
        words = ["journalctl", *where, f"--unit={unit}", f"--lines={MOST_LINES}", "--no-pager"]
        try:
            done = subprocess.run(
                [*words, "--output=short-iso"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=JOURNAL_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreError(f"journalctl: {error}") from error
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode == 0 and text.strip() and "-- No entries --" not in text:
            return text
    raise StoreError(f"journalctl has no lines of {unit}", remedy="run this as root")


def audited(path: Path) -> dict[str, object]:
    """Whether the audit log ``path`` is whole, and its last records."""
    verdict = verify(path)
    return {"verdict": verdict, "records": list(deque(entries(path), AUDIT_RECORDS))}


def certificate(path: Path) -> dict[str, str]:
    """When the certificate in ``path`` is good, and the digest of the file."""
    pem = read_file(path, "certificate")
    validity = read_validity(pem)
    return {
        "file": str(path),
        "sha256": sha256(pem),
        "not_before": moment(validity.not_before_ns),
        "not_after": moment(validity.not_after_ns),
    }
