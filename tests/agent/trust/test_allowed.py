# SPDX-License-Identifier: Apache-2.0
"""The table of what may be changed from afar, held against every field that an agent has."""

from typing import Any

import msgspec
import pytest
from msgspec import structs

from fedmill_agent.config import AgentConfig
from fedmill_agent.sources import kinds, options_type
from fedmill_shared.errors import ConfigError
from fedmill_shared.overlay import SourceOverlay, read_overlay

ALLOWED = {
    "agent": {"jobs", "log_level"},
    "training": {
        "enabled",
        "idle_seconds",
        "timeout_seconds",
        "nice",
        "max_cpu_percent",
        "min_free_bytes",
        "max_temperature_celsius",
        "max_pressure_percent",
        "shifts",
    },
    "inference": {"deadline_seconds", "batch", "int8"},
}
SOURCE = {"interval_seconds", "hold_seconds", "timeout_seconds"}
VALUES = ("1", '"x"', "true", "[]", '"off"', '"debug"')
"""Texts of which each allowed field takes one."""


def sections() -> dict[str, Any]:
    """Each section of an agent's file with its type; sources and labels are lists."""
    found = {}
    for field in structs.fields(AgentConfig):
        types = getattr(field.type, "__args__", (field.type,))
        (section,) = [each for each in types if each is not type(None)]
        if isinstance(section, type) and issubclass(section, msgspec.Struct):
            found[field.name] = section
    return found


FIELDS = [
    (section, field.name)
    for section, made in sections().items()
    if section not in ("sources", "labels")
    for field in structs.fields(made)
]


def taken(text: str) -> bool:
    """Whether this may be said from afar."""
    try:
        read_overlay(text, "config/all.toml")
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_a_field_is_taken_if_the_table_says_so(section: str, field: str) -> None:
    """One that somebody adds to the agent is refused until it is put into the table."""
    may = field in ALLOWED.get(section, set())
    assert any(taken(f"[{section}]\n{field} = {value}") for value in VALUES) is may


def test_the_table_names_fields_that_there_are() -> None:
    """Nothing is allowed that an agent does not know."""
    known = {(section, field) for section, field in FIELDS}
    allowed = {(section, field) for section, fields in ALLOWED.items() for field in fields}
    assert allowed <= known


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_of_a_source_only_times_are_taken(kind: str) -> None:
    """No address, credential or path of any kind of source."""
    made = options_type([kind])
    types = getattr(made, "__args__", (made,))
    names = {field.name for each in types for field in structs.fields(each)}
    for name in sorted(names - SOURCE):
        assert not any(taken(f"[sources.plc]\n{name} = {value}") for value in VALUES), name


def test_of_a_source_these_times_are_taken() -> None:
    """Each by its name."""
    assert {field.name for field in structs.fields(SourceOverlay)} == SOURCE
    for name in SOURCE:
        assert taken(f"[sources.plc]\n{name} = 2.5")


@pytest.mark.parametrize(
    "text",
    [
        "[training]\nnice = '5'",
        "[training]\nenabled = 1",
        "[agent]\nlog_level = 'all'",
        "[inference]\nint8 = 'always'",
        "[inference]\nbatch = 1.5",
        "[sources.plc]\nhold_seconds = '1'",
        "[sources]\nplc = 1",
        "training = 1",
        "[training.more]\nx = 1",
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_is_allowed(text: str) -> None:
    """Before anything is signed."""
    with pytest.raises(ConfigError, match="from afar only rates, thresholds, shifts"):
        read_overlay(text, "config/all.toml")
