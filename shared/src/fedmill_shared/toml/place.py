# SPDX-License-Identifier: Apache-2.0
"""Which value of a decoded TOML text msgspec complains about, and what type it should have."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec
from msgspec import inspect

from fedmill_shared.toml.lines import Field
from fedmill_shared.toml.words import bare

Table = dict[str, object]
StillFails = Callable[[], bool]

_PATH = re.compile(r" - at `(key` in `)?\$((?:\.\w+|\[\d+\]|\[\.\.\.\])*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\[\.\.\.\]")


@dataclass(frozen=True, slots=True)
class Place:
    """A value, where it is, and the type it should have; ``is_key`` where only its name is bad."""

    field: Field
    value: object
    info: inspect.Type
    is_key: bool = False


def find(
    problem: msgspec.ValidationError, data: Table, info: inspect.Type, still_fails: StillFails
) -> Place:
    """The innermost place that ``problem`` names.

    Args:
        problem: what ``msgspec.convert`` raised about ``data``.
        data: what was converted; tables of free names in it are cut after the bad entry.
        info: the type that ``data`` should have.
        still_fails: whether converting ``data`` as it is now raises the same again.
    """
    place = Place((), data, info)
    match = _PATH.search(str(problem))
    if match is None:
        return place
    for step in _STEP.finditer(match[2]):
        deeper = _step(place, step, still_fails)
        if deeper is None:
            return place
        place = deeper
    kind = chosen(place.info, place.value)
    if match[1] and isinstance(place.value, dict) and isinstance(kind, inspect.DictType):
        name = _first_bad(place.value, still_fails)
        return Place((*place.field, name), name, kind.key_type, is_key=True)
    return place


def chosen(info: inspect.Type, value: object) -> inspect.Type:
    """The member of a union that ``value`` means; the union itself where that is open."""
    kind = bare(info)
    if not isinstance(kind, inspect.UnionType):
        return kind
    members = [bare(member) for member in kind.types]
    if isinstance(value, list):
        members = [m for m in members if isinstance(m, inspect.CollectionType | inspect.TupleType)]
    elif isinstance(value, dict):
        members = [m for m in members if isinstance(m, inspect.StructType | inspect.DictType)]
        if len(members) > 1:
            members = [m for m in members if _has_tag(m, value)]
    return members[0] if len(members) == 1 else kind


def structs(info: inspect.Type) -> Iterator[inspect.StructType]:
    """Every struct that ``info`` may stand for, also as the items of a list."""
    kind = bare(info)
    if isinstance(kind, inspect.StructType):
        yield kind
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from structs(member)
    elif isinstance(kind, inspect.CollectionType):
        yield from structs(kind.item_type)


def tag_of(info: inspect.Type) -> tuple[str, inspect.LiteralType] | None:
    """Name and allowed values of the field that tells the structs of ``info`` apart."""
    tagged = [struct for struct in structs(info) if struct.tag_field is not None]
    if not tagged:
        return None
    values = tuple(struct.tag for struct in tagged if struct.tag is not None)
    return str(tagged[0].tag_field), inspect.LiteralType(values)


def _step(place: Place, step: re.Match[str], still_fails: StillFails) -> Place | None:
    value = place.value
    if isinstance(value, dict):
        name = step[1] or _first_bad(value, still_fails)
        if name in value:
            return Place((*place.field, name), value[name], _inner(place, name))
    elif isinstance(value, list) and step[2]:
        index = int(step[2])
        return Place((*place.field, index), value[index], _inner(place, index))
    return None


def _inner(place: Place, part: str | int) -> inspect.Type:
    tag = tag_of(place.info)
    if tag is not None and part == tag[0]:
        return tag[1]
    kind = chosen(place.info, place.value)
    if isinstance(kind, inspect.StructType):
        fields = {field.encode_name: field.type for field in kind.fields}
        return fields.get(str(part), inspect.AnyType())
    if isinstance(kind, inspect.DictType):
        return kind.value_type
    if isinstance(kind, inspect.TupleType) and isinstance(part, int):
        return kind.item_types[part]
    return kind.item_type if isinstance(kind, inspect.CollectionType) else inspect.AnyType()


def _first_bad(table: Table, still_fails: StillFails) -> str:
    """First name in ``table`` that fails, by bisection: msgspec does not say; later ones go."""
    items = dict(table)
    good, bad = 0, len(items)  # the first `good` items pass, the first `bad` do not
    while bad - good > 1:
        middle = (good + bad) // 2
        _cut(table, items, middle)
        good, bad = (good, middle) if still_fails() else (middle, bad)
    _cut(table, items, bad)
    return list(items)[bad - 1]


def _cut(table: Table, items: Table, count: int) -> None:
    table.clear()
    table.update(islice(items.items(), count))


def _has_tag(member: inspect.Type, value: Table) -> bool:
    return (
        isinstance(member, inspect.StructType)
        and member.tag_field is not None
        and value.get(member.tag_field) == member.tag
    )
