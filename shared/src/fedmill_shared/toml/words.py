# SPDX-License-Identifier: Apache-2.0
"""Types and values in the words of a person who edits a TOML file."""

import datetime as dt
import json
import re

from msgspec import inspect

_CHARACTER_SET = re.compile(r"\^\[([^\[\]\\^]+)\]\{(\d+),(\d+)\}(?:\$|\\Z)")
_RANGE = re.compile(r".-.|.")
_ALL_BUT = re.compile(r"\^\[\^((?:[^\[\]\\^]|\\x00)+)\](?:[*+]|\{(\d+),(\d+)\})\\Z")
_LONGEST_VALUE = 60
_PLAIN: dict[type[inspect.Type], str] = {
    inspect.AnyType: "any value",
    inspect.BoolType: "true or false",
    inspect.DateTimeType: "a date and time",
    inspect.DateType: "a date",
    inspect.TimeType: "a time of day",
}


def bare(info: inspect.Type) -> inspect.Type:
    """``info`` without the descriptions wrapped around it."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info


def description(info: inspect.Type) -> str:
    """The description of a field's type, or nothing."""
    while isinstance(info, inspect.Metadata):
        if text := (info.extra_json_schema or {}).get("description"):
            return str(text)
        info = info.type
    return ""


def words(info: inspect.Type) -> str:
    """What a field of this type accepts: "an integer of at least 1 and at most 1048576"."""
    match bare(info):
        case inspect.LiteralType(values=values):
            text = one_of(values)
        case inspect.IntType() as integer:
            text = f"an integer{_bounds(integer)}"
        case inspect.FloatType() as number:
            text = f"a number{_bounds(number)}"
        case inspect.StrType() as string:
            text = _text(string)
        case inspect.CollectionType(item_type=item) as items:
            count = _count(items.min_length, items.max_length, "items")
            text = f"a list{count}, each {words(item)}"
        case inspect.TupleType(item_types=parts):
            text = f"a list of {', then '.join(map(words, parts))}"
        case inspect.DictType(value_type=value):
            text = f"a table whose values are each {words(value)}"
        case inspect.UnionType(types=options):
            choices = [words(option) for option in options if option != inspect.NoneType()]
            text = " or ".join(dict.fromkeys(choices))
        case other:
            text = _PLAIN.get(type(other), "a table")
    return text


def one_of(values: tuple[str | int | None, ...]) -> str:
    """Literal values as a choice: ``"a", "b" or "c"``."""
    names = [show(value) for value in values]
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def show(value: object) -> str:
    """``value`` much as TOML writes it, cut after 60 characters."""
    if isinstance(value, float):
        return repr(value)  # TOML, unlike JSON, has nan and inf
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, dt.date | dt.time):
        return str(value)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "a list of tables"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    pairs = (
        ("greater than", info.gt),
        ("of at least", info.ge),
        ("below", info.lt),
        ("at most", info.le),
    )
    parts = [f"{phrase} {_number(bound)}" for phrase, bound in pairs if bound is not None]
    return f" {' and '.join(parts)}" if parts else ""


def _number(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else repr(bound)


def _text(info: inspect.StrType) -> str:
    if info.pattern and (match := _CHARACTER_SET.fullmatch(info.pattern)):
        characters, least, most = match.groups()
        return f"text of {least} to {most} characters: {' '.join(_RANGE.findall(characters))}"
    if info.pattern and (match := _ALL_BUT.fullmatch(info.pattern)):
        characters, least, most = match.groups()
        lengths = (int(least), int(most)) if most else (info.min_length, info.max_length)
        without = " ".join(characters.replace(r"\x00", ""))
        return f"text{_count(*lengths, 'characters')} without {without}"
    if info.pattern:
        return f"text that matches {info.pattern}"
    return f"text{_count(info.min_length, info.max_length, 'characters')}"


def _count(least: int | None, most: int | None, things: str) -> str:
    if least and least == most:
        return f" of exactly {least} {things}"
    if least and most:
        return f" of {least} to {most} {things}"
    if least:
        return f" of at least {least} {things}"
    return f" of at most {most} {things}" if most else ""
