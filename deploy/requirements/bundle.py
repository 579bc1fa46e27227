# SPDX-License-Identifier: Apache-2.0
"""Makes the bundle that a plant without internet is deployed from.

`dist/bundle-<version>-<architecture>/` holds our four wheels, the wheels of others for that
architecture and Python 3.11 in one archive, lock files with the SHA-256 of each, `deploy/`, and
SHA256SUMS over all of it. Wheels of others are looked for where pip is told to look.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ARCHITECTURES = ("aarch64", "x86_64")
MACHINES = ("agent", "coordinator")
OUR_PROJECTS = ("shared", "agent", "coordinator", ".")
# of the oldest C library that is deployed to, 2.28, and all before it
_GLIBC = (28, 27, 26, 24, 17, 12, 5)
_OLD_NAMES = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
_GPU = b"Requires-Dist: nvidia-"


class BundleError(RuntimeError):
    """No bundle can be made; the text says what is missing."""


def version() -> str:
    """Version of what is bundled."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def make(architecture: str, out: Path, others: Path | None = None) -> Path:
    """Make the bundle in ``out`` and return its folder.

    Args:
        architecture: one of ``ARCHITECTURES``.
        out: folder in which bundles are put; an earlier one of the same name is replaced.
        others: a bundle whose wheels of others are used again, if it is for the same architecture
            and has the same pins.

    Raises:
        BundleError: a wheel cannot be had.
    """
    name = f"bundle-{version()}-{architecture}"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".bundle-") as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        _our_wheels(folder / "fedmill")
        _copy_rest(folder)
        _others(folder, architecture, others)
        (folder / "VERSION").write_text(f"{version()} {architecture}\n")
        _sums(folder)
        final = out / name
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
    return final


def _our_wheels(folder: Path) -> None:
    """Built from a copy: what an earlier version left in the tree is not packed."""
    projects = [str(ROOT / project) for project in OUR_PROJECTS]
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), *projects)


def _copy_rest(folder: Path) -> None:
    skipped = shutil.ignore_patterns("__pycache__", "*.pyc", ".ansible", "*.retry")
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=skipped)
    for path in (ROOT / "LICENSE", ROOT / "docs/deployment.md", *ROOT.glob("dist/sbom-*.json")):
        shutil.copy(path, folder / path.name)


def _others(folder: Path, architecture: str, given: Path | None) -> None:
    """Lock files and archives of the wheels of others."""
    if given and _same_parts(given, architecture):
        for name in ("wheels.tar", "requirements", "requirements.lock", "control"):
            _link(given / name, folder / name)
        return
    wanted = {kind: pins(kind, architecture) for kind in MACHINES}
    every = sorted(set().union(*wanted.values()))
    (folder / "requirements").mkdir()
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        found = _download(every, architecture, Path(temporary))
        for kind in MACHINES:
            _lock(folder / "requirements" / f"{kind}.lock", [found[pin] for pin in wanted[kind]])
        _lock(folder / "requirements.lock", found.values())
        _archive(folder / "wheels.tar", [found[pin] for pin in every])
    control = folder / "control"
    control.mkdir()
    found = _download(pins("control", architecture), architecture, control)
    _lock(folder / "requirements" / "control.lock", found.values())


def _same_parts(given: Path, architecture: str) -> bool:
    """Whether another bundle has the wheels that this one needs.

    Raises:
        BundleError: it is no bundle.
    """
    try:
        made_for = (given / "VERSION").read_text().split()[1:]
        return made_for == [architecture] and all(
            (given / "deploy/requirements" / f"{kind}.txt").read_bytes()
            == (HERE / f"{kind}.txt").read_bytes()
            for kind in (*MACHINES, "control")
        )
    except OSError as error:
        raise BundleError(f"--others {given}: no bundle: {error.strerror}") from error


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_file)
    else:
        _link_file(source, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy(source, target)


def pins(kind: str, architecture: str) -> list[str]:
    """``name==version`` of all that a machine of this kind and architecture gets of others."""
    lines = (HERE / f"{kind}.txt").read_text().splitlines()
    wanted = [line.partition(" ; ") for line in lines if not line.startswith("#")]
    return [pin for pin, _, marker in wanted if not marker or f'"{architecture}"' in marker]


def _download(wanted: Sequence[str], architecture: str, folder: Path) -> dict[str, Path]:
    """The wheels of pins, by ``name==version``, in ``folder``.

    Pins say all that is needed, so pip looks at no dependencies: their conditions would be tried on
    the machine that makes the bundle, not on that which it is for.

    Raises:
        BundleError: pip finds one nowhere, or one that is made for graphics cards.
    """
    tags = [f"manylinux_2_{minor}_{architecture}" for minor in _GLIBC]
    tags += [f"{name}_{architecture}" for name in _OLD_NAMES]
    python = ["--python-version", "3.11", "--implementation", "cp"]
    abis = ["--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    platforms = [word for tag in tags for word in ("--platform", tag)]
    only = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    _pip("download", *only, *python, *abis, *platforms, *wanted)
    found = {_pin_of(path): path for path in sorted(folder.glob("*.whl"))}
    for pin in wanted:
        if pin not in found:
            raise BundleError(f"{pin}: pip fetched another version")
        _refuse_gpu(found[pin])
    return found


def _pin_of(wheel: Path) -> str:
    name, full = wheel.name.split("-")[:2]
    canonical = re.sub(r"[-_.]+", "-", name).lower()
    return f"{canonical}=={full.partition('+')[0]}"


def _refuse_gpu(wheel: Path) -> None:
    """A build for graphics cards is gigabytes that no gateway uses."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        if any(_GPU in archive.read(name) for name in names):
            raise BundleError(
                f"{wheel.name} is built for graphics cards; put the build for processors alone "
                "into a folder, and name that in PIP_FIND_LINKS"
            )


def _lock(path: Path, wheels: Iterable[Path]) -> None:
    """What pip checks each wheel against before it unpacks it."""
    lines = []
    for wheel in sorted(wheels):
        name, full = wheel.name.split("-")[:2]
        lines.append(f"{name}=={full} --hash=sha256:{_digest(wheel)}\n")
    path.write_text("".join(lines))


def _archive(path: Path, wheels: Sequence[Path]) -> None:
    """One file, since a machine gets it in a fraction of the time that many take.

    It is the same for the same wheels, whoever made it and when.
    """
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for wheel in wheels:
            entry = tarfile.TarInfo(wheel.name)
            entry.size = wheel.stat().st_size
            entry.mode = 0o644
            with wheel.open("rb") as data:
                archive.addfile(entry, data)


def _sums(folder: Path) -> None:
    """As `sha256sum --check` reads it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_digest(path)}  {path.relative_to(folder)}\n" for path in paths]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise BundleError("\n".join(errors) or done.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make one bundle and print its folder."""
    parser = argparse.ArgumentParser(description="make the bundle that a plant is deployed from")
    parser.add_argument("--arch", choices=ARCHITECTURES, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--others", type=Path, help="bundle whose wheels of others are used again")
    given = parser.parse_args(arguments)
    try:
        print(make(given.arch, given.out, given.others))
    except BundleError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
