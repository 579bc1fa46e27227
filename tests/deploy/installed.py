# SPDX-License-Identifier: Apache-2.0
"""fedmill on a machine as these tests run it: the working tree, its libraries, its units.

Libraries are linked, not copied: torch alone is most of a GB. The interpreter is the machine's own.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.deploy.lab import Machine

ROOT = Path(__file__).parents[2]
CURRENT = "opt/fedmill/current"
_SITE = "lib/python3.11/site-packages"
_NEEDLESS = ("ansible", "ansible_collections", "ansiblelint", "mypy", "pyarrow", "scipy", "ruff")
_PROGRAMS = {"fedmill-agent": "fedmill_agent.cli", "fedmill": "fedmill_coordinator.cli"}
_MISBEHAVING = """
import os
import time
from collections import Counter
from pathlib import Path

from fedmill_agent.sources.base import SourceKind
from fedmill_agent.sources.live import Live, LiveOptions


class MisbehavingOptions(LiveOptions, frozen=True, kw_only=True, tag="misbehaving"):
    secret_file: str = ""


class Problem(str):
    # the daemon's loop shortens it when it says how its sources are
    def __getitem__(self, index):
        while Path("/run/fedmill-hang").exists():
            time.sleep(0.1)
        return super().__getitem__(index)


class Session:
    counts = Counter()

    def __init__(self, options):
        told = Path(options.secret_file).read_text() if options.secret_file else "none"
        self.problems = {"a": Problem(f"secret {told}")}

    def read(self, timeout):
        time.sleep(timeout)
        return []

    def close(self):
        pass


def connect(options, tags, clock):
    if Path("/run/fedmill-crash").exists():
        os._exit(3)
    return Session(options)


KIND = SourceKind(MisbehavingOptions, live=Live(connect))
"""


def impediment() -> str:
    """Why this tree cannot be put on a machine; empty if it can."""
    if sys.version_info[:2] != (3, 11):
        return "libraries of Python 3.11 are needed, which Debian 12 has"
    return ""


def install(machine: Machine) -> None:
    """Put fedmill and its units on ``machine``, which is not booted yet."""
    upper = machine.folder / "upper"
    current = upper / CURRENT
    site = current / _SITE
    site.parent.mkdir(parents=True)
    (current / "bin").mkdir()
    (current / "bin/python").symlink_to("/usr/bin/python3")
    (current / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    _link(Path(sysconfig.get_path("purelib")), site)
    for side in ("shared", "agent", "coordinator"):
        package = f"fedmill_{side}"
        shutil.copytree(ROOT / side / "src" / package, site / package)
    for name, module in _PROGRAMS.items():
        program = current / "bin" / name
        program.write_text(
            f"#!/{CURRENT}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
    units = upper / "etc/systemd/system"
    shutil.copytree(ROOT / "deploy/systemd", units)
    (units / "journald@fedmill.conf").rename(upper / "etc/systemd/journald@fedmill.conf")
    (upper / "etc/fedmill").mkdir()
    for folder in (upper, upper / "opt", upper / "etc", upper / "etc/systemd", units):
        folder.chmod(0o755)


def add_misbehaving_source(machine: Machine) -> None:
    """A kind of source of a third party.

    It hangs the daemon's loop while ``/run/fedmill-hang`` is there, and ends the process while
    ``/run/fedmill-crash`` is.
    """
    site = machine.folder / "upper" / CURRENT / _SITE
    (site / "misbehaving.py").write_text(_MISBEHAVING)
    told = site / "misbehaving-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1\n")
    (told / "entry_points.txt").write_text(
        "[fedmill_agent.sources]\nmisbehaving = misbehaving:KIND\n"
    )


def _link(source: Path, target: Path) -> None:
    """Hard links, or copies where the two are not on one file system."""
    target.mkdir()
    for each in sorted(source.iterdir()):
        ours = each.name.startswith(("fedmill", "_editable", "__editable__", "_fedmill"))
        if ours or each.name in _NEEDLESS or each.name.endswith(".pth"):
            continue
        linked = subprocess.run(
            ["cp", "-al", str(each), str(target)], check=False, capture_output=True
        )
        if linked.returncode != 0:
            subprocess.run(["cp", "-a", str(each), str(target)], check=True)
