# SPDX-License-Identifier: Apache-2.0
"""What a service has not read as it is now, as one JSON list: units of systemd, and files.

Asked is the process that runs, so it does not matter how the run ended that changed them.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def _property(name: str, unit: str) -> str:
    """What systemd says of a unit; empty if it has no such property."""
    command = ("systemctl", "show", f"--property={name}", "--value", unit)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _began(pid: int) -> float:
    """When a process began, by the clock of today: at a boot it may have been set wrong."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


def _touched(path: str) -> float:
    """When a file came to be as it is; 0 if it is not there.

    A copy has the time of its original, so that of its inode counts. But systemd gives a service
    its own folder at a start, which touches the inodes of all that is in it.
    """
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return 0.0
    return found.st_ctime if found.st_uid == 0 else found.st_mtime


def main(units: str, *files: str) -> None:
    """Print the list; the first of `units`, which commas separate, reads the `files`."""
    names = units.split(",")
    unread = [name for name in names if _property("NeedDaemonReload", name) == "yes"]
    pid = int(_property("MainPID", names[0]) or 0)
    if pid:
        began = _began(pid)
        unread += [path for path in files if _touched(path) > began]
    print(json.dumps(unread))


if __name__ == "__main__":
    main(*sys.argv[1:])
