# SPDX-License-Identifier: Apache-2.0
"""What a machine is, as one JSON object: everything that is asserted before it is changed."""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path


def _said(*command: str) -> str:
    """First line of what a program prints; empty if there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0]


def _there(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return path if path.exists() else _there(path.parent)


def main(root: str) -> None:
    """Print the object; `root` is where releases go."""
    systemd = _said("systemctl", "--version").split()
    found = {
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "venv": all(importlib.util.find_spec(name) for name in ("ensurepip", "venv")),
        "systemd": int(systemd[1]) if len(systemd) > 1 else 0,
        "glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "0").split()[-1],
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "disk_mb": shutil.disk_usage(_there(Path(root))).free >> 20,
        "synchronised": _said("timedatectl", "show", "-p", "NTPSynchronized", "--value") == "yes",
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
