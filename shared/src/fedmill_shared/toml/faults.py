# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a decoded TOML text, and what to write instead.

msgspec says where a value does not fit; the type and the value there say the rest.
"""

import math
import re
from dataclasses import dataclass

import msgspec
from msgspec import inspect

from fedmill_shared.nearest import nearest
from fedmill_shared.toml.lines import Field
from fedmill_shared.toml.place import Place, StillFails, Table, chosen, find, structs, tag_of
from fedmill_shared.toml.words import bare, description, show, words

DEEPEST = 32
"""Most tables in tables, and parts of one dotted name."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one field: a sentence about it, and the next action."""

    field: Field
    message: str
    remedy: str = ""


def name_of(field: Field) -> str:
    """A field as people say it: ``signals[2].unit``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in field)
    return "".join(parts).removeprefix(".")


def value_fault(field: Field, value: object, problem: str, remedy: str) -> Fault:
    """The fault of a ``field`` whose ``value`` is of the right type and still cannot be."""
    return Fault(field, f"{name_of(field)} is {show(value)}: {problem}", remedy)


def section_of(field: Field) -> str:
    """The header above the fields of a table: ``[window]``, ``[[signals]]``."""
    if not field:
        return "the file"
    header = ".".join(_quoted(part) for part in field if isinstance(part, str))
    return f"[[{header}]]" if isinstance(field[-1], int) else f"[{header}]"


def extreme(data: Table) -> Fault | None:
    """A number that is not finite or over 64 bits, or tables in tables without end.

    No field of ours wants one, and what comes later may count on it.
    """
    waiting: list[tuple[Field, Table | list[object]]] = [((), data)]
    while waiting:
        field, table = waiting.pop()
        if len(field) > DEEPEST:
            return Fault(field[:1], f"{name_of(field[:1])} is nested too deeply", "flatten it")
        for part, value in table.items() if isinstance(table, dict) else enumerate(table):
            if isinstance(value, dict | list):
                waiting.append(((*field, part), value))
            elif _is_extreme(value):
                where = (*field, part)
                message = f"{name_of(where)} is {show(value)}: expected a finite 64-bit number"
                return Fault(where, message, "write an ordinary number")
    return None


def explain(
    problem: msgspec.ValidationError, data: Table, info: inspect.Type, still_fails: StillFails
) -> Fault:
    """The fault that msgspec reports as ``problem``; the arguments are those of `place.find`."""
    place = find(problem, data, info, still_fails)
    kind = chosen(place.info, place.value)
    if place.is_key:
        message = f"{section_of(place.field[:-1])} has the name {show(place.value)}"
        return Fault(place.field, f"{message}: expected {words(kind)}")
    if isinstance(place.value, dict):
        fault = _unknown(place, place.value, kind, info) or _missing(place, place.value, kind)
        if fault is not None:
            return fault
        if isinstance(kind, inspect.StructType):  # a rule of the type's own
            said = str(problem).partition(" - at `")[0]
            return Fault(place.field, f"{section_of(place.field)}: {said}")
    message = f"{name_of(place.field)} is {show(place.value)}: expected {words(kind)}"
    return Fault(place.field, message, _hint(place.value, kind) or _purpose(place.info))


def _unknown(place: Place, table: Table, kind: inspect.Type, top: inspect.Type) -> Fault | None:
    if not isinstance(kind, inspect.StructType) or not kind.forbid_unknown_fields:
        return None
    names = _names(kind)
    unknown = next((name for name in table if name not in names), None)
    if unknown is None:
        return None
    field = (*place.field, unknown)
    section = section_of(place.field)
    message = f"{name_of(field)} is unknown: {section} has {', '.join(sorted(names))}"
    if near := nearest(unknown, names):
        return Fault(field, message, f"did you mean {near}?")
    return Fault(field, message, _home(unknown, top) or "remove it")


def _home(name: str, top: inspect.Type) -> str:
    """The section of the file that is called ``name``, or knows such a field."""
    for section in (field for struct in structs(top) for field in struct.fields):
        is_list = isinstance(bare(section.type), inspect.CollectionType)
        header = section_of((section.encode_name, 0)[: 1 + is_list])
        if section.encode_name == name:
            return f"make it a section {header}"
        for inner in structs(section.type):
            if name in _names(inner):
                tagged = f' with {inner.tag_field} = "{inner.tag}"' if inner.tag_field else ""
                return f"move it below {header}{tagged}"
    return ""


def _missing(place: Place, table: Table, kind: inspect.Type) -> Fault | None:
    tag = tag_of(kind)
    needed: list[tuple[str, inspect.Type]] = []
    if tag and isinstance(kind, inspect.UnionType):
        needed = [tag]
    elif isinstance(kind, inspect.StructType):
        needed = [(field.encode_name, field.type) for field in kind.fields if field.required]
    for name, info in needed:
        if name not in table:
            return _missing_field(place.field, name, info)
    return None


def _missing_field(field: Field, name: str, info: inspect.Type) -> Fault:
    inner = next(structs(info), None)
    if inner is None:
        message = f"{section_of(field)} has no {name}: expected {words(info)}"
        return Fault(field, message, _purpose(info) or f"add {name} = ...")
    is_list = isinstance(bare(info), inspect.CollectionType)
    header = section_of((*field, name, 0) if is_list else (*field, name))
    required = ", ".join(f.encode_name for f in inner.fields if f.required)
    remedy = f"add {header} with {required}" if required else f"add {header}"
    return Fault(field, f"{section_of(field)} has no {header}", remedy)


def _hint(value: object, kind: inspect.Type) -> str:
    """What the person probably meant."""
    hint = ""
    match kind, value:
        case inspect.LiteralType(values=values), str():
            near = nearest(value.lower(), [str(v) for v in values])
            hint = f"did you mean {show(near)}?" if near else ""
        case inspect.IntType() | inspect.FloatType(), str() if _NUMBER.fullmatch(value):
            hint = f"write {value} without quotes"
        case inspect.IntType(), float() if value.is_integer():
            hint = f"write {int(value)} without a decimal point"
        case inspect.BoolType(), _:
            hint = "write true or false, in small letters and without quotes"
        case inspect.StrType(), bool() | int() | float():
            hint = f'write it in quotes: "{show(value)}"'
        case inspect.CollectionType(), str() | int() | float():
            hint = f"write it in brackets: [{show(value)}]"
        case inspect.StructType(), [dict(), *_]:
            hint = "write its header in single brackets"
        case inspect.CollectionType(item_type=item), dict() if next(structs(item), None):
            hint = "write its header in double brackets"
    return hint


def _purpose(info: inspect.Type) -> str:
    return description(info).removesuffix(".")


def _names(struct: inspect.StructType) -> list[str]:
    tag = [struct.tag_field] if struct.tag_field is not None else []
    return tag + [field.encode_name for field in struct.fields]


def _is_extreme(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _quoted(part: str) -> str:
    return part if _BARE_KEY.fullmatch(part) else show(part)
