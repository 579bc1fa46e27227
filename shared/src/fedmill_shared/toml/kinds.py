# SPDX-License-Identifier: Apache-2.0
"""The kinds of TOML file that people write, told apart by their sections.

Giving a command the wrong one of them is a common slip. Whoever does so wants to hear that, and not
that a section is unknown.
"""

from dataclasses import dataclass

from msgspec import inspect

from fedmill_shared.toml.faults import Fault, section_of
from fedmill_shared.toml.place import Table, structs


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: what it is called, where it is described, and sections only it has."""

    name: str
    page: str
    sections: tuple[str, ...]


KINDS = (
    Kind("a job file", "docs/job-reference.md", ("job", "signals")),
    Kind("an agent configuration", "docs/agent.md", ("agent", "sources")),
    Kind("a coordinator configuration", "docs/coordinator.md", ("coordinator",)),
)


def mistaken(data: Table, info: inspect.Type) -> Fault | None:
    """The fault of ``data`` that it is another kind of file than ``info`` is the type of.

    None where it has a section of the right kind: then it is that kind, with a mistake in it.
    """
    wanted = next((kind for kind in KINDS if _has(kind, _names(info))), None)
    if wanted is None or _has(wanted, data):
        return None
    for kind in KINDS:
        if section := _has(kind, data):
            value = data[section]
            header = section_of((section, 0) if isinstance(value, list) else (section,))
            remedy = f"give {wanted.name}, see {wanted.page}"
            return Fault((section,), f"this is {kind.name}: it has {header}", remedy)
    return None


def _has(kind: Kind, names: Table | set[str]) -> str:
    """The first section of ``kind`` among ``names``, or nothing."""
    return next((section for section in kind.sections if section in names), "")


def _names(info: inspect.Type) -> set[str]:
    return {field.encode_name for struct in structs(info) for field in struct.fields}
