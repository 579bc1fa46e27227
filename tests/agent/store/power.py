# SPDX-License-Identifier: Apache-2.0
"""Power cuts: what a program wrote, traced, and what a disk may hold of it if the power goes.

A disk keeps what was written to a file before the last sync of that file. What came after is kept
or lost sector by sector, in any order; so are new lengths, and removals before the last sync of the
folder.
"""

import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_PATH = re.compile(r"^\d+<([^>]*)>")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass(frozen=True)
class Event:
    """Something that reached the kernel: a write, sync, truncate or unlink of ``path``, or a said.

    ``said`` are bytes on standard output, by which the program tells what it promises.
    """

    kind: str
    path: str = ""
    place: int = 0
    data: bytes = b""


def available() -> bool:
    """Whether programs can be traced here."""
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode == 0
    except FileNotFoundError:
        return False


def traced(command: Sequence[str], folder: Path, log: Path) -> list[Event]:
    """Run ``command``; what it did to the files in ``folder``, in order."""
    calls = "pwrite64,write,fsync,fdatasync,ftruncate,unlink"
    options = ["-f", "-y", "-xx", "-s", "2000000", "-o", str(log), "-e", f"trace={calls}"]
    subprocess.run(["strace", *options, *command], check=True, capture_output=True)
    with log.open() as lines:
        return [event for line in lines if (event := _event(line, folder)) is not None]


def _event(line: str, folder: Path) -> Event | None:
    found = _CALL.match(line)
    if found is None or int(found[3]) < 0:
        return None
    name, arguments = found[1], found[2]
    texts = [_raw(each) for each in _BYTES.findall(arguments)]
    if name == "unlink":
        return _inside(Event("unlink", texts[0].decode()), folder)
    handle = _PATH.match(arguments)
    path = _raw((handle[1], "")).decode() if handle else ""
    if name == "write":
        return Event("said", data=texts[0]) if arguments.startswith("1<") else None
    if name == "pwrite64":
        place = int(arguments.rsplit(", ", 1)[1])
        return _inside(Event("write", path, place, texts[0]), folder)
    if name == "ftruncate":
        return _inside(Event("truncate", path, int(arguments.rsplit(", ", 1)[1])), folder)
    return Event("settle") if path == str(folder) else _inside(Event("sync", path), folder)


def _raw(text: tuple[str, str]) -> bytes:
    assert not text[1], "the trace cuts what was written short"
    return bytes.fromhex(text[0].replace("\\x", ""))


def _inside(event: Event, folder: Path) -> Event | None:
    """``event`` if it is of a file whose content outlives the program."""
    inside = Path(event.path).parent == folder and not event.path.endswith("-shm")
    return event if inside else None


@dataclass
class Disk:
    """Files by path as they are for sure, and for each what may have happened since."""

    sure: dict[str, bytearray] = field(default_factory=dict)
    since: dict[str, list[Event]] = field(default_factory=dict)
    said: bytes = b""

    def take(self, event: Event) -> None:
        """Let one more thing happen."""
        if event.kind == "said":
            self.said += event.data
        elif event.kind == "settle":
            for path in [path for path, events in self.since.items() if _gone(events)]:
                del self.since[path]
                self.sure.pop(path, None)
        elif event.kind == "sync":
            content: bytearray | None = self.sure.get(event.path, bytearray())
            for each in self.since.pop(event.path, []):
                content = _applied(content, each)
            if content is not None:
                self.sure[event.path] = content
        else:
            self.since.setdefault(event.path, []).append(event)

    def after_a_cut(self, generator: random.Random) -> dict[str, bytearray]:
        """What may be there when the power comes back."""
        files = {path: bytearray(content) for path, content in self.sure.items()}
        for path, events in self.since.items():
            content = files.pop(path, None)
            share = generator.choice((0.0, 0.5, 1.0))
            for event in events:
                for part in _sectors(event):
                    if generator.random() < share:
                        content = _applied(content, part)
            if content is not None:
                files[path] = content
        return files


def _gone(events: Sequence[Event]) -> bool:
    return bool(events) and events[-1].kind == "unlink"


def _sectors(event: Event) -> Iterator[Event]:
    if event.kind != "write":
        yield event
        return
    for start in range(0, len(event.data), SECTOR):
        part = event.data[start : start + SECTOR]
        yield Event("write", event.path, event.place + start, part)


def _applied(content: bytearray | None, event: Event) -> bytearray | None:
    if event.kind == "unlink":
        return None
    content = bytearray() if content is None else content
    if event.kind == "truncate":
        content = content[: event.place].ljust(event.place, b"\0")
    else:
        end = event.place + len(event.data)
        content = content.ljust(event.place, b"\0")
        content[event.place : end] = event.data
    return content


def restored(files: dict[str, bytearray], folder: Path) -> None:
    """Put ``files`` into an empty ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in files.items():
        (folder / Path(path).name).write_bytes(content)
