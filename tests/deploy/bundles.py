# SPDX-License-Identifier: Apache-2.0
"""Bundles as `make bundle` makes them, of this tree and of the one after it."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.deploy.rootfs import FOLDER

ROOT = Path(__file__).resolve().parents[2]
_TREE = (
    "shared",
    "agent",
    "coordinator",
    "deploy",
    "docs",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
_VERSIONED = ("**/pyproject.toml", "**/src/*/__init__.py")


class BundleError(RuntimeError):
    """No bundle can be made here."""


def version() -> str:
    """Version of this tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def next_version() -> str:
    """The one after it."""
    *most, last = version().split(".")
    return ".".join([*most, str(int(last) + 1)])


def this_release(out: Path) -> Path:
    """The bundle of this tree."""
    return _make(ROOT, out)


def next_release(work: Path) -> Path:
    """The bundle of a tree that differs by its version alone."""
    tree = work / "next"
    for name in _TREE:
        source, target = ROOT / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    old = re.compile(rf'(?<=["=]){re.escape(version())}(?=")')
    for path in [path for pattern in _VERSIONED for path in tree.glob(pattern)]:
        path.write_text(old.sub(next_version(), path.read_text()))
    return _make(tree, work)


def _make(tree: Path, out: Path) -> Path:
    command = [sys.executable, "deploy/requirements/bundle.py", "--out", str(out)]
    command += ["--arch", platform.machine(), "--others", str(_others())]
    return _run(command, tree)


def _others() -> Path:
    """A bundle with the wheels of others, which are the same for a long time."""
    folder = ROOT / "deploy/requirements"
    pins = b"".join(path.read_bytes() for path in sorted(folder.glob("*.txt")))
    kept = FOLDER / "bundles" / hashlib.sha256(pins).hexdigest()[:12]
    found = sorted(kept.glob("bundle-*"))
    if found:
        return found[0]
    making = kept.with_name(f"{kept.name}.{os.getpid()}")
    command = [sys.executable, "deploy/requirements/bundle.py", "--arch", platform.machine()]
    made = _run([*command, "--out", str(making)], ROOT)
    if not kept.exists():
        making.rename(kept)
    return kept / made.name


def _run(command: list[str], tree: Path) -> Path:
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BundleError(done.stderr[-2000:])
    return Path(done.stdout.strip().splitlines()[-1])
