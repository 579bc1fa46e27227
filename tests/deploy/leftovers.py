# SPDX-License-Identifier: Apache-2.0
"""Nothing of a run outlives it: processes, mounts, control groups, networks and folders.

Each run keeps a record of what it made. A guard process clears up as soon as the run is gone,
however it went; where the guard was killed as well, the next run does.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

RECORDS = Path("/run/fedmill-test")
_PATIENCE = 20.0


@dataclass
class Record:
    """What a run has made; written before it is made.

    Attributes:
        run: name of the run, a folder of ``RECORDS``.
        owner: process of the run, as ``[pid, start time]``: a pid alone may be another's by now.
        network: its network namespace; empty for none.
        folders: to be deleted.
        mounts: to be unmounted.
        groups: control groups, with all processes in them.
    """

    run: str
    owner: list[int]
    network: str = ""
    folders: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def save(self) -> None:
        """Replace the record on disk in one step."""
        folder = RECORDS / self.run
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / "record.new"
        new.write_text(json.dumps(asdict(self)))
        new.rename(folder / "record.json")


def start_time(pid: int) -> int:
    """Clock tick at which a process started; 0 if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    after_name = text.rsplit(")", 1)[1].split()
    return 0 if after_name[0] == "Z" else int(after_name[19])


def this_process() -> list[int]:
    """What ``Record.owner`` is."""
    return [os.getpid(), start_time(os.getpid())]


def sweep_dead() -> None:
    """Clear up after every run whose process is gone."""
    for path in sorted(RECORDS.glob("*/record.json")):
        record = _read(path)
        if record and start_time(record.owner[0]) != record.owner[1]:
            clear(record)


def clear(record: Record) -> None:
    """Undo what ``record`` names; what is gone already is no error."""
    for group in record.groups:
        _end_all(Path(group))
    for mount in reversed(record.mounts):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    for group in record.groups:
        _remove_group(Path(group))
    if record.network:
        command = ["ip", "netns", "delete", record.network]
        subprocess.run(command, check=False, capture_output=True)
    for folder in [*record.folders, str(RECORDS / record.run)]:
        shutil.rmtree(folder, ignore_errors=True)


def guard(run: str) -> "subprocess.Popen[bytes]":
    """Start the process that clears up once the run, which holds its standard input, is gone."""
    command = [sys.executable, str(Path(__file__).resolve()), run]
    # a session of its own: Ctrl-C is for the run, not for who clears up after it
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _read(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text()))
    except FileNotFoundError:  # another run was faster
        return None


def _members(group: Path) -> list[int]:
    found: list[int] = []
    for procs in group.rglob("cgroup.procs"):
        try:
            found += map(int, procs.read_text().split())
        except OSError:  # gone meanwhile
            continue
    return found


def _end_all(group: Path) -> None:
    """Kill every process of a group; the machine's first process takes the others with it."""
    deadline = time.monotonic() + _PATIENCE
    while (members := _members(group)) and time.monotonic() < deadline:
        _kill(members)
        time.sleep(0.05)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _remove_group(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:  # a dying process is in it still; the next sweep finds it
            continue


def _main(run: str) -> None:
    sys.stdin.buffer.read()
    record = _read(RECORDS / run / "record.json")
    if record:
        clear(record)


if __name__ == "__main__":
    _main(sys.argv[1])
