# SPDX-License-Identifier: Apache-2.0
"""Options of a source that are given on the command line instead of in a configuration."""

from contextlib import suppress
from pathlib import Path

from msgspec import inspect

from fedmill_agent.sources import kinds
from fedmill_agent.sources.base import SourceOptions
from fedmill_shared.errors import UsageError
from fedmill_shared.toml import fit
from fedmill_shared.toml.faults import Fault, section_of
from fedmill_shared.toml.place import structs
from fedmill_shared.toml.words import bare

ELSEWHERE = {
    "kind": "give --kind",
    "name": "it is the name of the file",
    "path": "give the recording itself",
    "tags": "give --tag SIGNAL=TAG",
    "units": "give --unit SIGNAL=UNIT",
}
"""Options that ``--set`` does not give, and what does."""

_WORDS = {"true": True, "false": False}


def file_kinds() -> list[str]:
    """The kinds of source that read one file.

    Raises:
        ConfigError: an installed package brings a kind that cannot be used.
    """
    found = kinds().items()
    return sorted(name for name, kind in found if "path" in kind.options.__struct_fields__)


def pairs(option: str, settings: list[str], example: str) -> dict[str, str]:
    """``["force=lbf"]``, all of them given with ``option``, as a mapping.

    Raises:
        UsageError: there is no equals sign in one of them.
    """
    for setting in settings:
        if "=" not in setting:
            problem = "there is no equals sign in it"
            raise UsageError(f"{option} {setting!r}: {problem}", remedy=f"write it like {example}")
    return {name: value for name, _, value in (setting.partition("=") for setting in settings)}


def file_source(kind: str, path: Path, settings: list[str]) -> SourceOptions:
    """Options of a source of ``kind`` that reads ``path``, with ``--set`` settings OPTION=VALUE.

    Raises:
        UsageError: naming option, value and what is allowed.
    """
    schema = kinds()[kind].options
    info = inspect.type_info(schema)
    types = {field.encode_name: field.type for struct in structs(info) for field in struct.fields}
    data: dict[str, object] = {"kind": kind, "name": path.name, "path": str(path)}
    for name, value in pairs("--set", settings, "rate_hz=48000").items():
        if name in ELSEWHERE:
            raise UsageError(f"--set {name}={value}: it is not given so", remedy=ELSEWHERE[name])
        data[name] = _typed(value, types.get(name, inspect.AnyType()))
    found = fit(data, schema, strict=False)
    if isinstance(found, Fault):
        message = found.message.replace(section_of(()), f"a {kind} source", 1)
        raise UsageError(f"--set{'' if found.field else ':'} {message}", remedy=found.remedy)
    return found


def _typed(value: str, info: inspect.Type) -> object:
    """``value`` as TOML would have it in a field of this type; as it is where it does not fit."""
    match bare(info):
        case inspect.CollectionType(item_type=item):
            parts = value.strip(" []").split(",")
            return [_typed(part.strip(), item) for part in parts if part.strip()]
        case inspect.BoolType():
            return _WORDS.get(value, value)
        case inspect.IntType() | inspect.FloatType():
            for number in (int, float):
                with suppress(ValueError):
                    return number(value)
    return value
