# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel has killed something for memory in a control group (cgroup v2)."""

from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


class MemoryEvents:
    """Remembers how often the kernel had killed in a group, and tells whether it has since."""

    def __init__(self, group: Path | None) -> None:
        """``group`` is the folder of the group; None where it is not known: nothing is told."""
        self._file = group / "memory.events" if group is not None else None
        self._before = self._kills()

    @property
    def killed(self) -> bool:
        """Whether it has; False where that cannot be known."""
        return self._kills() > self._before

    def _kills(self) -> int:
        """``oom_kill`` of the group and all below it; 0 where the kernel does not count."""
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return 0
        found = dict(line.split(" ", 1) for line in lines if " " in line)
        kills = found.get("oom_kill", "0")
        return int(kills) if kills.isdecimal() else 0


def own_group() -> Path | None:
    """The control group of this process."""
    return group_of("self")


def group_of(pid: int | str) -> Path | None:
    """The control group of a process (``0::/path`` of cgroups(7)); None where it tells none."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        number, _, path = line.split(":", 2)
        if number == "0":
            return GROUPS / path.lstrip("/")
    return None
