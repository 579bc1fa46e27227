# SPDX-License-Identifier: Apache-2.0
"""What differs between two configurations of an agent, and what of it a running daemon can take."""

from collections.abc import Iterator, Sequence

from msgspec import Struct, structs, to_builtins

from fedmill_agent.config import AgentConfig

RESTART = frozenset(
    {
        "agent.id",
        "agent.state",
        "agent.jobs",
        "agent.log_level",
        "agent.audit_max_bytes",
        "broker.host",
        "broker.port",
        "broker.tls",
        "store.min_free_bytes",
        "inference.sparkplug",
    }
)
"""What is read once: who the agent is, where and what it writes, and whom it talks to."""
ANEW = ("agent.labels", "store", "inference", "training.enabled", "labels")
"""What a job is taken up anew for, as after a restart of the agent."""
SECTIONS = ("agent", "broker", "training", "store", "inference")
LISTS = ("sources", "labels")


class Change(Struct, frozen=True):
    """One difference.

    Attributes:
        field: as in ``training.nice`` or ``sources.press-4``.
        what: "changed", "added" or "removed".
        restart: whether it takes effect only when the agent is started again.
    """

    field: str
    what: str = "changed"
    restart: bool = False


def changes(old: AgentConfig, new: AgentConfig) -> list[Change]:
    """Every difference, in the order of the file's sections."""
    return [*_fields(old, new), *_entries(old, new)]


def adopted(old: AgentConfig, new: AgentConfig) -> AgentConfig:
    """``new``, but for what needs a restart: that stays as it is in ``old``."""
    kept: dict[str, dict[str, object]] = {}
    for name in RESTART:
        section, _, field = name.partition(".")
        kept.setdefault(section, {})[field] = getattr(getattr(old, section), field)
    sections = {
        section: structs.replace(getattr(new, section), **fields)
        for section, fields in kept.items()
    }
    return structs.replace(new, trust=old.trust, **sections)


def touches(found: Sequence[Change], *sections: str) -> bool:
    """Whether one of the changes that can be taken now is in one of ``sections``."""
    return any(
        each.field == section or each.field.startswith(f"{section}.")
        for each in found
        if not each.restart
        for section in sections
    )


def named(found: Sequence[Change], section: str) -> list[str]:
    """Names of the entries of the list ``section`` that changed."""
    return [
        each.field.removeprefix(f"{section}.")
        for each in found
        if each.field.startswith(f"{section}.")
    ]


def _fields(old: AgentConfig, new: AgentConfig) -> Iterator[Change]:
    for section in SECTIONS:
        before, after = getattr(old, section), getattr(new, section)
        for field in before.__struct_fields__:
            if getattr(before, field) != getattr(after, field):
                name = f"{section}.{field}"
                yield Change(name, restart=name in RESTART)
    if old.trust != new.trust:
        yield Change("trust", restart=True)


def _entries(old: AgentConfig, new: AgentConfig) -> Iterator[Change]:
    for name in LISTS:
        before, after = (
            {each.name: to_builtins(each) for each in getattr(config, name)}
            for config in (old, new)
        )
        for key in dict.fromkeys([*before, *after]):
            if key not in after:
                yield Change(f"{name}.{key}", "removed")
            elif key not in before:
                yield Change(f"{name}.{key}", "added")
            elif before[key] != after[key]:
                yield Change(f"{name}.{key}")
