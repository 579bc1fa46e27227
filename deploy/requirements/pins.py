# SPDX-License-Identifier: Apache-2.0
"""Writes the exact versions that a bundle is made of, from what is installed here.

Each file beside this one names one kind of machine, and pins all that it needs of others, directly
or not. What was tested is what is installed here; so that is what plants get.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("aarch64", "x86_64")
KINDS: Mapping[str, tuple[str, ...]] = {
    "agent": ("fedmill-agent[train,modbus,opcua]",),
    "coordinator": ("fedmill-coordinator",),
    "control": ("ansible-core",),
}
"""What is installed on a gateway, on the plant server, and where the playbooks are run."""
_HEAD = "# SPDX-License-Identifier: Apache-2.0\n# Written by `make pins`.\n"


class Pin(NamedTuple):
    """One distribution and its version."""

    name: str
    version: str


def closure(wanted: tuple[str, ...], architecture: str) -> set[Pin]:
    """All that ``wanted`` needs on ``architecture`` with Python 3.11, without our own.

    Raises:
        PackageNotFoundError: something that is needed there is not installed here.
    """
    environment = {
        **{name: str(value) for name, value in default_environment().items()},
        "platform_machine": architecture,
        "python_version": "3.11",
        "python_full_version": "3.11.2",
    }
    pins: set[Pin] = set()
    seen: set[tuple[str, str]] = set()
    queue = [Requirement(text) for text in wanted]
    while queue:
        requirement = queue.pop()
        for extra in ("", *sorted(requirement.extras)):
            key = (canonicalize_name(requirement.name), extra)
            if key not in seen:
                seen.add(key)
                queue += _needs(requirement.name, extra, environment)
        name = canonicalize_name(requirement.name)
        if not name.startswith("fedmill"):
            public = metadata.version(requirement.name).partition("+")[0]
            pins.add(Pin(name, public))
    return pins


def _needs(name: str, extra: str, environment: Mapping[str, str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        always = marker is None or marker.evaluate({**environment, "extra": ""})
        if (extra and marker and marker.evaluate({**environment, "extra": extra})) or always:
            yield requirement


def text(wanted: tuple[str, ...]) -> str:
    """A requirements file; what only one architecture needs has a marker."""
    needed = {each: closure(wanted, each) for each in ARCHITECTURES}
    lines = []
    for pin in sorted(set().union(*needed.values())):
        there = [each for each in ARCHITECTURES if pin in needed[each]]
        marker = f' ; platform_machine == "{there[0]}"' if len(there) == 1 else ""
        lines.append(f"{pin.name}=={pin.version}{marker}\n")
    return _HEAD + "".join(lines)


def main() -> int:
    """Write the files."""
    for kind, wanted in KINDS.items():
        (HERE / f"{kind}.txt").write_text(text(wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
